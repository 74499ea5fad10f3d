"""Where results live: the only module that knows MLflow."""

from __future__ import annotations

import logging
import math
import os
import socket
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

import mlflow
import numpy as np
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, Experiment, Metric, Param, Run, RunTag, ViewType
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.types import Schema, TensorSpec
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID
from sqlalchemy import create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from aebench.contracts import Autoencoder
from aebench.errors import AebenchError
from aebench.planner import Cell, Plan, Training
from aebench.results import CellResult, MatrixResults, describe, tasks_of
from aebench.work import CellDone, Trained

KIND = "aebench.kind"  # "matrix" for a parent run, "model" for a child
PROCESS = "aebench.process"
DESCRIPTION = "matrix.json"
METRICS_PER_BATCH, PARAMS_PER_BATCH, TAGS_PER_BATCH = 1000, 100, 100
LONGEST_TAG = 5000
ANSWER_SECONDS = 5.0


@dataclass(frozen=True)
class Finished:
    """A cell that some run has already brought to `ok`."""

    run_id: str
    metrics: Mapping[str, float]
    tags: Mapping[str, str]


class Store:
    """The results of one experiment in one MLflow tracking store.

    Args:
        uri: the tracking URI; None for MLFLOW_TRACKING_URI or MLflow's own default.
        experiment: name of the experiment, created with the first matrix.

    Raises:
        AebenchError: the store does not answer, or cannot be one.
    """

    def __init__(self, uri: str | None, experiment: str) -> None:
        for name in ("alembic", "mlflow.store.db.utils", "mlflow.utils.requirements_utils"):
            logging.getLogger(name).setLevel(logging.ERROR)
        self.uri = store_uri(uri)
        _check_answers(self.uri)
        mlflow.set_tracking_uri(self.uri)
        self.experiment = experiment
        try:
            self._client = MlflowClient()
            self._found: Experiment | None = self._client.get_experiment_by_name(experiment)
        except MlflowException as error:
            raise AebenchError(f"the tracking store {self.uri} cannot be used: {_one_line(error)}") from error
        if self._found is not None and self._found.lifecycle_stage != "active":
            raise AebenchError(
                f"experiment '{experiment}' was deleted; restore it in the MLflow UI or choose another with --experiment"
            )

    def close_dead_runs(self) -> int:
        """Mark runs that a process left RUNNING when it died as KILLED; returns how many there were."""
        dead = [run for run in self._runs("attributes.status = 'RUNNING'") if not _is_alive(run.data.tags.get(PROCESS))]
        for run in dead:
            self._client.set_terminated(run.info.run_id, "KILLED")
        return len(dead)

    def finished(self, cells: Iterable[Cell]) -> dict[str, Finished]:
        """Cells by hash that are already `ok` somewhere in the experiment."""
        wanted = {cell.hash for cell in cells}
        found: dict[str, Finished] = {}
        for run in self._runs(f"tags.`{KIND}` = 'model'"):
            tags = run.data.tags
            for key, value in tags.items():
                task = _task_of_hash_tag(key)
                if task is None or value not in wanted or tags.get(f"cell.{task}.status") != "ok":
                    continue
                found.setdefault(value, Finished(run.info.run_id, *_results_of(task, run)))
        return found

    def weights(self, trainings: Iterable[Training]) -> dict[str, bytes]:
        """Safetensors by training hash, for the trainings whose weights are already in the store."""
        wanted = {training.hash: training.profile for training in trainings}
        found: dict[str, bytes] = {}
        for run in self._runs(f"tags.`{KIND}` = 'model'"):
            for hash_, profile in wanted.items():
                if hash_ not in found and run.data.tags.get(f"training.{profile}.hash") == hash_:
                    content = self._download(run.info.run_id, f"weights/{profile}.safetensors")
                    if content is not None:
                        found[hash_] = content
        return found

    def open_matrix(self, plan: Plan, *, new: bool) -> MatrixRun:
        """The run that collects this matrix's results: an interrupted one of the same matrix goes on, unless `new`."""
        if self._found is None:
            identity = self._client.create_experiment(self.experiment)
            self._found = self._client.get_experiment(identity)
        # Models are logged under the experiment that the fluent interface points at.
        mlflow.set_experiment(experiment_id=self._found.experiment_id)
        newest = None if new else self._newest_parent()
        if newest is not None and (newest.data.tags.get("matrix") != plan.matrix or newest.info.status == "RUNNING"):
            newest = None
        return MatrixRun(self._client, self._found.experiment_id, plan, newest, self)

    def results(self, matrix: str | None = None) -> MatrixResults:
        """The newest matrix of the experiment, or the newest with this identity.

        Raises:
            AebenchError: there is none.
        """
        parent = self._newest_parent(matrix)
        if parent is None:
            raise AebenchError(f"no results in experiment '{self.experiment}' of {self.uri}; 'aebench run' makes some")
        description = self._description(parent)
        rows = {
            (run.data.tags["model"], int(run.data.tags["seed"])): run for run in self.children(parent.info.run_id)
        }
        cells = tuple(_cell_result(cell, rows.get((cell["model"], cell["seed"]))) for cell in description["cells"])
        return MatrixResults(
            description["matrix"],
            description["dataset"]["name"],
            tuple(model["label"] for model in description["models"]),
            tasks_of(description),
            cells,
        )

    def holds(self, plan: Plan) -> bool:
        """Whether the newest matrix is this one, with every cell done."""
        parent = self._newest_parent()
        if parent is None or parent.data.tags.get("matrix") != plan.matrix:
            return False
        return set(self.results().count()) <= {"ok", "skipped"}

    def children(self, parent_id: str) -> list[Run]:
        return list(self._runs(f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{parent_id}'"))

    def _newest_parent(self, matrix: str | None = None) -> Run | None:
        which = f" and tags.matrix = '{matrix}'" if matrix else ""
        return next(self._runs(f"tags.`{KIND}` = 'matrix'{which}"), None)

    def _runs(self, filter_string: str) -> Iterator[Run]:
        """The experiment's runs, newest first."""
        token = None
        while self._found is not None:
            page = self._client.search_runs(
                [self._found.experiment_id],
                filter_string,
                ViewType.ACTIVE_ONLY,
                max_results=500,
                order_by=["attributes.start_time DESC"],
                page_token=token,
            )
            yield from page
            token = page.token
            if not token:
                return

    def _description(self, parent: Run) -> dict[str, Any]:
        description: dict[str, Any] = mlflow.artifacts.load_dict(f"{parent.info.artifact_uri}/{DESCRIPTION}")
        return description

    def _download(self, run_id: str, path: str) -> bytes | None:
        with tempfile.TemporaryDirectory() as folder:
            try:
                return Path(self._client.download_artifacts(run_id, path, folder)).read_bytes()
            except (MlflowException, OSError):  # deleted by hand: it is simply trained again
                return None


class MatrixRun:
    """A parent run with one child per model and seed, open for writing; a context manager that always closes them."""

    def __init__(
        self, client: MlflowClient, experiment_id: str, plan: Plan, parent: Run | None, store: Store
    ) -> None:
        self._client = client
        self._experiment_id = experiment_id
        self._plan = plan
        self._open: set[str] = set()
        self._failed: set[str] = set()
        self._left: dict[str, int] = {}
        self.parent_id = parent.info.run_id if parent else self._create_parent()
        self._children = {
            (run.data.tags["model"], int(run.data.tags["seed"])): run.info.run_id
            for run in (store.children(self.parent_id) if parent else [])
        }
        for run_id in (self.parent_id, *self._children.values()):
            client.update_run(run_id, status="RUNNING")
            client.set_tag(run_id, PROCESS, _this_process())
            self._open.add(run_id)
        for cell in plan.cells:
            self._left[self._child(cell.training)] = self._left.get(self._child(cell.training), 0) + 1

    def __enter__(self) -> MatrixRun:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """FINISHED; FAILED when a cell failed or the program did; KILLED when it was told to stop."""
        if kind is None:
            status = "FAILED" if self._failed else "FINISHED"
        else:
            status = "FAILED" if issubclass(kind, Exception) else "KILLED"
        for run_id in list(self._open):
            self._close(run_id, status)

    def skip(self, cell: Cell) -> None:
        """Record that a cell is not asked, and why."""
        assert cell.skip is not None
        self._done(cell, "skipped", {"reason": cell.skip})

    def reuse(self, cell: Cell, finished: Finished) -> None:
        """Record a cell that another run has brought to `ok`; its pictures stay there."""
        run_id = self._child(cell.training)
        if finished.run_id != run_id:
            self._log(run_id, metrics=_as_metrics({f"{cell.task}.{k}": v for k, v in finished.metrics.items()}))
            self._log(run_id, tags={f"{cell.task}.{k}": v for k, v in finished.tags.items()})
            self._done(cell, "ok", {"from_run": finished.run_id})
        else:
            self._done(cell, "ok", {})

    def trained(self, message: Trained, model: Autoencoder | None) -> None:
        """Record a training: curves, seconds, weights, and the model itself where it can be exported."""
        training, result = message.training, message.result
        run_id, prefix = self._child(training), f"train.{training.profile}"
        now = _now()
        curves = [
            Metric(f"{prefix}.{name}", getattr(losses, name), now, losses.epoch)
            for losses in result.epochs
            for name in ("total", "reconstruction", "penalty", "validation")
        ]
        self._log(run_id, metrics=[*curves, Metric(f"{prefix}.seconds", result.seconds, now, 0)])
        self._log_files(run_id, "weights", {f"{training.profile}.safetensors": message.weights})
        tags = {f"training.{training.profile}.hash": training.hash, "device": message.device}
        if model is not None:
            tags |= self._log_model(run_id, training, model)
        self._log(run_id, tags=tags)

    def evaluated(self, done: CellDone) -> None:
        """Record a cell that was run: its numbers, pictures and tables, or why it failed."""
        cell = done.cell
        run_id = self._child(cell.training)
        if done.status == "ok":
            finite = {f"{cell.task}.{k}": v for k, v in done.metrics.items() if math.isfinite(v)}
            others = {f"{cell.task}.{k}": str(v) for k, v in done.metrics.items() if not math.isfinite(v)}
            self._log(run_id, metrics=_as_metrics(finite | {f"time.{cell.task}": done.seconds}), tags=others)
            self._log_files(run_id, cell.task, done.files)
            self._done(cell, "ok", {})
        else:
            if done.traceback:
                self._log_files(run_id, cell.task, {"error.txt": done.traceback.encode()})
            self._failed |= {run_id, self.parent_id}
            self._done(cell, "failed", {"reason": done.reason})

    def _done(self, cell: Cell, status: str, more: Mapping[str, str]) -> None:
        run_id = self._child(cell.training)
        prefix = f"cell.{cell.task}"
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
        self._client.log_dict(run_id, describe(plan), DESCRIPTION)
        return run_id

    def _child(self, training: Training) -> str:
        """The run of this model and seed, created when it is first asked for."""
        key = training.label, training.seed
        if key not in self._children:
            self._children[key] = self._create_child(training)
        return self._children[key]

    def _create_child(self, training: Training) -> str:
        plan = self._plan
        seed = f", seed {training.seed}" if plan.seeds > 1 else ""
        tags = {
            KIND: "model",
            MLFLOW_PARENT_RUN_ID: self.parent_id,
            "matrix": plan.matrix,
            "dataset": plan.dataset.name,
            "model": training.label,
            "seed": str(training.seed),
        }
        run_id = self._create_run(f"{training.label}{seed}", tags)
        model = next(model for model in plan.models if model.label == training.label)
        params: dict[str, Any] = {"model.name": training.model, "model.version": model.plugin.version}
        params |= {f"model.{key}": value for key, value in training.params.items()}
        params |= {f"train.{key}": getattr(training, key) for key in ("epochs", "batch_size", "learning_rate")}
        params["train.seed"] = training.seed
        for other in plan.cells:
            if (other.training.label, other.training.seed) == (training.label, training.seed):
                profile = other.training.profile
                params[f"train.{profile}.latent_dim"] = other.training.latent_dim
                params[f"train.{profile}.held_out"] = other.training.held_out
                params |= {f"task.{other.task}.{key}": value for key, value in other.params.items()}
        self._log(run_id, params=params)
        self._log_dataset(run_id)
        return run_id

    def _create_run(self, name: str, tags: dict[str, str]) -> str:
        run = self._client.create_run(self._experiment_id, run_name=name, tags=tags | {PROCESS: _this_process()})
        self._open.add(run.info.run_id)
        identity: str = run.info.run_id
        return identity

    def _log_dataset(self, run_id: str) -> None:
        info = self._plan.dataset
        sizes = dict(zip(("train", "validation", "test"), info.sizes, strict=True))
        schema = f'{{"input_shape": {list(info.input_shape)}, "classes": {len(info.classes)}}}'
        source = f'{{"dataset": "{info.name}"}}'
        dataset = Dataset(info.name, info.fingerprint[:8], "aebench", source, schema, str(sizes).replace("'", '"'))
        self._client.log_inputs(run_id, [DatasetInput(dataset)])

    def _log_model(self, run_id: str, training: Training, model: Autoencoder) -> dict[str, str]:
        """Log an exported model that loads without its plugin; what cannot be exported says so in a tag."""
        images = TensorSpec(np.dtype("float32"), (-1, *self._plan.dataset.input_shape))
        plugin = next(model.plugin for model in self._plan.models if model.label == training.label)
        try:
            Model.log(
                artifact_path=None,
                flavor=mlflow.pytorch,
                name=training.profile,
                run_id=run_id,
                pytorch_model=model,
                signature=ModelSignature(Schema([images]), Schema([images])),
                # Two images: with one, the export would fix the batch size at one.
                input_example=np.zeros((2, *self._plan.dataset.input_shape), np.float32),
                pip_requirements=_requirements(plugin.distribution, plugin.version),
                params={"model": training.label, "latent_dim": training.latent_dim},
            )
        except Exception as error:  # an exporter's limits are no reason to lose a result
            return {f"training.{training.profile}.model_not_logged": _one_line(error)[:LONGEST_TAG]}
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


def store_uri(uri: str | None) -> str:
    """The tracking URI in force: the given one, else MLFLOW_TRACKING_URI, else MLflow's own default."""
    return uri or str(mlflow.get_tracking_uri())


def newest_experiment(uri: str | None) -> str:
    """Name of the experiment in which a matrix was started last; the default data set's when there is none."""
    checked = store_uri(uri)
    _check_answers(checked)
    client = MlflowClient(checked)
    experiments = {experiment.experiment_id: experiment.name for experiment in client.search_experiments()}
    runs = client.search_runs(
        list(experiments), f"tags.`{KIND}` = 'matrix'", max_results=1, order_by=["attributes.start_time DESC"]
    )
    return experiments[runs[0].info.experiment_id] if runs else "aebench-digits"


def _check_answers(uri: str) -> None:
    """Fail at once on a store that cannot answer, where MLflow would try again for minutes."""
    scheme = uri.partition(":")[0]
    try:
        if scheme in ("http", "https"):
            with urllib.request.urlopen(uri, timeout=ANSWER_SECONDS):
                pass
        elif scheme == "sqlite":
            database = make_url(uri).database
            folder = Path(database or ".").absolute().parent
            if not os.access(folder, os.W_OK):
                raise AebenchError(f"the tracking store {uri} cannot be written: no such folder, or no permission")
            with create_engine(uri).connect():
                pass
        elif "://" in uri and scheme in ("mysql", "postgresql", "mssql") or "+" in scheme:
            with create_engine(uri).connect():
                pass
        elif scheme not in ("databricks", "databricks-uc"):
            raise AebenchError(
                f"the tracking store {uri} cannot be used: give a database (sqlite:///mlflow.db) or a server (http://…)"
            )
    except urllib.error.HTTPError:
        pass  # it answers
    except (OSError, SQLAlchemyError, ImportError, ValueError) as error:
        raise AebenchError(f"the tracking store {uri} does not answer: {_one_line(error)}") from error


def _cell_result(cell: Mapping[str, Any], run: Run | None) -> CellResult:
    prefix = f"cell.{cell['task']}"
    tags = run.data.tags if run is not None else {}
    status = tags.get(f"{prefix}.status", "pending")
    metrics: dict[str, float] = {}
    if run is not None and status == "ok":
        finite, others = _results_of(cell["task"], run)
        metrics = dict(finite) | {name: float(value) for name, value in others.items()}
    return CellResult(cell["model"], cell["task"], cell["seed"], status, tags.get(f"{prefix}.reason"), metrics)


def _results_of(task: str, run: Run) -> tuple[dict[str, float], dict[str, str]]:
    """A task's finite metrics, and its non-finite ones as text."""
    prefix = f"{task}."
    finite = {key.removeprefix(prefix): value for key, value in run.data.metrics.items() if key.startswith(prefix)}
    others = {key.removeprefix(prefix): value for key, value in run.data.tags.items() if key.startswith(prefix)}
    return finite, others


def _task_of_hash_tag(key: str) -> str | None:
    return key.removeprefix("cell.").removesuffix(".hash") if key.startswith("cell.") and key.endswith(".hash") else None


def _as_metrics(values: Mapping[str, float]) -> list[Metric]:
    now = _now()
    return [Metric(key, value, now, 0) for key, value in values.items()]


def _batches(items: list[Any], size: int) -> Iterator[list[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _requirements(distribution: str, version: str) -> list[str]:
    from importlib.metadata import version as installed

    return [f"{distribution}=={version}", *(f"{name}=={installed(name)}" for name in ("aebench", "torch", "numpy"))]


def _this_process() -> str:
    """Host, process id and start time: a later process with the same id is another one."""
    process = psutil.Process()
    return f"{socket.gethostname()}:{process.pid}:{process.create_time():.2f}"


def _is_alive(identity: str | None) -> bool:
    """Whether the process that opened a run still lives; on another host it is given the benefit of the doubt."""
    if identity is None:
        return True
    host, pid, started = identity.rsplit(":", 2)
    if host != socket.gethostname():
        return True
    try:
        return f"{psutil.Process(int(pid)).create_time():.2f}" == started
    except psutil.Error:
        return False


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _now() -> int:
    """Milliseconds since the epoch, as MLflow counts."""
    return int(time.time() * 1000)
