"""One unit of work: build a model, train it (or load its weights), and ask the tasks that wait for it."""

from __future__ import annotations

import re
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache

import torch
from safetensors.torch import load

from aebench.contracts import Autoencoder, Context, Evaluation, ImageDataset, ReferenceClassifier, TaskRecord
from aebench.errors import AebenchError
from aebench.evaluation.rendering import render
from aebench.planning.specs import EvaluationSpec, TrainingSpec
from aebench.registry.records import Registry
from aebench.training.building import build_model, train, weights_of
from aebench.training.trainer import EpochLosses, TrainingResult
from aebench.training.turns import Turns


@dataclass(frozen=True)
class Unit:
    """A training and the cells that need it.

    Attributes:
        training: what to train.
        cells: what to ask of it then.
        weights: safetensors, where it has been trained already.
        deferred: cells that somebody else will ask once it is trained.
    """

    training: TrainingSpec
    cells: tuple[EvaluationSpec, ...]
    weights: bytes | None = None
    deferred: tuple[EvaluationSpec, ...] = ()


@dataclass(frozen=True)
class EpochDone:
    """Progress of a training."""

    training: TrainingSpec
    losses: EpochLosses


@dataclass(frozen=True)
class Trained:
    """A finished training: its curves, and its weights as safetensors."""

    training: TrainingSpec
    result: TrainingResult
    weights: bytes
    device: str


@dataclass(frozen=True)
class NotTrained:
    """A training that failed, with a reason and a traceback; `for_good` when it would fail in any surroundings."""

    training: TrainingSpec
    reason: str
    traceback: str
    for_good: bool


@dataclass(frozen=True)
class Postponed:
    """A training that failed beside others, for this reason, and will be tried again by itself."""

    training: TrainingSpec
    reason: str


@dataclass(frozen=True)
class CellDone:
    """An evaluated cell: `ok` with what it found, or `failed` with a reason and a traceback.

    `drawing` is what the pictures took of the seconds.
    """

    cell: EvaluationSpec
    status: str
    seconds: float = 0.0
    drawing: float = 0.0
    metrics: Mapping[str, float] = field(default_factory=dict)
    absent: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    reason: str = ""
    traceback: str = ""


@dataclass(frozen=True)
class Started:
    """A worker has taken up this unit."""

    training: TrainingSpec


Message = Started | EpochDone | Trained | Postponed | CellDone
Report = Message | NotTrained  # the executor decides what becomes of the cells that wait for a training that failed
Emit = Callable[[Report], None]


class Workplace:
    """Where units are worked on: the plugins, and the data on one device.

    Args:
        registry: the plugins.
        data: the benchmark's data, on any device.
        device: where to train and evaluate.
        reference_classifier: the data set's reference classifier on that device, where a task needs it.
    """

    def __init__(
        self,
        registry: Registry,
        data: ImageDataset,
        device: torch.device,
        reference_classifier: ReferenceClassifier | None = None,
    ) -> None:
        self._registry = registry
        self._device = device
        self._reference_classifier = reference_classifier
        on_device = data.to(device)
        self._data = cache(lambda held_out: on_device if held_out is None else on_device.without_class(held_out))

    def warm_up(self, tasks: Iterable[str]) -> None:
        """Let these tasks prepare themselves; one that cannot is left to pay, or to fail, when it evaluates."""
        for name in tasks:
            with suppress(Exception):
                warm_up = self._registry.task(name).record.warm_up
                if warm_up is not None:
                    warm_up(self._data(None).info)

    def work(self, unit: Unit, emit: Emit) -> Turns[None]:
        """Do everything in `unit` and emit what happens; an exception costs what it touches, and no more."""
        emit(Started(unit.training))
        try:
            model = yield from self._train(unit, emit)
        except Exception as error:
            emit(NotTrained(unit.training, *_described(error), for_good=isinstance(error, AebenchError)))
            return
        for cell in unit.cells:
            yield
            started = time.perf_counter()
            try:
                done = self._evaluate(model, cell)
            except Exception as error:
                done = failed(cell, *_described(error))
            emit(replace(done, seconds=time.perf_counter() - started))

    def _train(self, unit: Unit, emit: Emit) -> Turns[Autoencoder]:
        training = unit.training
        model = build_model(self._registry, training, self._input_shape).to(self._device)
        if unit.weights is not None:
            model.load_state_dict(load(unit.weights))
            model.eval()
        else:
            data = self._data(training.held_out)
            turns = train(model, data, training, self._device, lambda losses: emit(EpochDone(training, losses)))
            result = yield from turns
            emit(Trained(training, result, weights_of(model), str(self._device)))
        return model.requires_grad_(False)

    def _evaluate(self, model: Autoencoder, cell: EvaluationSpec) -> CellDone:
        training = cell.training
        task = self._registry.task(cell.task).record
        context = Context(
            params=task.params.model_validate(cell.params, strict=False),
            device=self._device,
            seed=cell.seed,
            held_out=training.held_out,
            reference_classifier=self._reference_classifier if task.needs_reference_classifier else None,
            fresh_model=lambda: build_model(
                self._registry, training, self._input_shape, training.derived_seed("fresh model")
            ).to(self._device),
        )
        evaluation = task.evaluate(model, self._data(training.held_out), context)
        _check(task, evaluation)
        metrics = {name: float(value) for name, value in evaluation.metrics.items()}
        started = time.perf_counter()
        files = render(evaluation)
        drawing = time.perf_counter() - started
        return CellDone(cell, "ok", drawing=drawing, metrics=metrics, absent=dict(evaluation.absent), files=files)

    @property
    def _input_shape(self) -> tuple[int, int, int]:
        channels, height, width = self._data(None).train.images.shape[1:]
        return channels, height, width


def failed(cell: EvaluationSpec, reason: str, traceback: str = "") -> CellDone:
    return CellDone(cell, "failed", reason=reason, traceback=traceback)


def _described(error: Exception) -> tuple[str, str]:
    """One line, and a traceback."""
    message = str(error) if isinstance(error, AebenchError) else f"{type(error).__name__}: {error}"
    return " ".join(message.split()), "".join(traceback.format_exception(error))


def _check(task: TaskRecord, evaluation: Evaluation) -> None:
    for name in (*evaluation.images, *evaluation.figures, *evaluation.tables):
        if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
            raise AebenchError(f"task '{task.name}' names a picture {name!r}; use letters, digits, '_' and '-'")
    declared = {metric.name for metric in task.metrics}
    returned = [*evaluation.metrics, *evaluation.absent]
    if sorted(declared) != sorted(returned):
        raise AebenchError(
            f"task '{task.name}' declares the metrics {sorted(declared)} but returned {sorted(returned)}"
        )
