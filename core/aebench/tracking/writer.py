"""Writes one matrix: a parent run, one child run per model and seed, and in each its cells."""

from __future__ import annotations

import json
import math
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import version as installed_version
from pathlib import Path
from statistics import fmean
from types import TracebackType
from typing import TYPE_CHECKING, Any

import mlflow
import numpy as np
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, Metric, Param, Run, RunTag
from mlflow.models import Model, ModelSignature
from mlflow.types import Schema, TensorSpec
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NOTE, MLFLOW_SOURCE_NAME

from aebench.contracts import Autoencoder, AutoencoderRecord
from aebench.errors import one_line
from aebench.execution.work import CellDone, Trained
from aebench.planning.benchmark import Selected
from aebench.planning.planner import Plan
from aebench.planning.specs import EvaluationSpec, TrainingSpec
from aebench.results.matrix import Values, describe
from aebench.tracking.liveness import this_process

if TYPE_CHECKING:
    from aebench.tracking.store import Finished

KIND = "aebench.kind"  # "matrix" for a parent run, "model" for a child
PROCESS = "aebench.process"
DESCRIPTION = "matrix.json"
METRICS_PER_BATCH, PARAMS_PER_BATCH, TAGS_PER_BATCH = 1000, 100, 100  # MLflow's limits
LONGEST_TAG = 5000


class MatrixRun:
    """A parent run with one child per model and seed, open for writing; a context manager that always closes them."""

    def __init__(
        self, client: MlflowClient, experiment_id: str, plan: Plan, parent: Run | None, children: Iterable[Run]
    ) -> None:
        self._client = client
        self._experiment_id = experiment_id
        self._plan = plan
        self._open: set[str] = set()
        self._failed: set[str] = set()
        self._left: dict[str, int] = {}
        self._parts: dict[tuple[str, str], list[Mapping[str, float]]] = {}
        self.parent_id: str = parent.info.run_id if parent else ""
        self._children = {(run.data.tags["model"], int(run.data.tags["seed"])): run.info.run_id for run in children}

    def __enter__(self) -> MatrixRun:
        """Open the runs; whatever interrupts that closes those that are already open."""
        try:
            self._open_runs()
        except BaseException as error:
            self.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def _open_runs(self) -> None:
        if not self.parent_id:
            self.parent_id = self._create_parent()
        self._client.log_dict(self.parent_id, describe(self._plan), DESCRIPTION)
        for run_id in (self.parent_id, *self._children.values()):
            self._open.add(run_id)
            self._client.update_run(run_id, status="RUNNING")
            self._client.set_tag(run_id, PROCESS, this_process())
        for cell in self._plan.cells:
            run_id = self._child(cell.training)
            self._left[run_id] = self._left.get(run_id, 0) + 1

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """FINISHED; FAILED when a cell failed or the program did; KILLED when it was told to stop."""
        if kind is None:
            status = "FAILED" if self._failed else "FINISHED"
        else:
            status = "FAILED" if issubclass(kind, Exception) else "KILLED"
        for run_id in list(self._open):
            self._close(run_id, status)

    def record_reference_classifier(self, accuracy: float) -> None:
        """Record the test accuracy of the reference classifier that tasks ask."""
        self._log(self.parent_id, metrics=_as_metrics({"reference_classifier.accuracy": accuracy}))

    def skip(self, cell: EvaluationSpec) -> None:
        """Record that a cell is not asked, and why."""
        assert cell.skip is not None
        self._done(cell, "skipped", {"reason": cell.skip})

    def reuse(self, cell: EvaluationSpec, finished: Finished) -> None:
        """Record a cell that another run has brought to `ok`; its pictures stay there."""
        run_id = self._child(cell.training)
        if finished.run_id == run_id:
            self._part(cell, finished.values.metrics)
            self._done(cell, "ok", {})
        else:
            self._ok(cell, finished.values, {}, {"from_run": finished.origin})

    def trained(self, message: Trained, model: Autoencoder | None) -> None:
        """Record a training: curves, seconds, weights, and the model itself where it can be exported."""
        training, result = message.training, message.result
        run_id, prefix = self._child(training), f"train.{training.training_key}"
        now = _now()
        curves = [
            Metric(f"{prefix}.{name}", getattr(losses, name), now, losses.epoch)
            for losses in result.epochs
            for name in ("total", "reconstruction", "penalty", "validation")
        ]
        self._log(run_id, metrics=[*curves, Metric(f"{prefix}.seconds", result.seconds, now, 0)])
        self._log_files(run_id, "weights", {f"{training.training_key}.safetensors": message.weights})
        tags = {f"training.{training.training_key}.hash": training.hash, "device": message.device}
        if result.why_not_recorded:
            tags[f"training.{training.training_key}.not_recorded"] = result.why_not_recorded
        if model is None:
            tags |= {f"training.{training.training_key}.model_not_logged": "it does not load its own weights"}
        else:
            tags |= self._log_model(run_id, training, model)
        self._log(run_id, tags=tags)

    def evaluated(self, done: CellDone) -> None:
        """Record a cell that was run: its numbers, pictures and tables, or why it failed."""
        cell = done.cell
        run_id = self._child(cell.training)
        if done.status == "ok":
            self._log_files(run_id, cell.key.replace(".", "/"), done.files)
            seconds = {f"time.{cell.key}": done.seconds, f"time.{cell.key}.pictures": done.drawing}
            self._ok(cell, Values(done.metrics, done.absent), seconds, {})
        else:
            if done.traceback:
                self._log_files(run_id, cell.key.replace(".", "/"), {"error.txt": done.traceback.encode()})
            self._failed |= {run_id, self.parent_id}
            self._done(cell, "failed", {"reason": done.reason})

    def _ok(self, cell: EvaluationSpec, values: Values, more: Mapping[str, float], tags: Mapping[str, str]) -> None:
        """Numbers become metrics, what is not finite or absent a tag; the last of several parts brings their means."""
        metrics = {f"{cell.key}.{name}": value for name, value in values.metrics.items()}
        metrics |= self._part(cell, values.metrics)
        finite = {key: value for key, value in metrics.items() if math.isfinite(value)}
        others = {key: str(value) for key, value in metrics.items() if not math.isfinite(value)}
        absent = {f"absent.{name}": reason for name, reason in values.absent.items()}
        self._log(self._child(cell.training), metrics=_as_metrics(finite | dict(more)), tags=others)
        self._done(cell, "ok", dict(tags) | absent)

    def _part(self, cell: EvaluationSpec, metrics: Mapping[str, float]) -> dict[str, float]:
        """Take note of a cell that is one of several parts; returns the means once all of them are there."""
        if not cell.training.in_rotation:
            return {}
        parts = self._parts.setdefault((self._child(cell.training), cell.task), [])
        parts.append(metrics)
        if len(parts) < sum(self._belongs(other, cell) for other in self._plan.cells):
            return {}
        names = set.intersection(*(set(part) for part in parts))
        return {f"{cell.task}.{name}": fmean(part[name] for part in parts) for name in names}

    @staticmethod
    def _belongs(other: EvaluationSpec, cell: EvaluationSpec) -> bool:
        """Whether two cells are parts of one: the same task asked of trainings without different classes."""
        one, two = other.training, cell.training
        return (other.task, one.label, one.seed) == (cell.task, two.label, two.seed)

    def _done(self, cell: EvaluationSpec, status: str, more: Mapping[str, str]) -> None:
        run_id = self._child(cell.training)
        prefix = f"cell.{cell.key}"
        tags = {f"{prefix}.status": status, f"{prefix}.hash": cell.hash} | {
            f"{prefix}.{key}": value[:LONGEST_TAG] for key, value in more.items()
        }
        self._log(run_id, tags=tags)
        self._left[run_id] -= 1
        if not self._left[run_id]:
            self._close(run_id, "FAILED" if run_id in self._failed else "FINISHED")

    def _close(self, run_id: str, status: str) -> None:
        self._client.set_terminated(run_id, status)
        self._open.discard(run_id)

    def _create_parent(self) -> str:
        plan = self._plan
        run_id = self._create_run(
            f"{plan.dataset.title}: {len(plan.models)} models, {len(plan.tasks)} tasks, {plan.seeds} seeds",
            {KIND: "matrix", "matrix": plan.matrix, "dataset": plan.dataset.name},
        )
        params = {"dataset": plan.dataset.name, "seeds": plan.seeds, "suite_seed": plan.suite_seed}
        self._log(run_id, params=params)
        return run_id

    def _child(self, training: TrainingSpec) -> str:
        """The run of this model and seed, created when it is first asked for."""
        key = training.label, training.seed
        if key not in self._children:
            self._children[key] = self._create_child(training)
        return self._children[key]

    def _model(self, training: TrainingSpec) -> Selected[AutoencoderRecord]:
        """The row of the plan that this training belongs to."""
        return next(model for model in self._plan.models if model.label == training.label)

    def _create_child(self, training: TrainingSpec) -> str:
        plan = self._plan
        model = self._model(training)
        seed = f", seed {training.seed}" if plan.seeds > 1 else ""
        tags = {
            KIND: "model",
            MLFLOW_PARENT_RUN_ID: self.parent_id,
            "matrix": plan.matrix,
            "dataset": plan.dataset.name,
            "model": training.label,
            "seed": str(training.seed),
            MLFLOW_RUN_NOTE: _note(model.record),
        }
        run_id = self._create_run(f"{training.label}{seed}", tags)
        params: dict[str, Any] = {"model.name": training.model, "model.version": model.plugin.version}
        params |= {f"model.{key}": value for key, value in training.params.items()}
        params |= {
            f"train.{key}": getattr(training, key) for key in ("epochs", "batch_size", "learning_rate", "precision")
        }
        params["train.seed"] = training.seed
        for other in plan.cells:
            if (other.training.label, other.training.seed) == (training.label, training.seed):
                slot = other.training.training_key
                params[f"train.{slot}.latent_dim"] = other.training.latent_dim
                params[f"train.{slot}.held_out"] = other.training.held_out
                params |= {f"task.{other.task}.{key}": value for key, value in other.params.items()}
        self._log(run_id, params=params)
        self._log_dataset(run_id)
        return run_id

    def _create_run(self, name: str, tags: dict[str, str]) -> str:
        run = self._client.create_run(
            self._experiment_id, run_name=name, tags=tags | {PROCESS: this_process(), MLFLOW_SOURCE_NAME: "aebench"}
        )
        self._open.add(run.info.run_id)
        identity: str = run.info.run_id
        return identity

    def _log_dataset(self, run_id: str) -> None:
        info = self._plan.dataset
        source = json.dumps({"dataset": info.name})
        schema = json.dumps({"input_shape": info.input_shape, "classes": info.classes})
        profile = json.dumps(dict(zip(("train", "validation", "test"), info.sizes, strict=True)))
        dataset = Dataset(info.name, info.fingerprint[:8], "aebench", source, schema, profile)
        self._client.log_inputs(run_id, [DatasetInput(dataset)])

    def _log_model(self, run_id: str, training: TrainingSpec, model: Autoencoder) -> dict[str, str]:
        """Log an exported model that loads without its plugin; what cannot be exported says so in a tag."""
        images = TensorSpec(np.dtype("float32"), (-1, *self._plan.dataset.input_shape))
        plugin = self._model(training).plugin
        try:
            Model.log(
                artifact_path=None,
                flavor=mlflow.pytorch,
                name=training.training_key,
                run_id=run_id,
                pytorch_model=model,
                signature=ModelSignature(Schema([images]), Schema([images])),
                # Two images: with one, the export would fix the batch size at one.
                serialization_format="pt2",
                input_example=np.zeros((2, *self._plan.dataset.input_shape), np.float32),
                pip_requirements=_requirements(plugin.distribution, plugin.version),
                params={"model": training.label, "latent_dim": training.latent_dim},
            )
        except Exception as error:  # an exporter's limits are no reason to lose a result
            return {f"training.{training.training_key}.model_not_logged": one_line(error)[:LONGEST_TAG]}
        return {}

    def _log_files(self, run_id: str, folder: str, files: Mapping[str, bytes]) -> None:
        if not files:
            return
        with tempfile.TemporaryDirectory() as local:
            for name, content in files.items():
                Path(local, name).write_bytes(content)
            self._client.log_artifacts(run_id, local, folder)

    def _log(
        self,
        run_id: str,
        metrics: Iterable[Metric] = (),
        params: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        as_metrics = [metric for metric in metrics if math.isfinite(metric.value)]
        as_params = [Param(key, str(value)) for key, value in (params or {}).items()]
        as_tags = [RunTag(key, value) for key, value in (tags or {}).items()]
        for batch in _batches(as_metrics, METRICS_PER_BATCH):
            self._client.log_batch(run_id, metrics=batch)
        for batch in _batches(as_params, PARAMS_PER_BATCH):
            self._client.log_batch(run_id, params=batch)
        for batch in _batches(as_tags, TAGS_PER_BATCH):
            self._client.log_batch(run_id, tags=batch)


def _as_metrics(values: Mapping[str, float]) -> list[Metric]:
    now = _now()
    return [Metric(key, value, now, 0) for key, value in values.items()]


def _batches(items: list[Any], size: int) -> Iterator[list[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _note(model: AutoencoderRecord) -> str:
    """A model's description for the UI."""
    return f"**{model.title}**: {model.summary}" + (f" ({model.source})" if model.source else "")


def _requirements(distribution: str, version: str) -> list[str]:
    return [
        f"{distribution}=={version}",
        *(f"{name}=={installed_version(name)}" for name in ("aebench", "torch", "numpy")),
    ]


def _now() -> int:
    """Milliseconds since the epoch, as MLflow counts."""
    return int(time.time() * 1000)
