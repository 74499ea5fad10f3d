"""Stores written by earlier versions stay readable: what they held, put into a new store, is shown as it was then."""

import json
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from aebench.errors import AebenchError
from aebench.report.tables import markdown_table
from aebench.results.description import LAYOUT
from aebench.tracking import Store

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture
def restore(mlflow_store, new_experiment):
    """restore(held): a store with an experiment that holds what `held` describes."""

    def restore(held):
        client = MlflowClient(mlflow_store)
        experiment, experiment_id = new_experiment()

        def run(content, **tags):
            run_id = client.create_run(experiment_id, tags=content["tags"] | tags).info.run_id
            client.log_batch(run_id, [Metric(name, value, 0, 0) for name, value in content.get("metrics", {}).items()])
            client.set_terminated(run_id, content["status"])
            return run_id

        parent = run(held["parent"])
        client.log_dict(parent, held["description"], "matrix.json")
        for child in held["children"]:
            run(child, **{MLFLOW_PARENT_RUN_ID: parent})
        return Store(mlflow_store, experiment)

    return restore


@pytest.mark.parametrize("layout", range(1, LAYOUT + 1))
def test_results_of_every_layout_can_be_read(restore, layout):
    held = json.loads((GOLDEN / f"store_layout_{layout}.json").read_text())
    assert held["description"]["layout"] == layout
    results = restore(held).results()
    as_json = results.to_json()
    assert {key: as_json[key] for key in held["results"]} == held["results"]
    assert "| shallow | 42.32 ± 3.2 (1) | – |" in markdown_table(results)


def test_a_layout_yet_to_come_is_refused(restore):
    held = json.loads((GOLDEN / f"store_layout_{LAYOUT}.json").read_text())
    held["description"]["layout"] = LAYOUT + 1
    with pytest.raises(AebenchError, match=rf"newer aebench \(layout {LAYOUT + 1}, this one reads up to {LAYOUT}\)"):
        restore(held).results()
