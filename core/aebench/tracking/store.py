"""One experiment in an MLflow store: what it holds, and where a new matrix is opened."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Experiment, Run, ViewType
from mlflow.exceptions import MlflowException

from aebench.errors import AebenchError, one_line
from aebench.execution.artifacts import Ref
from aebench.execution.liveness import is_alive
from aebench.planning.cells import Status
from aebench.planning.planner import Plan
from aebench.planning.specs import EvaluationSpec
from aebench.results.description import results_of
from aebench.results.matrix import MatrixResults
from aebench.tracking import schema
from aebench.tracking.artifacts import log_files, read_file
from aebench.tracking.connection import check_answers, check_experiment, hide_mlflow_messages, resolved, store_uri
from aebench.tracking.delivery import Delivery
from aebench.tracking.journal import Journal
from aebench.tracking.retries import Note, retries_of_store, retrying_client
from aebench.tracking.runs import Runs, apply_update
from aebench.tracking.schema import Kind, StoredCell
from aebench.tracking.updates import RunEnd
from aebench.tracking.writer import MatrixRun

R = TypeVar("R")


class Store:
    """The results of one experiment in one MLflow tracking store.

    Args:
        uri: the tracking URI; None for MLFLOW_TRACKING_URI or MLflow's own default.
        experiment: name of the experiment, created with the first matrix.
        note: prints a line, while the store is waited for.

    Raises:
        AebenchError: the store does not answer, or cannot be one, or the experiment cannot have this name.
    """

    def __init__(self, uri: str | None, experiment: str, note: Note = lambda line: None) -> None:
        check_experiment(experiment)
        hide_mlflow_messages()
        self.uri = store_uri(uri)
        check_answers(self.uri)
        mlflow.set_tracking_uri(self.uri)
        self.experiment = experiment
        self._note = note
        try:
            self._direct = MlflowClient()
            self._client = retrying_client(self._direct, retries_of_store(self.uri, note))
            self._found: Experiment | None = None
            existing = self._existing
        except MlflowException as error:
            raise AebenchError(f"the tracking store {self.uri} cannot be used: {one_line(error)}") from error
        if existing is not None and existing.lifecycle_stage != "active":
            raise AebenchError(
                f"experiment '{experiment}' was deleted; restore it in the MLflow UI, or choose another (--experiment)"
            )

    @property
    def identity(self) -> str:
        """Identifies the store, whatever the working directory."""
        return resolved(self.uri)

    def delivery(self, journal: Journal) -> Delivery:
        """Delivers a journal to this store."""
        return Delivery(
            journal, lambda update: apply_update(self._direct, update, journal.artifacts), self.uri, self._note
        )

    def close_dead_runs(self) -> int:
        """Mark as KILLED the runs whose process died and left them RUNNING; returns how many there were."""
        dead = [run for run in self._search(schema.RUNNING) if not is_alive(run.data.tags.get(schema.PROCESS))]
        for run in dead:
            self._client.set_terminated(run.info.run_id, RunEnd.KILLED)
        return len(dead)

    def finished(self, cells: Iterable[EvaluationSpec]) -> dict[str, StoredCell]:
        """Cells by hash that are already `ok` anywhere in the experiment, the newest of each."""
        wanted = {cell.hash for cell in cells}
        found: dict[str, StoredCell] = {}
        for run in self._search(schema.of_kind(Kind.MODEL)):
            for cell in schema.read_cells(run).values():
                if cell.hash in wanted and cell.result.status is Status.OK:
                    found.setdefault(cell.hash, cell)
        return found

    def copy_weights(self, hashes: Iterable[str], put: Callable[[bytes], R]) -> dict[str, R]:
        """Hand the weights of trainings over, one at a time, so that never all of them are in memory.

        Args:
            hashes: of the trainings that are wanted.
            put: called with the weights of each training in the store, as safetensors.

        Returns:
            What `put` returned, by hash of the training; a training whose weights are missing or damaged is left out.
        """
        wanted = set(hashes)
        copied: dict[str, R] = {}
        for run in self._search(schema.of_kind(Kind.MODEL)):
            for key, training_hash in schema.training_hashes(run).items():
                if training_hash in wanted and training_hash not in copied:
                    path = f"{schema.WEIGHTS_FOLDER}/{schema.weights_name(key)}"
                    weights, digest = read_file(self._client, run.info.run_id, path), schema.weights_digest(run, key)
                    if weights is not None and Ref.of(weights).digest == digest:
                        copied[training_hash] = put(weights)
                    elif weights is not None:
                        self._note(f"the weights of {run.info.run_name} ({key}) are damaged; it is trained again")
            if len(copied) == len(wanted):
                break
        return copied

    def open_matrix(self, plan: Plan, journal: Journal, *, new: bool) -> MatrixRun:
        """The run that collects a matrix's results: an interrupted one of the same matrix goes on, unless `new`."""
        experiment = self._existing or self._create_experiment()
        # Models are logged under the experiment that the fluent interface points at.
        mlflow.set_experiment(experiment_id=experiment.experiment_id)
        runs = Runs(self._client, experiment.experiment_id)
        newest, delivery = None if new else self._newest_parent(), self.delivery(journal)
        if newest is None or not _is_of(plan, newest) or newest.info.status == "RUNNING":
            return MatrixRun(runs, plan, delivery)
        children = {schema.row_of(run): run.info.run_id for run in self._children(newest)}
        return MatrixRun(runs, plan, delivery, newest.info.run_id, children)

    @property
    def _existing(self) -> Experiment | None:
        """The experiment; None until this process or another one has created it."""
        if self._found is None:
            self._found = self._client.get_experiment_by_name(self.experiment)
        return self._found

    def _create_experiment(self) -> Experiment:
        try:
            return self._client.get_experiment(
                self._client.create_experiment(self.experiment, tags=schema.TRAINING_EXPERIMENT)
            )
        except MlflowException as error:
            existing = self._client.get_experiment_by_name(self.experiment)
            if existing is None:
                raise AebenchError(f"experiment '{self.experiment}' cannot be created: {one_line(error)}") from error
            return existing  # another process has just created it

    def results(self, parent_id: str | None = None) -> MatrixResults:
        """The newest matrix of the experiment, or the one under this run.

        Raises:
            AebenchError: there is none, or this version cannot read it.
        """
        parent = self._client.get_run(parent_id) if parent_id else self._newest_parent()
        if parent is None:
            raise AebenchError(
                f"no results in experiment '{self.experiment}' of {self.uri}; 'aebench run' creates them"
            )
        description = self._description(parent)
        if description is None:
            raise AebenchError(
                f"run {parent.info.run_id} of '{self.experiment}' has no {schema.DESCRIPTION_FILE}: "
                "run the matrix again"
            )
        found = {
            (*schema.row_of(run), key): cell.result
            for run in self._children(parent)
            for key, cell in schema.read_cells(run).items()
        }
        try:
            return results_of(description, found)
        except AebenchError as error:
            raise AebenchError(f"experiment '{self.experiment}': {error}") from error

    def describe(self, parent_id: str, note: str, rankings: Mapping[str, bytes]) -> None:
        """Show `note`, in Markdown, as the description of a matrix's run, and keep diagrams of its rankings by name."""
        self._client.set_tag(parent_id, schema.NOTE, note[: schema.LONGEST_TAG])
        files = {f"{schema.RANKINGS_FOLDER}/{name}": content for name, content in rankings.items()}
        log_files(self._client, parent_id, files)

    def holds(self, plan: Plan) -> bool:
        """Whether the newest matrix is this one, has ended well, and has every cell `ok` or skipped."""
        parent = self._newest_parent()
        if parent is None or not _is_of(plan, parent) or parent.info.status != RunEnd.FINISHED:
            return False
        if self._description(parent) is None:
            return False
        return set(self.results(parent.info.run_id).count()) <= {Status.OK, Status.SKIPPED}

    def _children(self, parent: Run) -> Iterator[Run]:
        return self._search(schema.children_of(parent.info.run_id))

    def _newest_parent(self) -> Run | None:
        return next(self._search(schema.of_kind(Kind.MATRIX)), None)

    def _search(self, filter_string: str) -> Iterator[Run]:
        """The experiment's runs, newest first."""
        token = None
        experiment = self._existing
        while experiment is not None:
            page = self._client.search_runs(
                [experiment.experiment_id],
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
        """The matrix as it was planned; None if the run was killed before it was written, or it was deleted."""
        content = read_file(self._client, parent.info.run_id, schema.DESCRIPTION_FILE)
        try:
            description: dict[str, Any] | None = None if content is None else json.loads(content)
        except ValueError:  # truncated
            return None
        return description


def newest_experiment(uri: str | None) -> str:
    """Name of the experiment in which a matrix was started last; the default data set's when there is none."""
    checked = store_uri(uri)
    check_answers(checked)
    client = MlflowClient(checked)
    try:
        experiments = {experiment.experiment_id: experiment.name for experiment in client.search_experiments()}
        runs = client.search_runs(
            list(experiments), schema.of_kind(Kind.MATRIX), max_results=1, order_by=["attributes.start_time DESC"]
        )
    except MlflowException as error:
        raise AebenchError(f"the tracking store {checked} cannot be used: {one_line(error)}") from error
    return experiments[runs[0].info.experiment_id] if runs else "aebench-digits"


def _is_of(plan: Plan, parent: Run) -> bool:
    return bool(parent.data.tags.get(schema.MATRIX) == plan.matrix)
