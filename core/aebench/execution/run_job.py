"""Runs one job: the only entry point of a worker, on any engine."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from functools import lru_cache

import torch
from safetensors.torch import load_file

from aebench.contracts import Autoencoder, ImageDataset, ReferenceClassifier, SamplerRecord, Skip, TaskRecord
from aebench.errors import AebenchError
from aebench.evaluation.evaluate import evaluate
from aebench.evaluation.reference_classifier import load_reference_classifier
from aebench.execution.artifacts import ArtifactStore, Ref
from aebench.execution.events import Cause, Emit, Failed, Progress, Started, Succeeded
from aebench.execution.jobs import DATA, REFERENCE_CLASSIFIER, WEIGHTS, Job
from aebench.planning.cells import CellResult
from aebench.planning.specs import EvaluationSpec, TrainingSpec
from aebench.registry.records import Registry
from aebench.training.building import build_model, build_trainer, weights_of
from aebench.training.records import TrainingResult

Artifacts = dict[str, Ref]

KEPT_DATA = 3  # copies of the data: all of it, and without one class or another


class JobRunner:
    """Runs jobs in this process, and keeps the data between them.

    Args:
        registry: the plugins.
        artifacts: where inputs come from and results go to.
        device: where to train and evaluate.
    """

    def __init__(self, registry: Registry, artifacts: ArtifactStore, device: torch.device) -> None:
        self._registry = registry
        self._artifacts = artifacts
        self._device = device
        self._data = lru_cache(maxsize=KEPT_DATA)(self._load_data)
        self._reference_classifier = lru_cache(maxsize=1)(self._load_reference_classifier)

    def prepare(self, tasks: Iterable[str], data: Ref) -> None:
        """Call the `warm_up` of these tasks; a task whose `warm_up` fails is slow or fails when it evaluates."""
        for name in tasks:
            with suppress(Exception):
                warm_up = self._registry.task(name).record.warm_up
                if warm_up is not None:
                    warm_up(self._data(data, None).info)

    def run(self, job: Job, emit: Emit) -> None:
        """Run the whole job and emit its events."""
        for _ in self.steps(job, emit):
            pass

    def steps(self, job: Job, emit: Emit, ran_concurrently: Callable[[], bool] = lambda: False) -> Iterator[None]:
        """Run a job step by step, so that several can take turns: a training yields while its epoch is queued.

        An exception of the plugin ends the job with a Failed event. Concurrent jobs may cause each other's failures:
        they share the device's memory, and an illegal access by one of them breaks the device for all.

        Args:
            job: the job to run.
            emit: called with each event.
            ran_concurrently: whether another job has run in this process since this one began.
        """
        emit(Started(job.id))
        try:
            result: TrainingResult | CellResult
            if isinstance(job.spec, TrainingSpec):
                result, artifacts = yield from self._train(job, job.spec, emit)
            else:
                result, artifacts = self._evaluate(job, job.spec)
            emit(Succeeded(job.id, result, artifacts))
        except (Exception, SystemExit) as error:
            shares_memory = ran_concurrently() or self._is_out_of_memory(error)
            emit(_failure(job, error, shares_memory))

    def _is_out_of_memory(self, error: BaseException) -> bool:
        """Whether the memory ran out that processes share on a CUDA device."""
        return self._device.type == "cuda" and isinstance(error, torch.OutOfMemoryError)

    def _train(
        self, job: Job, spec: TrainingSpec, emit: Emit
    ) -> Generator[None, None, tuple[TrainingResult, Artifacts]]:
        data = self._data(job.inputs[DATA], spec.held_out)
        model = self._build(spec, data)
        trainer = build_trainer(model, data, spec, self._device)
        while not trainer.done:
            trainer.start_turn()
            yield
            losses = trainer.finish_turn()
            if losses is not None:
                emit(Progress(job.id, losses))
        return trainer.result(), {WEIGHTS: self._artifacts.put(weights_of(model))}

    def _evaluate(self, job: Job, spec: EvaluationSpec) -> tuple[CellResult, Artifacts]:
        training, task = spec.training, self._registry.task(spec.task).record
        data = self._data(job.inputs[DATA], training.held_out)
        model = self._build(training, data)
        model.load_state_dict(load_file(self._artifacts.path(job.inputs[WEIGHTS])))
        model.eval().requires_grad_(False)
        classifier = job.inputs.get(REFERENCE_CLASSIFIER)
        result, files = evaluate(
            task,
            spec,
            model,
            data,
            self._device,
            fresh_model=lambda: self._build(training, data, training.derived_seed("fresh model")),
            reference_classifier=None if classifier is None else self._reference_classifier(classifier),
            samplers=self._samplers(task, spec),
        )
        return result, {name: self._artifacts.put(content) for name, content in files.items()}

    def _samplers(self, task: TaskRecord, spec: EvaluationSpec) -> dict[str, SamplerRecord | Skip]:
        model = self._registry.autoencoder(spec.training.model).record
        params = task.params.model_validate(spec.params, strict=False)
        return self._registry.samplers_for(model, task.samplers(params))

    def _build(self, spec: TrainingSpec, data: ImageDataset, seed: int | None = None) -> Autoencoder:
        channels, height, width = data.train.images.shape[1:]
        return build_model(self._registry, spec, (channels, height, width), seed).to(self._device)

    def _load_data(self, ref: Ref, held_out: int | None) -> ImageDataset:
        if held_out is not None:
            return self._data(ref, None).without_class(held_out)
        return ImageDataset.open(self._artifacts.path(ref)).to(self._device)

    def _load_reference_classifier(self, ref: Ref) -> ReferenceClassifier:
        return load_reference_classifier(self._artifacts.path(ref)).to(self._device)


def _failure(job: Job, error: BaseException, shares_memory: bool) -> Failed:
    is_known = isinstance(error, AebenchError)
    message = str(error) if is_known else f"{type(error).__name__}: {error}"
    trace = "".join(traceback.format_exception(error))
    cause = Cause.ENGINE if shares_memory and not is_known else Cause.PLUGIN
    return Failed(job.id, " ".join(message.split()), trace, cause)
