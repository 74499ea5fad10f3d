"""The checks of every task, in the order in which they run."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache, cached_property

import torch
from torch import Generator, Tensor

from aebench.contracts import (
    Autoencoder,
    AutoencoderRecord,
    Bernoulli,
    Capability,
    Context,
    Evaluation,
    ImageDataset,
    ModelSpec,
    Params,
    SamplerRecord,
    Skip,
    Split,
    TaskRecord,
)
from aebench.evaluation.rendering import render
from aebench.evaluation.unchanged import DataState, ModuleState
from aebench.networks import DENSE, sample_standard_normal
from aebench.planning.config import DEFAULT_PROFILES, Profile
from aebench.registry.loading import create_registry
from aebench.testing.checks import check, expect
from aebench.testing.parameters import reject_unknown_keys
from aebench.testing.side_effects import no_global_randomness, no_leftovers, seeded_global_generators
from aebench.testing.small_digits import small_digits, small_reference_classifier
from aebench.training.fitting import fit
from aebench.training.optimizers import adam
from aebench.training.records import Budget

CUSTOM_PROFILE = Profile(latent_dim=20, held_out=1)  # for a task that names a profile of the user's configuration
EPOCHS = 3


class ReferenceModel(Autoencoder):
    """The deep autoencoder with a standard normal prior; the checks evaluate a task on it."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec, spec.encoder(spec.latent_dim), spec.decoder())

    def sample(self, n: int, generator: Generator) -> Tensor:
        return sample_standard_normal(self, n, generator)


REFERENCE_RECORD = AutoencoderRecord(
    name="reference_model",
    title="Reference model",
    summary="the model that the checks evaluate tasks on",
    build=ReferenceModel,
    capabilities=frozenset({Capability.SAMPLE}),
)


@dataclass(frozen=True)
class TaskUnderTest:
    """A registered task with its default parameters."""

    record: TaskRecord

    @property
    def profile(self) -> Profile:
        return DEFAULT_PROFILES.get(self.record.profile, CUSTOM_PROFILE)

    @property
    def held_out(self) -> int | None:
        assert self.profile.held_out is None or isinstance(self.profile.held_out, int)
        return self.profile.held_out

    @cached_property
    def data(self) -> ImageDataset:
        return _data(self.held_out)

    def models(self) -> Iterator[tuple[str, Autoencoder]]:
        """A trained and an untrained reference model, frozen and in evaluation mode."""
        yield "a trained model", self.model(EPOCHS)
        yield "an untrained model", self.model(0)

    def model(self, epochs: int) -> Autoencoder:
        """A copy of its own of the reference model, so that no evaluation can change another one's."""
        return copy.deepcopy(_trained(self.profile.latent_dim, self.held_out, epochs))

    def context(self) -> Context:
        return Context(
            params=self.record.params(),
            device=torch.device("cpu"),
            seed=1,
            held_out=self.held_out,
            fresh_model=lambda: _build(self.profile.latent_dim),
            adam=adam,
            reference_classifier=small_reference_classifier() if self.record.needs_reference_classifier else None,
            samplers=_samplers(self.record.samplers(self.record.params())),
        )

    def evaluate(self, model: Autoencoder, data: ImageDataset | None = None) -> Evaluation:
        with torch.no_grad():
            return self.record.evaluate(model, data or self.data, self.context())


@cache
def _samplers(names: tuple[str, ...]) -> dict[str, SamplerRecord | Skip]:
    """The installed samplers of these names, or why the reference model has no such samples."""
    return create_registry().samplers_for(REFERENCE_RECORD, names)


@cache
def _data(held_out: int | None) -> ImageDataset:
    return small_digits() if held_out is None else small_digits().without_class(held_out)


def _build(latent_dim: int) -> Autoencoder:
    with seeded_global_generators(0):
        spec = ModelSpec(small_digits().info.input_shape, latent_dim, Params(), DENSE, Bernoulli())
        return REFERENCE_RECORD.build(spec)


@cache
def _trained(latent_dim: int, held_out: int | None, epochs: int) -> Autoencoder:
    model = _build(latent_dim)
    if epochs:
        fit(
            model,
            _data(held_out),
            Budget(epochs, batch_size=64),
            batches=Generator().manual_seed(1),
            noise=Generator().manual_seed(2),
        )
    return model.eval().requires_grad_(False)


@check("aebench.contracts.Evaluation")
def declared_metrics(subject: TaskUnderTest) -> int:
    """Exactly the declared metrics are returned, as finite numbers; a metric that is absent has a reason."""
    declared = {metric.name for metric in subject.record.metrics}
    checked = 0
    for case, model in subject.models():
        evaluation = subject.evaluate(model)
        metrics, absent = evaluation.metrics, evaluation.absent
        for name, reason in absent.items():
            expect(reason.strip(), f"a reason why '{name}' is absent", f"{case}: it is empty")
            expect(name not in metrics, f"'{name}' to have a value or be absent", f"{case}: it is both")
        for name in sorted({*metrics, *absent} - declared):
            expect(False, "only declared metrics", f"{case}: it returned '{name}', which is not declared")
        for name in sorted(declared - {*metrics, *absent}):
            expect(False, "all declared metrics", f"{case}: it returned neither '{name}' nor a reason for its absence")
        for name, value in metrics.items():
            finite = isinstance(value, (int, float)) and math.isfinite(value)
            expect(finite, f"'{name}' to be a finite number", f"{case}: it is {value!r} ({type(value).__name__})")
            checked += 1
    return checked


@check("aebench.contracts.Metric")
def described_metrics(subject: TaskUnderTest) -> int:
    """Every metric has a title beyond its name, and the task is described."""
    for metric in subject.record.metrics:
        expect(metric.title.strip(), "a title", f"that of '{metric.name}' is empty")
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
def deterministic_evaluation(subject: TaskUnderTest) -> int:
    """The same model, data and seed give the same numbers and pictures, for any state of the global generators."""
    checked = 0
    for case, model in subject.models():
        results = []
        for seed in (1, 2):
            with seeded_global_generators(seed):
                evaluation = subject.evaluate(model)
            results.append((dict(evaluation.metrics), render(evaluation)))
        (metrics, files), (again, files_again) = results
        changed = [name for name in metrics if metrics[name] != again.get(name)]
        expect(not changed, "the same metrics from two evaluations", f"{case}: {', '.join(changed)} differ")
        changed = [name for name in files if files[name] != files_again.get(name)]
        expect(not changed, "the same pictures from two evaluations", f"{case}: {', '.join(changed)} differ")
        checked += len(metrics) + len(files)
    return checked


@check("aebench.contracts.Context")
def no_global_generators(subject: TaskUnderTest) -> int:
    """Nothing draws from a global generator of Python, NumPy or PyTorch."""
    checked = 0
    for case, model in subject.models():
        with no_global_randomness(case):
            subject.evaluate(model)
        checked += 1
    return checked


@check("aebench.contracts.TaskRecord")
def unmodified_model_and_data(subject: TaskUnderTest) -> int:
    """The evaluation changes neither the model's weights nor its mode nor the images."""
    checked = 0
    for case, model in subject.models():
        data = copy.deepcopy(subject.data)  # the other checks get the original
        of_model, of_data = ModuleState(model), DataState(data)
        subject.evaluate(model, data)
        changed = [f"the model's {what}" for what in of_model.changed()] + of_data.changed()
        expect(not changed, "an unchanged model and unchanged data", f"{case}: {', '.join(changed)} changed")
        checked += 1
    return checked


@check("aebench.contracts.TaskRecord")
def no_side_effects(subject: TaskUnderTest) -> int:
    """A task returns values; it prints nothing, writes no files and leaves no pyplot figures open."""
    checked = 0
    for case, model in subject.models():
        with no_leftovers(case):
            subject.evaluate(model)
        checked += 1
    return checked


@check("aebench.contracts.Evaluation")
def renderable_pictures(subject: TaskUnderTest) -> int:
    """Images, figures and tables can be written to files; a task without any has at least its metrics."""
    checked = 0
    for case, model in subject.models():
        evaluation = subject.evaluate(model)
        for name, content in render(evaluation).items():
            expect(content, "a picture", f"{case}: {name} is empty")
            checked += 1
        checked += len(evaluation.metrics)
    return checked


@check("aebench.contracts.Skip")
def skipped_or_evaluated(subject: TaskUnderTest) -> int:
    """Data without labels and models without capabilities are evaluated, or skipped with a reason."""
    record, data = subject.record, subject.data
    train, validation, test = (Split(split.images) for split in (data.train, data.validation, data.test))
    unlabelled = replace(data, classes=(), train=train, validation=validation, test=test)
    without_capabilities = REFERENCE_RECORD.model_copy(update={"capabilities": frozenset()})
    for model in (REFERENCE_RECORD, without_capabilities):
        for case, info in (("labelled", data.info), ("unlabelled", unlabelled.info)):
            answer = record.supports(model, info)
            valid = answer is None or (isinstance(answer, Skip) and bool(answer.reason.strip()))
            expect(valid, "supports to return None or a Skip with a reason", f"{case} data: {answer!r}")
    # Without labels no class can be held out.
    if subject.held_out is None and record.supports(REFERENCE_RECORD, unlabelled.info) is None:
        record.evaluate(subject.model(EPOCHS), unlabelled, replace(subject.context(), reference_classifier=None))
    return 4


@check("aebench.contracts.Params")
def strict_parameters(subject: TaskUnderTest) -> int:
    """The params model has defaults for all its fields and rejects unknown keys."""
    return reject_unknown_keys(subject.record.params, need_defaults=True)


CHECKS = (
    declared_metrics,
    described_metrics,
    deterministic_evaluation,
    no_global_generators,
    unmodified_model_and_data,
    no_side_effects,
    renderable_pictures,
    skipped_or_evaluated,
    strict_parameters,
)
