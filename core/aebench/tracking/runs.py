"""Creates and reopens the runs of one experiment, and writes updates to runs in batches."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from mlflow import MlflowClient
from mlflow.entities import Param, RunTag

from aebench.contracts import DatasetInfo
from aebench.errors import one_line
from aebench.execution.artifacts import ArtifactDamaged, ArtifactStore
from aebench.execution.liveness import this_process
from aebench.tracking import schema
from aebench.tracking.artifacts import log_files
from aebench.tracking.logged_models import log_exported_model
from aebench.tracking.store_errors import is_refused, is_temporary
from aebench.tracking.updates import ExportedModel, RunUpdate

T = TypeVar("T")


class Runs:
    """The runs of one experiment.

    Args:
        client: of the tracking store.
        experiment_id: where runs are created.

    Attributes:
        open: ids of the runs that this process has created or reopened.
    """

    def __init__(self, client: MlflowClient, experiment_id: str) -> None:
        self._client = client
        self._experiment_id = experiment_id
        self.open: set[str] = set()

    def create(self, name: str, tags: Mapping[str, str], params: Mapping[str, Any]) -> str:
        """Create a run with these tags and parameters; returns its id."""
        all_tags = {**tags, **schema.run_tags(this_process())}
        run_id: str = self._client.create_run(self._experiment_id, run_name=name, tags=all_tags).info.run_id
        self.open.add(run_id)
        self._log_params(run_id, params)
        return run_id

    def reopen(self, run_id: str) -> None:
        """Continue a run that has ended."""
        self.open.add(run_id)
        self._client.update_run(run_id, status="RUNNING")
        self._client.set_tag(run_id, schema.PROCESS, this_process())

    def log_json(self, run_id: str, file: str, value: Any) -> None:
        self._client.log_dict(run_id, value, file)

    def log_dataset(self, run_id: str, info: DatasetInfo) -> None:
        self._client.log_inputs(run_id, [schema.dataset_input(info)])

    def _log_params(self, run_id: str, params: Mapping[str, Any]) -> None:
        as_params = [Param(key, str(value)) for key, value in params.items()]
        for batch in _batches(as_params, schema.PARAMS_PER_BATCH):
            self._client.log_batch(run_id, params=batch)


def apply_update(client: MlflowClient, update: RunUpdate, artifacts: ArtifactStore) -> None:
    """Write an update: files first, then the model, metrics, tags in their order, and the end of the run.

    A file that is damaged is left out; the metrics do not depend on it, and weights without a file are trained again.
    A model that is damaged, or that the store does not take, costs nothing else; its tag says why.

    Args:
        client: of the tracking store.
        update: what to write.
        artifacts: have the files of the update.

    Raises:
        Exception: whatever the store raises.
    """
    run_id = update.run_id
    files = {}
    for path, ref in update.files.items():
        with contextlib.suppress(ArtifactDamaged):
            files[path] = artifacts.path(ref)
    log_files(client, run_id, files)
    tags = dict(update.tags)
    if update.model is not None:
        tags[update.model.tag] = _log_model(client, run_id, update.model, artifacts)
    for metrics in _batches(update.metrics, schema.METRICS_PER_BATCH):
        client.log_batch(run_id, metrics=metrics)
    for batch in _batches([RunTag(key, value) for key, value in tags.items()], schema.TAGS_PER_BATCH):
        client.log_batch(run_id, tags=batch)
    if update.end is not None:
        client.set_terminated(run_id, update.end, update.time)


def _log_model(client: MlflowClient, run_id: str, model: ExportedModel, artifacts: ArtifactStore) -> str:
    """Log a model; return the value of its tag."""
    try:
        log_exported_model(client, run_id, model, artifacts.path(model.program))
    except Exception as error:
        if is_temporary(error) or is_refused(error):
            raise
        return one_line(error)
    return schema.MODEL_LOGGED


def _batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (items[start : start + size] for start in range(0, len(items), size))
