"""Runs one job: the only entry point of a worker, on any engine."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress

import torch
from safetensors.torch import load_file

from aebench.contracts import Autoencoder, ImageDataset, SamplerRecord, Skip, TaskRecord
from aebench.contracts.data import images_at_once_on
from aebench.errors import AebenchError, one_line
from aebench.evaluation.evaluate import evaluate
from aebench.evaluation.returned_values import check_model
from aebench.evaluation.unchanged import ModuleState
from aebench.execution.artifacts import ArtifactStore, Ref
from aebench.execution.events import (
    Cause,
    Checkpointed,
    CheckpointFailed,
    Emit,
    Failed,
    Progress,
    Started,
    Stopped,
    Succeeded,
)
from aebench.execution.inputs import Inputs
from aebench.execution.jobs import CHECKPOINT, DATA, PROGRAM, REFERENCE_CLASSIFIER, WEIGHTS, Job
from aebench.execution.memory import is_out_of_memory, out_of_memory_message
from aebench.planning.cells import CellResult
from aebench.planning.specs import EvaluationSpec, ExportSpec, TrainingSpec
from aebench.registry.records import Registry
from aebench.training.building import build_model, build_trainer, weights_of
from aebench.training.checkpoint import restore_trainer, save_trainer
from aebench.training.export import export_program
from aebench.training.stages import parameter_count
from aebench.training.trainer import Trainer

SMALLER_BATCHES = (64, 16)  # images at once, when an evaluation runs out of memory


class JobRunner:
    """Runs jobs in this process, and keeps the data between them.

    Args:
        registry: the plugins.
        artifacts: where inputs come from and results go to.
        device: where to train and evaluate.

    Attributes:
        artifacts: as above.
    """

    def __init__(self, registry: Registry, artifacts: ArtifactStore, device: torch.device) -> None:
        self._registry = registry
        self.artifacts = artifacts
        self._device = device
        self._inputs = Inputs(artifacts, device)
        self._sizes: dict[str, str] = {}  # of the model and its images in words, by the hash of the training

    def prepare(self, tasks: Iterable[str], data: Ref) -> None:
        """Call the `warm_up` of these tasks; a task whose `warm_up` fails is slow or fails when it evaluates."""
        for name in tasks:
            with suppress(Exception):
                warm_up = self._registry.task(name).record.warm_up
                if warm_up is not None:
                    warm_up(self._inputs.data(data, None).info)

    def run(self, job: Job, emit: Emit) -> None:
        """Run the whole job and emit its events."""
        for _ in self.steps(job, emit):
            pass

    def steps(
        self,
        job: Job,
        emit: Emit,
        ran_concurrently: Callable[[], bool] = lambda: False,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> Iterator[None]:
        """Run a job step by step, so that several can take turns: a training yields while its turn is queued.

        An exception of the plugin ends the job with a Failed event. Concurrent jobs may cause each other's failures:
        they share the device's memory, and an illegal access by one of them breaks the device for all.

        Args:
            job: the job to run.
            emit: called with each event.
            ran_concurrently: whether another job has run in this process since this one began.
            should_stop: whether a training shall end before its next turn, with its state saved and a Stopped event.
        """
        emit(Started(job.id))
        try:
            ended: Succeeded | Stopped
            if isinstance(job.spec, TrainingSpec):
                ended = yield from self._train(job, job.spec, emit, should_stop)
            elif isinstance(job.spec, ExportSpec):
                ended = self._export(job, job.spec)
            else:
                ended = self._evaluate(job, job.spec)
            emit(ended)
        except (Exception, SystemExit) as error:
            shares_memory = ran_concurrently() or self._is_out_of_memory(error)
            emit(_failure(job, error, self._message(job, error), shares_memory))

    def _is_out_of_memory(self, error: BaseException) -> bool:
        """Whether the memory ran out that processes share on a CUDA device."""
        return self._device.type == "cuda" and isinstance(error, torch.OutOfMemoryError)

    def _message(self, job: Job, error: BaseException) -> str:
        if isinstance(error, AebenchError):
            return str(error)
        if not is_out_of_memory(error):
            return f"{type(error).__name__}: {error}"
        spec = job.spec if isinstance(job.spec, TrainingSpec) else job.spec.training
        sizes = self._sizes.get(spec.hash, "a model that was not built")
        if isinstance(job.spec, ExportSpec):
            hint = "the results of the training do not depend on it"
        elif isinstance(job.spec, TrainingSpec):
            sizes = f"batches of {spec.batch_size} {sizes}"
            hint = "try a smaller training.batch_size or --jobs 1"
        else:
            sizes = f"batches of {SMALLER_BATCHES[-1]} to {images_at_once_on(self._device)} {sizes}"
            hint = "try --jobs 1, or fewer images"
        return f"{out_of_memory_message(error, sizes, self._device)}; {hint}"

    def _train(
        self, job: Job, spec: TrainingSpec, emit: Emit, should_stop: Callable[[], bool]
    ) -> Generator[None, None, Succeeded | Stopped]:
        data = self._inputs.data(job.inputs[DATA], spec.held_out)
        model, trainer = self._trainer(job, spec, data, emit)
        saved = time.monotonic()
        while not trainer.done:
            if should_stop():
                self._save(trainer, job, spec.hash, emit)
                return Stopped(job.id)
            trainer.start_turn()
            yield
            losses = trainer.finish_turn()
            if losses is not None:
                emit(Progress(job.id, losses))
            due = job.checkpoint_every is not None and time.monotonic() - saved >= job.checkpoint_every
            if due and not trainer.done:
                self._save(trainer, job, spec.hash, emit)
                saved = time.monotonic()
        return Succeeded(job.id, trainer.result(), {WEIGHTS: self.artifacts.put(weights_of(model))})

    def _trainer(self, job: Job, spec: TrainingSpec, data: ImageDataset, emit: Emit) -> tuple[Autoencoder, Trainer]:
        """A model and its trainer, which goes on from the job's checkpoint if that can be used."""
        if CHECKPOINT in job.inputs:
            model = self._build(spec, data.info.input_shape)
            trainer = build_trainer(model, data, spec, self._device)
            try:
                content = self.artifacts.path(job.inputs[CHECKPOINT]).read_bytes()
                restore_trainer(trainer, spec.hash, content, self._device)
                return model, trainer
            except Exception as error:
                reason = f"the checkpoint cannot be used, so the training starts anew: {one_line(error)}"
                emit(CheckpointFailed(job.id, reason))
        model = self._build(spec, data.info.input_shape)
        return model, build_trainer(model, data, spec, self._device)

    def _save(self, trainer: Trainer, job: Job, training: str, emit: Emit) -> None:
        """Store a checkpoint; where that is not possible, such as on a full disk, the training goes on without."""
        try:
            ref = self.artifacts.put(save_trainer(trainer, training))
        except Exception as error:  # a checkpoint must not cost the training
            emit(CheckpointFailed(job.id, f"a checkpoint cannot be written: {one_line(error)}"))
        else:
            emit(Checkpointed(job.id, ref, trainer.epochs_done))

    def _export(self, job: Job, spec: ExportSpec) -> Succeeded:
        """The model as a program for the CPU."""
        program = export_program(self._trained(job, spec.training, spec.input_shape), spec.input_shape)
        return Succeeded(job.id, None, {PROGRAM: self.artifacts.put(program)})

    def _evaluate(self, job: Job, spec: EvaluationSpec) -> Succeeded:
        """The result and its files; an evaluation that runs out of memory gets smaller batches."""
        data = self._inputs.data(job.inputs[DATA], spec.training.held_out)
        largest = max(len(split) for split in (data.train, data.validation, data.test))
        preferred = images_at_once_on(self._device)
        sizes = [preferred, *(size for size in SMALLER_BATCHES if size < largest)]
        for size in sizes:
            try:
                result, files = self._evaluate_in_batches(job, spec, size)
                break
            except Exception as error:
                if size == sizes[-1] or not is_out_of_memory(error):
                    raise
            finally:
                _release_memory(self._device)
        artifacts = {name: self.artifacts.put(content) for name, content in files.items()}
        note = f"ran out of memory with {preferred} images at once, and was evaluated with {size} at once"
        return Succeeded(job.id, result, artifacts, (note,) if size < preferred else ())

    def _evaluate_in_batches(
        self, job: Job, spec: EvaluationSpec, images_at_once: int
    ) -> tuple[CellResult, dict[str, bytes]]:
        training, task = spec.training, self._registry.task(spec.task).record
        given = job.inputs[DATA], training.held_out, job.inputs.get(REFERENCE_CLASSIFIER)
        data = self._inputs.data(*given[:2]).in_batches_of(images_at_once)
        classifier = None if given[2] is None else self._inputs.reference_classifier(given[2])
        if classifier is not None:
            classifier.images_at_once = images_at_once
        model = self._trained(job, training, data.info.input_shape).requires_grad_(False)
        model.images_at_once = images_at_once
        plugin = self._registry.autoencoder(training.model).distribution
        check_model(f"model '{training.model}' of {plugin}", model, data)
        state = ModuleState(model)
        try:
            found = evaluate(
                task,
                spec,
                model,
                data,
                self._device,
                fresh_model=lambda: self._build(training, data.info.input_shape, training.derived_seed("fresh model")),
                reference_classifier=classifier,
                samplers=self._samplers(task, spec),
            )
        except BaseException:
            with suppress(Exception):  # the device may be unusable
                self._inputs.changed(*given)
            raise
        changed = [f"the model's {what}" for what in state.changed()] + self._inputs.changed(*given)
        if changed:
            raise AebenchError(
                f"task '{task.name}' changed {', '.join(changed)}; a task must leave what it is given as it is"
            )
        return found

    def _samplers(self, task: TaskRecord, spec: EvaluationSpec) -> dict[str, SamplerRecord | Skip]:
        model = self._registry.autoencoder(spec.training.model).record
        params = task.params.model_validate(spec.params, strict=False)
        return self._registry.samplers_for(model, task.samplers(params))

    def _trained(self, job: Job, spec: TrainingSpec, input_shape: tuple[int, int, int]) -> Autoencoder:
        """A model with the weights that the job is given, in evaluation mode."""
        model = self._build(spec, input_shape)
        model.load_state_dict(load_file(self.artifacts.path(job.inputs[WEIGHTS])))
        return model.eval()

    def _build(self, spec: TrainingSpec, input_shape: tuple[int, int, int], seed: int | None = None) -> Autoencoder:
        images = f"images of {' x '.join(map(str, input_shape))}"
        self._sizes[spec.hash] = images
        model = build_model(self._registry, spec, input_shape, seed)
        self._sizes[spec.hash] = f"{images} and a model of {parameter_count(model):,} parameters"
        return model.to(self._device)


def _failure(job: Job, error: BaseException, message: str, shares_memory: bool) -> Failed:
    trace = "".join(traceback.format_exception(error))
    cause = Cause.ENGINE if shares_memory and not isinstance(error, AebenchError) else Cause.PLUGIN
    return Failed(job.id, " ".join(message.split()), trace, cause)


def _release_memory(device: torch.device) -> None:
    """Give back what an evaluation has left, before another one needs it."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
