"""What the contract asks of every task, whoever wrote it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache, cached_property

import torch
from torch import Generator, Tensor

from aebench.contracts import (
    Autoencoder,
    AutoencoderRecord,
    Capability,
    Context,
    Evaluation,
    ImageDataset,
    Params,
    Skip,
    Split,
    TaskRecord,
)
from aebench.evaluation.rendering import render
from aebench.networks import DenseDecoder, DenseEncoder, sample_standard_normal
from aebench.planning.config import DEFAULT_PROFILES, Profile
from aebench.testing.checks import check, expect
from aebench.testing.parameters import reject_unknown_keys
from aebench.testing.surroundings import (
    nothing_left_behind,
    scrambled_randomness,
    small_digits,
    small_reference_classifier,
    unchanged_randomness,
)
from aebench.training.trainer import fit

SOME_PROFILE = Profile(latent_dim=20, held_out=1)  # for a task whose profile is its user's
EPOCHS = 3


class _Guinea(Autoencoder):
    """The plain deep autoencoder, which can also sample: what a task is tried on."""

    def __init__(self, input_shape: tuple[int, int, int], latent_dim: int, params: Params) -> None:
        super().__init__(
            input_shape, latent_dim, DenseEncoder(input_shape, latent_dim), DenseDecoder(latent_dim, input_shape)
        )

    def sample(self, n: int, generator: Generator) -> Tensor:
        return sample_standard_normal(self, n, generator)


GUINEA = AutoencoderRecord(
    name="plain",
    title="Plain",
    summary="what tasks are tried on",
    build=_Guinea,
    capabilities=frozenset({Capability.SAMPLE}),
)


@dataclass(frozen=True)
class TaskUnderTest:
    """A task on trial, with default parameters."""

    record: TaskRecord

    @property
    def profile(self) -> Profile:
        return DEFAULT_PROFILES.get(self.record.profile, SOME_PROFILE)

    @property
    def held_out(self) -> int | None:
        assert self.profile.held_out is None or isinstance(self.profile.held_out, int)
        return self.profile.held_out

    @cached_property
    def data(self) -> ImageDataset:
        return _data(self.held_out)

    def models(self) -> Iterator[tuple[str, Autoencoder]]:
        """A trained model and one fresh from its initialisation."""
        yield "a trained model", self.model(EPOCHS)
        yield "an untrained model", self.model(0)

    def model(self, epochs: int) -> Autoencoder:
        return _model(self.profile.latent_dim, self.held_out, epochs)

    def context(self) -> Context:
        return Context(
            params=self.record.params(),
            device=torch.device("cpu"),
            seed=1,
            held_out=self.held_out,
            fresh_model=lambda: _built(self.profile.latent_dim),
            reference_classifier=small_reference_classifier() if self.record.needs_reference_classifier else None,
        )

    def evaluate(self, model: Autoencoder) -> Evaluation:
        return self.record.evaluate(model, self.data, self.context())


@cache
def _data(held_out: int | None) -> ImageDataset:
    return small_digits() if held_out is None else small_digits().without_class(held_out)


def _built(latent_dim: int) -> Autoencoder:
    with scrambled_randomness(0):
        return GUINEA.build(small_digits().info.input_shape, latent_dim, GUINEA.params())


@cache
def _model(latent_dim: int, held_out: int | None, epochs: int) -> Autoencoder:
    model = _built(latent_dim)
    if epochs:
        fit(
            model,
            _data(held_out),
            epochs=epochs,
            batch_size=64,
            learning_rate=1e-3,
            batches=Generator().manual_seed(1),
            noise=Generator().manual_seed(2),
        )
    return model.eval().requires_grad_(False)


@check("aebench.contracts.Evaluation")
def metrics_are_those_declared(subject: TaskUnderTest) -> int:
    """Exactly the declared metrics are returned, as finite numbers; an absent one says why."""
    declared = {metric.name for metric in subject.record.metrics}
    looked_at = 0
    for case, model in subject.models():
        evaluation = subject.evaluate(model)
        metrics, absent = evaluation.metrics, evaluation.absent
        for name, reason in absent.items():
            expect(reason.strip(), f"a reason why '{name}' is absent", f"{case}: it is empty")
            expect(name not in metrics, f"'{name}' to have a value or be absent", f"{case}: it is both")
        for name in sorted({*metrics, *absent} - declared):
            expect(False, "only declared metrics", f"{case}: it returned '{name}', which is not declared")
        for name in sorted(declared - {*metrics, *absent}):
            expect(False, "all declared metrics", f"{case}: it neither returned '{name}' nor said why not")
        for name, value in metrics.items():
            finite = isinstance(value, (int, float)) and math.isfinite(value)
            expect(finite, f"'{name}' to be a finite number", f"{case}: it is {value!r} ({type(value).__name__})")
            looked_at += 1
    return looked_at


@check("aebench.contracts.Metric")
def metrics_are_described(subject: TaskUnderTest) -> int:
    """Every metric has a title beyond its name, and the task is described."""
    for metric in subject.record.metrics:
        expect(metric.title.strip(), "a title for people", f"that of '{metric.name}' is empty")
        expect(
            isinstance(metric.higher_is_better, bool),
            "a direction: higher_is_better True or False",
            f"that of '{metric.name}' is {metric.higher_is_better!r}",
        )
        expect(isinstance(metric.unit, str), "a unit, or ''", f"that of '{metric.name}' is {metric.unit!r}")
    for name in ("title", "summary"):
        expect(getattr(subject.record, name).strip(), f"a {name}", "it is empty")
    return len(subject.record.metrics)


@check("aebench.contracts.Context")
def evaluation_is_deterministic(subject: TaskUnderTest) -> int:
    """The same model, data and seed give the same numbers and pictures, whatever the global generators are at."""
    looked_at = 0
    for case, model in subject.models():
        results = []
        for seed in (1, 2):
            with scrambled_randomness(seed):
                evaluation = subject.evaluate(model)
            results.append((dict(evaluation.metrics), render(evaluation)))
        (metrics, files), (again, files_again) = results
        changed = [name for name in metrics if metrics[name] != again.get(name)]
        expect(not changed, "the same metrics twice", f"{case}: {', '.join(changed)} differ")
        changed = [name for name in files if files[name] != files_again.get(name)]
        expect(not changed, "the same pictures twice", f"{case}: {', '.join(changed)} differ")
        looked_at += len(metrics) + len(files)
    return looked_at


@check("aebench.contracts.Context")
def global_randomness_is_left_alone(subject: TaskUnderTest) -> int:
    """Nothing draws from a global generator of Python, NumPy or PyTorch."""
    looked_at = 0
    for case, model in subject.models():
        with unchanged_randomness(case):
            subject.evaluate(model)
        looked_at += 1
    return looked_at


@check("aebench.contracts.TaskRecord")
def model_and_data_are_left_alone(subject: TaskUnderTest) -> int:
    """The model's weights and mode and the images are the same after the evaluation."""
    looked_at = 0
    for case, model in subject.models():
        weights = {name: value.clone() for name, value in model.state_dict().items()}
        splits = {name: getattr(subject.data, name) for name in ("train", "validation", "test")}
        images = {name: split.images.clone() for name, split in splits.items()}
        subject.evaluate(model)
        changed = [name for name, value in model.state_dict().items() if not torch.equal(value, weights[name])]
        expect(not changed, "the weights to stay", f"{case}: {', '.join(changed)} changed")
        expect(not model.training, "the model to stay in evaluation mode", f"{case}: it is in training mode")
        changed = [name for name, split in splits.items() if not torch.equal(split.images, images[name])]
        expect(not changed, "the images to stay", f"{case}: the {', '.join(changed)} split changed")
        looked_at += 1
    return looked_at


@check("aebench.contracts.TaskRecord")
def nothing_is_left_behind(subject: TaskUnderTest) -> int:
    """Nothing is printed, written to disk, or left open in pyplot: a task only returns values."""
    looked_at = 0
    for case, model in subject.models():
        with nothing_left_behind(case):
            subject.evaluate(model)
        looked_at += 1
    return looked_at


@check("aebench.contracts.Evaluation")
def pictures_can_be_drawn(subject: TaskUnderTest) -> int:
    """What is returned beside the metrics becomes files; a task without pictures has at least its metrics."""
    looked_at = 0
    for case, model in subject.models():
        evaluation = subject.evaluate(model)
        for name, content in render(evaluation).items():
            expect(content, "a picture", f"{case}: {name} is empty")
            looked_at += 1
        looked_at += len(evaluation.metrics)
    return looked_at


@check("aebench.contracts.Skip")
def what_cannot_be_asked_is_skipped(subject: TaskUnderTest) -> int:
    """Data without labels and models without capabilities are either skipped with a reason or evaluated."""
    record, data = subject.record, subject.data
    train, validation, test = (Split(split.images) for split in (data.train, data.validation, data.test))
    unlabelled = replace(data, classes=(), train=train, validation=validation, test=test)
    modest = GUINEA.model_copy(update={"capabilities": frozenset()})
    for model in (GUINEA, modest):
        for case, info in (("labelled", data.info), ("unlabelled", unlabelled.info)):
            answer = record.supports(model, info)
            given = answer is None or (isinstance(answer, Skip) and bool(answer.reason.strip()))
            expect(given, "supports to return None or a Skip with a reason", f"{case} data: {answer!r}")
    if (
        record.supports(GUINEA, unlabelled.info) is None and subject.held_out is None
    ):  # nothing can be held out of unlabelled data
        record.evaluate(subject.model(EPOCHS), unlabelled, replace(subject.context(), reference_classifier=None))
    return 4


@check("aebench.contracts.Params")
def parameters_are_checked(subject: TaskUnderTest) -> int:
    """The params model has defaults for all its fields and rejects unknown keys."""
    return reject_unknown_keys(subject.record.params, need_defaults=True)


CHECKS = (
    metrics_are_those_declared,
    metrics_are_described,
    evaluation_is_deterministic,
    global_randomness_is_left_alone,
    model_and_data_are_left_alone,
    nothing_is_left_behind,
    pictures_can_be_drawn,
    what_cannot_be_asked_is_skipped,
    parameters_are_checked,
)
