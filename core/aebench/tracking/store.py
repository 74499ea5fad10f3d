"""One experiment in an MLflow store: what it holds, and where a new matrix is opened."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Experiment, Run, ViewType
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NOTE

from aebench.errors import AebenchError
from aebench.planner import Cell, Plan, Training
from aebench.results import LAYOUT, CellResult, MatrixResults, tasks_of
from aebench.tracking.connection import check_answers, one_line, store_uri
from aebench.tracking.liveness import is_alive
from aebench.tracking.matrix_run import DESCRIPTION, KIND, LONGEST_TAG, PROCESS, MatrixRun

TRAINING_KIND = {"mlflow.experimentKind": "custom_model_development"}  # the UI then opens with runs, not traces


@dataclass(frozen=True)
class Finished:
    """A cell that `run_id` holds as `ok`; `origin` is the run that computed it and has its pictures."""

    run_id: str
    origin: str
    metrics: Mapping[str, float]
    tags: Mapping[str, str]


class Store:
    """The results of one experiment in one MLflow tracking store.

    Args:
        uri: the tracking URI; None for MLFLOW_TRACKING_URI or MLflow's own default.
        experiment: name of the experiment, created with the first matrix.
        must_exist: do not create a SQLite file that is not there.

    Raises:
        AebenchError: the store does not answer, or cannot be one.
    """

    def __init__(self, uri: str | None, experiment: str, *, must_exist: bool = False) -> None:
        for name in ("alembic", "mlflow.store.db.utils", "mlflow.utils.requirements_utils"):
            logging.getLogger(name).setLevel(logging.ERROR)
        self.uri = store_uri(uri)
        check_answers(self.uri, must_exist)
        mlflow.set_tracking_uri(self.uri)
        self.experiment = experiment
        try:
            self._client = MlflowClient()
            self._found: Experiment | None = self._client.get_experiment_by_name(experiment)
        except MlflowException as error:
            raise AebenchError(f"the tracking store {self.uri} cannot be used: {one_line(error)}") from error
        if self._found is not None and self._found.lifecycle_stage != "active":
            raise AebenchError(
                f"experiment '{experiment}' was deleted; restore it in the MLflow UI, or choose another (--experiment)"
            )

    def close_dead_runs(self) -> int:
        """Mark runs that a process left RUNNING when it died as KILLED; returns how many there were."""
        dead = [run for run in self._runs("attributes.status = 'RUNNING'") if not is_alive(run.data.tags.get(PROCESS))]
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
                origin = tags.get(f"cell.{task}.from_run", run.info.run_id)
                found.setdefault(value, Finished(run.info.run_id, origin, *_results_of(task, run)))
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
            try:
                identity = self._client.create_experiment(self.experiment, tags=TRAINING_KIND)
            except MlflowException as error:
                raise AebenchError(f"experiment '{self.experiment}' cannot be created: {one_line(error)}") from error
            self._found = self._client.get_experiment(identity)
        # Models are logged under the experiment that the fluent interface points at.
        mlflow.set_experiment(experiment_id=self._found.experiment_id)
        newest = None if new else self._newest_parent()
        if newest is not None and (newest.data.tags.get("matrix") != plan.matrix or newest.info.status == "RUNNING"):
            newest = None
        children = self._children(newest.info.run_id) if newest is not None else []
        return MatrixRun(self._client, self._found.experiment_id, plan, newest, children)

    def results(self, parent_id: str | None = None) -> MatrixResults:
        """The newest matrix of the experiment, or the one under this run.

        Raises:
            AebenchError: there is none.
        """
        parent = self._client.get_run(parent_id) if parent_id else self._newest_parent()
        if parent is None:
            raise AebenchError(f"no results in experiment '{self.experiment}' of {self.uri}; 'aebench run' makes some")
        description = self._description(parent)
        if description is None:
            raise AebenchError(
                f"run {parent.info.run_id} of '{self.experiment}' has no {DESCRIPTION}: run the matrix again"
            )
        if description["layout"] > LAYOUT:
            raise AebenchError(
                f"the newest matrix in '{self.experiment}' was written by a newer aebench "
                f"(layout {description['layout']}, this one reads up to {LAYOUT}); upgrade aebench"
            )
        rows = {(run.data.tags["model"], int(run.data.tags["seed"])): run for run in self._children(parent.info.run_id)}
        cells = tuple(_cell_result(cell, rows.get((cell["model"], cell["seed"]))) for cell in description["cells"])
        return MatrixResults(
            description["matrix"],
            description["dataset"]["name"],
            tuple(model["label"] for model in description["models"]),
            tasks_of(description),
            cells,
        )

    def describe(self, parent_id: str, results: MatrixResults) -> None:
        """Show the table of results as the description of a matrix's run."""
        self._client.set_tag(parent_id, MLFLOW_RUN_NOTE, results.to_markdown()[:LONGEST_TAG])

    def holds(self, plan: Plan) -> bool:
        """Whether the newest matrix is this one, with every cell done."""
        parent = self._newest_parent()
        if parent is None or parent.data.tags.get("matrix") != plan.matrix or self._description(parent) is None:
            return False
        return set(self.results(parent.info.run_id).count()) <= {"ok", "skipped"}

    def _children(self, parent_id: str) -> list[Run]:
        return list(self._runs(f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{parent_id}'"))

    def _newest_parent(self) -> Run | None:
        return next(self._runs(f"tags.`{KIND}` = 'matrix'"), None)

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

    def _description(self, parent: Run) -> dict[str, Any] | None:
        """The matrix as it was planned; None where a kill came first, or somebody deleted it."""
        content = self._download(parent.info.run_id, DESCRIPTION)
        return None if content is None else json.loads(content)

    def _download(self, run_id: str, path: str) -> bytes | None:
        with tempfile.TemporaryDirectory() as folder:
            try:
                return Path(self._client.download_artifacts(run_id, path, folder)).read_bytes()
            except (MlflowException, OSError):  # never written, or deleted by hand
                return None


def newest_experiment(uri: str | None) -> str:
    """Name of the experiment in which a matrix was started last; the default data set's when there is none."""
    checked = store_uri(uri)
    check_answers(checked, must_exist=True)
    client = MlflowClient(checked)
    try:
        experiments = {experiment.experiment_id: experiment.name for experiment in client.search_experiments()}
        runs = client.search_runs(
            list(experiments), f"tags.`{KIND}` = 'matrix'", max_results=1, order_by=["attributes.start_time DESC"]
        )
    except MlflowException as error:
        raise AebenchError(f"the tracking store {checked} cannot be used: {one_line(error)}") from error
    return experiments[runs[0].info.experiment_id] if runs else "aebench-digits"


def _cell_result(cell: Mapping[str, Any], run: Run | None) -> CellResult:
    prefix = f"cell.{cell['task']}"
    tags = run.data.tags if run is not None else {}
    status = tags.get(f"{prefix}.status", "pending")
    metrics: dict[str, float] = {}
    if run is not None and status == "ok":
        finite, others = _results_of(cell["task"], run)
        metrics = dict(finite) | {name: float(value) for name, value in others.items()}
    reason = None if status == "ok" else tags.get(f"{prefix}.reason")  # an earlier failure's reason may linger
    return CellResult(cell["model"], cell["task"], cell["seed"], status, reason, metrics)


def _results_of(task: str, run: Run) -> tuple[dict[str, float], dict[str, str]]:
    """A task's finite metrics, and its non-finite ones as text."""
    prefix = f"{task}."
    finite = {key.removeprefix(prefix): value for key, value in run.data.metrics.items() if key.startswith(prefix)}
    others = {key.removeprefix(prefix): value for key, value in run.data.tags.items() if key.startswith(prefix)}
    return finite, others


def _task_of_hash_tag(key: str) -> str | None:
    return (
        key.removeprefix("cell.").removesuffix(".hash") if key.startswith("cell.") and key.endswith(".hash") else None
    )
