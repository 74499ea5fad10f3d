"""What several unit tests of results and their store share."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from aebench.planning.planner import Plan


@pytest.fixture
def rotation(lay_out: Callable[..., Plan]) -> Plan:
    """Two models, one of which skips a task, with two classes held out one after another."""
    return lay_out(
        models=["vae", "shallow"],
        tasks=["sampling", "anomaly_detection"],
        profiles={"anomaly": {"latent_dim": 2, "held_out": [1, 7]}},
    )


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
