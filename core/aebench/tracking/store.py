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

from aebench.errors import AebenchError, one_line
from aebench.planning.planner import Plan
from aebench.planning.specs import EvaluationSpec, TrainingSpec
from aebench.report.diagrams import critical_difference
from aebench.results.matrix import LAYOUT, CellResult, MatrixResults, Values, Variant, tasks_of
from aebench.tracking.connection import check_answers, store_uri
from aebench.tracking.liveness import is_alive
from aebench.tracking.writer import DESCRIPTION, KIND, LONGEST_TAG, PROCESS, MatrixRun

TRAINING_KIND = {"mlflow.experimentKind": "custom_model_development"}  # the UI then opens with runs, not traces


@dataclass(frozen=True)
class Finished:
    """A cell that `run_id` holds as `ok`; `origin` is the run that computed it and has its pictures."""

    run_id: str
    origin: str
    values: Values


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

    def finished(self, cells: Iterable[EvaluationSpec]) -> dict[str, Finished]:
        """Cells by hash that are already `ok` somewhere in the experiment."""
        wanted = {cell.hash for cell in cells}
        found: dict[str, Finished] = {}
        for run in self._runs(f"tags.`{KIND}` = 'model'"):
            tags = run.data.tags
            for key, value in tags.items():
                cell = _between("cell.", key, ".hash")
                if cell is None or value not in wanted or tags.get(f"cell.{cell}.status") != "ok":
                    continue
                origin = tags.get(f"cell.{cell}.from_run", run.info.run_id)
                found.setdefault(value, Finished(run.info.run_id, origin, _values_of(cell, run)))
        return found

    def weights(self, trainings: Iterable[TrainingSpec]) -> dict[str, bytes]:
        """Safetensors by training hash, for the trainings whose weights are already in the store."""
        wanted = {training.hash for training in trainings}
        found: dict[str, bytes] = {}
        for run in self._runs(f"tags.`{KIND}` = 'model'"):
            for key, value in run.data.tags.items():
                slot = _between("training.", key, ".hash")
                if slot is not None and value in wanted - set(found):
                    content = self._download(run.info.run_id, f"weights/{slot}.safetensors")
                    if content is not None:
                        found[value] = content
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
            frozenset(model["label"] for model in description["models"] if model.get("baseline")),
            {model["label"]: Variant(model["name"], model["params"]) for model in description["models"]},
        )

    def describe(self, parent_id: str, results: MatrixResults) -> None:
        """Show the table of results as the description of a matrix's run, and who can be told from whom in pictures."""
        self._client.set_tag(parent_id, MLFLOW_RUN_NOTE, results.to_markdown()[:LONGEST_TAG])
        for task in results.tasks if results.is_repeated else ():
            ranking = results.ranking(task)
            if ranking is not None:
                figure = critical_difference(results, task, ranking)
                self._client.log_figure(parent_id, figure, f"rankings/{task.name}.png")

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
    held_out = cell.get("held_out")
    key = cell["task"] if held_out is None else f"{cell['task']}.without_{held_out}"
    tags = run.data.tags if run is not None else {}
    status = tags.get(f"cell.{key}.status", "pending")
    values = _values_of(key, run) if run is not None and status == "ok" else Values()
    reason = None if status == "ok" else tags.get(f"cell.{key}.reason")  # an earlier failure's reason may linger
    return CellResult(
        cell["model"], cell["task"], cell["seed"], status, reason, values.metrics, values.absent, held_out
    )


def _values_of(key: str, run: Run) -> Values:
    """A cell's metrics, those that are not finite among them, and the reasons of those that are absent."""
    absent_prefix = f"cell.{key}.absent."
    metrics: dict[str, float] = {}
    recorded: dict[str, float | str] = {**run.data.tags, **run.data.metrics}
    for name, value in recorded.items():
        metric = name.removeprefix(f"{key}.")
        if metric != name and "." not in metric:
            metrics[metric] = float(value)
    tags = run.data.tags.items()
    absent = {name.removeprefix(absent_prefix): reason for name, reason in tags if name.startswith(absent_prefix)}
    return Values(metrics, absent)


def _between(prefix: str, text: str, suffix: str) -> str | None:
    return text[len(prefix) : -len(suffix)] if text.startswith(prefix) and text.endswith(suffix) else None
