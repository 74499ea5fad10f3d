"""Stores written by earlier versions stay readable: what they held, put into a new store, is shown as it was then."""

import json
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from aebench.errors import AebenchError
from aebench.results.matrix import LAYOUT
from aebench.tracking import Store

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture
def restore(tmp_path):
    """restore(held): a store with an experiment as `held` describes it."""

    def restore(held):
        uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
        client = MlflowClient(uri)
        experiment = client.create_experiment(held["experiment"], artifact_location=(tmp_path / "artifacts").as_uri())

        def run(content, **tags):
            run_id = client.create_run(experiment, tags=content["tags"] | tags).info.run_id
            for name, value in content.get("metrics", {}).items():
                client.log_metric(run_id, name, value)
            client.set_terminated(run_id, content["status"])
            return run_id

        parent = run(held["parent"])
        client.log_dict(parent, held["description"], "matrix.json")
        for child in held["children"]:
            run(child, **{MLFLOW_PARENT_RUN_ID: parent})
        return Store(uri, held["experiment"])

    return restore


@pytest.mark.parametrize("layout", range(1, LAYOUT + 1))
def test_results_of_every_layout_can_be_read(restore, layout):
    held = json.loads((GOLDEN / f"store_layout_{layout}.json").read_text())
    assert held["description"]["layout"] == layout
    results = restore(held).results()
    as_json = results.to_json()
    assert {key: as_json[key] for key in held["results"]} == held["results"]
    assert "| shallow | 42.32 ± 3.2 (1) | – |" in results.to_markdown()


def test_a_layout_yet_to_come_is_refused(restore):
    held = json.loads((GOLDEN / f"store_layout_{LAYOUT}.json").read_text())
    held["description"]["layout"] = LAYOUT + 1
    with pytest.raises(AebenchError, match=rf"newer aebench \(layout {LAYOUT + 1}, this one reads up to {LAYOUT}\)"):
        restore(held).results()
