"""Creates, reopens and closes the runs of one experiment, and writes to them in batches."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag

from aebench.contracts import DatasetInfo
from aebench.tracking import schema
from aebench.tracking.artifacts import log_files
from aebench.tracking.liveness import this_process

T = TypeVar("T")


class RunEnd(StrEnum):
    """How a run ended, in MLflow's words."""

    FINISHED = "FINISHED"
    FAILED = "FAILED"
    KILLED = "KILLED"


class Runs:
    """The runs of one experiment that this process has open.

    Args:
        client: of the tracking store.
        experiment_id: where runs are created.
    """

    def __init__(self, client: MlflowClient, experiment_id: str) -> None:
        self._client = client
        self._experiment_id = experiment_id
        self._open: set[str] = set()

    def create(self, name: str, tags: Mapping[str, str], params: Mapping[str, Any]) -> str:
        """Create a run with these tags and parameters; returns its id."""
        all_tags = {**tags, **schema.run_tags(this_process())}
        run_id: str = self._client.create_run(self._experiment_id, run_name=name, tags=all_tags).info.run_id
        self._open.add(run_id)
        self.log(run_id, params=params)
        return run_id

    def reopen(self, run_id: str) -> None:
        """Continue a run that has ended."""
        self._open.add(run_id)
        self._client.update_run(run_id, status="RUNNING")
        self._client.set_tag(run_id, schema.PROCESS, this_process())

    def close(self, run_id: str, end: RunEnd) -> None:
        self._client.set_terminated(run_id, end)
        self._open.discard(run_id)

    def close_all(self, end: RunEnd) -> None:
        """Close every run that is still open."""
        for run_id in tuple(self._open):
            self.close(run_id, end)

    def log(
        self,
        run_id: str,
        metrics: Iterable[Metric] | Mapping[str, float] = (),
        params: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Write finite metrics first, then parameters, then tags in their order."""
        if isinstance(metrics, Mapping):
            now = milliseconds()
            metrics = [Metric(key, value, now, 0) for key, value in metrics.items()]
        for metric_batch in _batches(list(metrics), schema.METRICS_PER_BATCH):
            self._client.log_batch(run_id, metrics=metric_batch)
        as_params = [Param(key, str(value)) for key, value in (params or {}).items()]
        for param_batch in _batches(as_params, schema.PARAMS_PER_BATCH):
            self._client.log_batch(run_id, params=param_batch)
        as_tags = [RunTag(key, value) for key, value in (tags or {}).items()]
        for tag_batch in _batches(as_tags, schema.TAGS_PER_BATCH):
            self._client.log_batch(run_id, tags=tag_batch)

    def log_files(self, run_id: str, folder: str, files: Mapping[str, Path | bytes]) -> None:
        """Log local files, or contents, under these names in a folder of the run."""
        log_files(self._client, run_id, folder, files)

    def log_json(self, run_id: str, file: str, value: Any) -> None:
        self._client.log_dict(run_id, value, file)

    def log_dataset(self, run_id: str, info: DatasetInfo) -> None:
        self._client.log_inputs(run_id, [schema.dataset_input(info)])


def milliseconds() -> int:
    """Milliseconds since the epoch, as MLflow counts."""
    return int(time.time() * 1000)


def _batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (items[start : start + size] for start in range(0, len(items), size))
