"""The checks of every model, in the order in which they run."""

from __future__ import annotations

from aebench.testing.autoencoder_checks import evaluation, randomness, registration, state, training
from aebench.testing.tiny_matrix import runs_through_every_task

CHECKS = (
    evaluation.shapes_and_dtypes,
    evaluation.batch_independence,
    evaluation.deterministic_evaluation,
    randomness.seeded_stochasticity,
    training.finite_loss,
    evaluation.large_codes,
    training.gradient_reaches_every_parameter,
    training.updates_train_only_what_they_name,
    training.on_epoch_keeps_shapes,
    training.stages_keep_to_the_budget,
    training.training_lowers_the_loss,
    state.loading_restores_the_model,
    state.unmodified_inputs,
    randomness.no_global_generators,
    training.stateless_training_step,
    state.runs_on_other_devices,
    registration.declared_capabilities,
    registration.reconstructs_through_its_backbone,
    registration.strict_parameters,
    runs_through_every_task,
)
