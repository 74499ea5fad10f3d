"""What several unit tests of results and their store share."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from aebench.contracts import Capability, ImageDataset
from aebench.planning.benchmark import load_benchmark
from aebench.planning.planner import Plan, plan
from aebench.registry.records import Registry


@pytest.fixture
def with_drawing(registry: Registry) -> Registry:
    """All that is installed, and a task `drawing` for models with a prior."""
    reconstruction = registry.task("reconstruction")
    record = reconstruction.record.model_copy(
        update={"name": "drawing", "title": "Drawing", "requires": frozenset({Capability.SAMPLE})}
    )
    return replace(registry, tasks={**registry.tasks, "drawing": replace(reconstruction, record=record)})


@pytest.fixture
def rotation(with_drawing: Registry, digits: ImageDataset) -> Plan:
    """Two models, one of which skips a task, with two classes held out one after another."""
    overrides = {
        ("models",): ["vae", "shallow"],
        ("tasks",): ["drawing", "anomaly_detection"],
        ("profiles",): {"anomaly": {"latent_dim": 2, "held_out": [1, 7]}},
    }
    return plan(load_benchmark(with_drawing, None, overrides), digits.info)


@pytest.fixture(scope="session")
def mlflow_store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URI of a SQLite store; making one takes seconds, so there is one per session."""
    from mlflow import MlflowClient

    folder = tmp_path_factory.mktemp("mlflow")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)  # where MLflow makes its default folder of artifacts
        MlflowClient(uri).search_experiments()
    return uri


_numbers = itertools.count()


@pytest.fixture
def new_experiment(mlflow_store: str, tmp_path: Path) -> Callable[[], tuple[str, str]]:
    """new_experiment(): name and id of an empty experiment in the store, with its artifacts in tmp_path."""
    from mlflow import MlflowClient

    def new_experiment() -> tuple[str, str]:
        name = f"experiment-{next(_numbers)}"
        location = (tmp_path / "artifacts").as_uri()
        return name, MlflowClient(mlflow_store).create_experiment(name, artifact_location=location)

    return new_experiment
