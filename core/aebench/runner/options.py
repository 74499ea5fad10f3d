"""How to run a benchmark."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from aebench.execution.memory import GIGABYTE


@dataclass(frozen=True)
class RunOptions:
    """How to run. No option changes a result, except `device`: each kind of device has its own results.

    Attributes:
        device: auto, cpu, cuda or cuda:N.
        jobs: concurrent trainings; None for the default of the device, see `allocate`.
        data_dir: where data sets are kept.
        work_dir: where a run keeps what must survive its death.
        tracking_uri: None for MLFLOW_TRACKING_URI or MLflow's own default.
        experiment: None for "aebench-<dataset>".
        fresh: run every cell again, also those in the store.
        cell_timeout: seconds that an evaluation, or one epoch of a training, may take.
        checkpoint_every: seconds of work that a training may lose when its process dies.
        worker_memory: GB that a worker process may use; None for an equal share of the machine's memory.
    """

    device: str
    jobs: int | None
    data_dir: Path
    work_dir: Path
    tracking_uri: str | None
    experiment: str | None
    fresh: bool
    cell_timeout: float
    checkpoint_every: float
    worker_memory: float | None

    @property
    def worker_bytes(self) -> int | None:
        """`worker_memory` in bytes."""
        return None if self.worker_memory is None else round(self.worker_memory * GIGABYTE)
