"""What one event adds to a run, in a form that can be kept in a file and delivered later."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Self

from mlflow.entities import Metric

from aebench.execution.artifacts import Ref


class RunEnd(StrEnum):
    """How a run ended, in MLflow's words."""

    FINISHED = "FINISHED"
    FAILED = "FAILED"
    KILLED = "KILLED"


def milliseconds() -> int:
    """Milliseconds since the epoch, as MLflow counts."""
    return int(time.time() * 1000)


def metrics_now(values: Mapping[str, float]) -> list[Metric]:
    """Metrics with these finite values, at this moment and step 0."""
    now = milliseconds()
    return [Metric(key, value, now, 0) for key, value in values.items()]


@dataclass(frozen=True)
class ExportedModel:
    """A trained model as a program that runs without its plugin.

    Attributes:
        name: of the model in its run: letters, digits and underscores.
        program: in the format pt2.
        input_shape: (C, H, W) of one image.
        params: by key, to find it by.
        tag: of the run, which says that the model is logged, or why not.
    """

    name: str
    program: Ref
    input_shape: tuple[int, int, int]
    params: Mapping[str, str]
    tag: str


@dataclass(frozen=True)
class RunUpdate:
    """What is added to one run. Adding it twice leaves the run as adding it once.

    Attributes:
        run_id: the run.
        metrics: finite values with their times and steps.
        params: by key.
        tags: written in their order, after everything else.
        files: artifacts, by path in the run.
        model: logged as the run's output; None without one.
        end: how the run ends with this update; None if it goes on.
        time: of the update, in milliseconds since the epoch.
    """

    run_id: str
    metrics: tuple[Metric, ...] = ()
    params: Mapping[str, Any] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, Ref] = field(default_factory=dict)
    model: ExportedModel | None = None
    end: RunEnd | None = None
    time: int = field(default_factory=milliseconds)

    def to_json(self) -> dict[str, Any]:
        """The update as JSON values."""
        return {
            "run_id": self.run_id,
            "metrics": [[metric.key, metric.value, metric.timestamp, metric.step] for metric in self.metrics],
            "params": {key: str(value) for key, value in self.params.items()},
            "tags": dict(self.tags),
            "files": {path: ref.digest for path, ref in self.files.items()},
            "model": None if self.model is None else asdict(self.model),
            "end": self.end,
            "time": self.time,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The update that `to_json` described."""
        return cls(
            values["run_id"],
            tuple(Metric(*metric) for metric in values["metrics"]),
            values["params"],
            values["tags"],
            {path: Ref(digest) for path, digest in values["files"].items()},
            _model(values.get("model")),
            None if values["end"] is None else RunEnd(values["end"]),
            values["time"],
        )


def _model(values: Mapping[str, Any] | None) -> ExportedModel | None:
    if values is None:
        return None
    program, shape = Ref(values["program"]["digest"]), tuple(values["input_shape"])
    return ExportedModel(values["name"], program, shape, values["params"], values["tag"])


def files_in(folder: str, files: Iterable[tuple[str, Ref]]) -> dict[str, Ref]:
    """Artifacts by path in a run, whose names are in one folder of it."""
    return {f"{folder}/{name}": ref for name, ref in files}
