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
from safetensors.torch import load, save
from torch import Generator

from aebench.contracts import Autoencoder, Context, Evaluation, ImageDataset, TaskRecord
from aebench.errors import AebenchError
from aebench.pictures import render
from aebench.planner import Cell, Training
from aebench.registry import Registry
from aebench.training import EpochLosses, TrainingResult, fit


@dataclass(frozen=True)
class Unit:
    """A training and the cells that need it.

    Attributes:
        training: what to train.
        cells: what to ask of it then.
        weights: safetensors, where it has been trained already.
        deferred: cells that somebody else will ask once it is trained; when its training fails, they fail with it.
    """

    training: Training
    cells: tuple[Cell, ...]
    weights: bytes | None = None
    deferred: tuple[Cell, ...] = ()


@dataclass(frozen=True)
class EpochDone:
    """Progress of a training."""

    training: Training
    losses: EpochLosses


@dataclass(frozen=True)
class Trained:
    """A finished training: its curves, and its weights as safetensors."""

    training: Training
    result: TrainingResult
    weights: bytes
    device: str


@dataclass(frozen=True)
class CellDone:
    """An evaluated cell: `ok` with what it found, or `failed` with a reason and a traceback."""

    cell: Cell
    status: str
    seconds: float = 0.0
    metrics: Mapping[str, float] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    reason: str = ""
    traceback: str = ""


@dataclass(frozen=True)
class Started:
    """A worker has taken up this unit."""

    training: Training


Message = Started | EpochDone | Trained | CellDone
Emit = Callable[[Message], None]


class Workplace:
    """Where units are worked on: the plugins, and the data on one device.

    Args:
        registry: the plugins.
        data: the benchmark's data, on any device.
        device: where to train and evaluate.
    """

    def __init__(self, registry: Registry, data: ImageDataset, device: torch.device) -> None:
        self._registry = registry
        self._device = device
        on_device = data.to(device)
        self._data = cache(lambda held_out: on_device if held_out is None else on_device.without_class(held_out))

    def warm_up(self, tasks: Iterable[str]) -> None:
        """Let these tasks prepare themselves; one that cannot is left to pay, or to fail, when it evaluates."""
        for name in tasks:
            warm_up = self._registry.task(name).record.warm_up
            if warm_up is not None:
                with suppress(Exception):
                    warm_up(self._data(None).info)

    def work(self, unit: Unit, emit: Emit) -> None:
        """Do everything in `unit` and emit what happens; an exception costs the cells it touches, no others."""
        emit(Started(unit.training))
        try:
            model = self._train(unit, emit)
        except Exception as error:
            for cell in (*unit.cells, *unit.deferred):
                emit(_failed(cell, error, "training: "))
            return
        for cell in unit.cells:
            started = time.perf_counter()
            try:
                done = self._evaluate(model, cell)
            except Exception as error:
                done = _failed(cell, error)
            emit(replace(done, seconds=time.perf_counter() - started))

    def _train(self, unit: Unit, emit: Emit) -> Autoencoder:
        training = unit.training
        model = build_model(self._registry, training, self._input_shape).to(self._device)
        if unit.weights is not None:
            model.load_state_dict(load(unit.weights))
            model.eval()
        else:
            result = fit(
                model,
                self._data(training.held_out),
                epochs=training.epochs,
                batch_size=training.batch_size,
                learning_rate=training.learning_rate,
                precision=training.precision,
                batches=Generator().manual_seed(training.batches_seed),
                noise=Generator(self._device).manual_seed(training.derived_seed("noise")),
                on_epoch=lambda losses: emit(EpochDone(training, losses)),
            )
            emit(Trained(training, result, weights_of(model), str(self._device)))
        return model.requires_grad_(False)

    def _evaluate(self, model: Autoencoder, cell: Cell) -> CellDone:
        training = cell.training
        task = self._registry.task(cell.task).record
        context = Context(
            params=task.params.model_validate(cell.params, strict=False),
            device=self._device,
            seed=cell.seed,
            held_out=training.held_out,
            fresh_model=lambda: build_model(
                self._registry, training, self._input_shape, training.derived_seed("fresh model")
            ).to(self._device),
        )
        evaluation = task.evaluate(model, self._data(training.held_out), context)
        _check(task, evaluation)
        metrics = {name: float(value) for name, value in evaluation.metrics.items()}
        return CellDone(cell, "ok", metrics=metrics, files=render(evaluation))

    @property
    def _input_shape(self) -> tuple[int, int, int]:
        channels, height, width = self._data(None).train.images.shape[1:]
        return channels, height, width


def build_model(
    registry: Registry, training: Training, input_shape: tuple[int, int, int], seed: int | None = None
) -> Autoencoder:
    """An untrained model on the CPU, initialised from `seed` or the training's own; global state is put back."""
    record = registry.autoencoder(training.model).record
    params = record.params.model_validate(training.params, strict=False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.initialisation_seed if seed is None else seed)
        return record.build(input_shape, training.latent_dim, params)


def weights_of(model: Autoencoder) -> bytes:
    """The state dict as safetensors; tied weights are written once for each name."""
    return save({name: value.detach().cpu().clone().contiguous() for name, value in model.state_dict().items()})


def _failed(cell: Cell, error: Exception, where: str = "") -> CellDone:
    message = str(error) if isinstance(error, AebenchError) else f"{type(error).__name__}: {error}"
    trace = "".join(traceback.format_exception(error))
    return CellDone(cell, "failed", reason=where + " ".join(message.split()), traceback=trace)


def _check(task: TaskRecord, evaluation: Evaluation) -> None:
    for name in (*evaluation.images, *evaluation.figures, *evaluation.tables):
        if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
            raise AebenchError(f"task '{task.name}' names a picture {name!r}; use letters, digits, '_' and '-'")
    declared, returned = {metric.name for metric in task.metrics}, set(evaluation.metrics)
    if declared != returned:
        raise AebenchError(
            f"task '{task.name}' declares the metrics {sorted(declared)} but returned {sorted(returned)}"
        )
