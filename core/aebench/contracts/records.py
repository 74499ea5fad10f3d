"""The records that a plugin's hooks return: what is registered, under which name, and how it is built."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Generator, Tensor

from aebench.contracts.data import DatasetInfo, ImageDataset, RawImages
from aebench.contracts.models import Autoencoder, ModelSpec
from aebench.contracts.names import Line, Name
from aebench.contracts.record_base import Record
from aebench.contracts.studies import Claim, Procedure, PublishedFigures
from aebench.contracts.tasks import Context, Evaluation, Metric, Skip

# First parts of keys in the store that no task may use as its name.
RESERVED = {"aebench", "cell", "mlflow", "model", "task", "time", "train", "training", "weights"}


class Capability(StrEnum):
    """What a model can do besides encoding and decoding.

    Attributes:
        SAMPLE: "sample", draws images from a prior: `Autoencoder.sample`.
    """

    SAMPLE = "sample"


class AutoencoderRecord(Record):
    """Registers a model.

    Attributes:
        name: `[a-z][a-z0-9_]*`, unique among all models.
        title: shown in tables and pictures.
        summary: one line.
        source: the paper.
        params: a pydantic model whose fields all have defaults.
        build: (spec) -> an untrained Autoencoder on the CPU; often the class itself. It may draw from torch's default
            generator, which the core seeds before the call.
        capabilities: what the model can do besides encoding and decoding.
        own_networks: why the model does not use the benchmark's backbones, in a few words; it then has one row,
            whichever backbones are chosen. Empty for a model that reconstructs through `spec.encoder` and
            `spec.decoder`, which has a row for each backbone.
        baseline: whether it is a lower or upper bound: shown in every table below the models, but not ranked.
    """

    build: Callable[[ModelSpec], Autoencoder]
    capabilities: frozenset[Capability] = frozenset()
    own_networks: str = ""
    baseline: bool = False


class UnavailableRecord(BaseModel):
    """Registers a model that a user may look for and that aebench cannot run; `aebench list unavailable` shows why.

    Attributes:
        name, title: as for a model.
        reason: what the model needs or does that the contract does not allow, in one line.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    title: Line
    reason: Line


def _no_samplers(params: Any) -> tuple[str, ...]:
    return ()


def _always(model: AutoencoderRecord, dataset: DatasetInfo) -> Skip | None:
    return None


class TaskRecord(Record):
    """Registers a task.

    Attributes:
        name, title, summary, source, params: as for a model.
        evaluate: (model, data, context) -> Evaluation. The model is trained, frozen and in evaluation mode; the data
            is on its device. Gradients are off: a task that fits something switches them on, by
            `torch.enable_grad()`. Deterministic for the context's seed; it returns values and never logs, saves or
            prints.
        metrics: every metric that `evaluate` returns; exactly one is primary.
        profile: the training it needs: "general", "anomaly" (one class held out), or a profile of the configuration.
        requires: capabilities; a model that lacks one is skipped.
        needs_labels: whether data sets without labels are skipped.
        needs_reference_classifier: whether `context.reference_classifier` is set, on data sets with labels.
        samplers: (params) -> names of the samplers that `evaluate` finds in `context.samplers`.
        condition: (model record, dataset info) -> Skip(reason) if the task does not apply to the pair for any other
            reason, else None.
        warm_up: (dataset info) -> None, for a task whose first evaluation in a process is slow: imports and compiles
            what the evaluation needs. The task is then evaluated in a separate process, which warms up once while the
            first models train.
    """

    evaluate: Callable[[Autoencoder, ImageDataset, Context], Evaluation]
    metrics: tuple[Metric, ...]
    profile: Name = "general"
    requires: frozenset[Capability] = frozenset()
    needs_labels: bool = False
    needs_reference_classifier: bool = False
    samplers: Callable[[Any], tuple[str, ...]] = _no_samplers
    condition: Callable[[AutoencoderRecord, DatasetInfo], Skip | None] = _always
    warm_up: Callable[[DatasetInfo], None] | None = None

    @model_validator(mode="after")
    def _own_prefix(self) -> TaskRecord:
        if self.name in RESERVED:
            raise ValueError(f"the name {self.name!r} is taken in the store; not allowed are {sorted(RESERVED)}")
        return self

    @model_validator(mode="after")
    def _one_primary_metric(self) -> TaskRecord:
        names = [metric.name for metric in self.metrics]
        if len(set(names)) != len(names):
            raise ValueError(f"metric names must be unique, got {names}")
        if sum(metric.primary for metric in self.metrics) != 1:
            raise ValueError(f"exactly one of the metrics {names} must be primary")
        return self

    @property
    def primary(self) -> Metric:
        return next(metric for metric in self.metrics if metric.primary)

    def supports(self, model: AutoencoderRecord, dataset: DatasetInfo) -> Skip | None:
        """Why this task skips `model` on `dataset`, or None; decided before any training."""
        missing = sorted(self.requires - model.capabilities)
        if missing:
            return Skip(f"{model.name} has no capability '{', '.join(missing)}'")
        if self.needs_labels and not dataset.classes:
            return Skip(f"{dataset.name} has no labels")
        return self.condition(model, dataset)


class SamplerRecord(Record):
    """Registers a way to draw images from a trained model.

    Attributes:
        name, title, summary, source: as for a model; `params` is not used.
        fit: (model, codes, generator) -> draw, where draw is (n, generator) -> images (n, *input_shape) float32 in
            [0, 1]. The model is trained, frozen and in evaluation mode, `codes` (N, latent_dim) float32 are the
            deterministic codes of the training images; both lie on the generators' device. Gradients are off.
        requires: capabilities; a model that lacks one has no such samples.
    """

    fit: Callable[[Autoencoder, Tensor, Generator], Callable[[int, Generator], Tensor]]
    requires: frozenset[Capability] = frozenset()

    def supports(self, model: AutoencoderRecord) -> Skip | None:
        """Why this sampler cannot draw from `model`, or None."""
        missing = sorted(self.requires - model.capabilities)
        return Skip(f"{self.name} needs the capability '{', '.join(missing)}'") if missing else None


class StudyRecord(Record):
    """Registers a published study, whose figures and conclusions `aebench compare` compares with results.

    Attributes:
        name, title, summary, source: as for a model; `params` is not used.
        procedures: ways of measuring; the first is the study's own, which its figures are compared under.
        published: its figures.
        claims: its conclusions; each is tested under every procedure.
    """

    procedures: tuple[Procedure, ...] = Field(min_length=1)
    published: tuple[PublishedFigures, ...] = ()
    claims: tuple[Claim, ...] = ()


class DatasetRecord(Record):
    """Registers a data set.

    Attributes:
        name, title, summary, source, params: as for a model; params may have fields without a default.
        load: (params, data_dir) -> RawImages. Downloads missing files into `data_dir`.
        batch_size: the default batch size of training.
    """

    load: Callable[[Any, Path], RawImages]
    batch_size: int = Field(default=256, gt=1)
