"""What a table says about a matrix."""

import io

import pytest
from rich.console import Console

from aebench.display import results_table
from aebench.results import CellResult, MatrixResults, MetricInfo, TaskInfo, describe, tasks_of

LOW = TaskInfo("low", "Low", (MetricInfo("bce", "B", "nats/image", False, True), MetricInfo("x", "X", "", True, False)))
HIGH = TaskInfo("high", "High", (MetricInfo("auroc", "A", "", True, True),))


@pytest.fixture
def results():
    def ok(model, task, seed, **metrics):
        return CellResult(model, task, seed, "ok", None, metrics)

    cells = (
        ok("a", "low", 0, bce=100.0, x=1.0),
        ok("a", "low", 1, bce=110.0, x=9.0),
        ok("b", "low", 0, bce=90.0, x=1.0),
        ok("b", "low", 1, bce=96.0, x=1.0),
        ok("a", "high", 0, auroc=0.9),
        ok("a", "high", 1, auroc=0.8),
        CellResult("b", "high", 0, "skipped", "b cannot"),
        CellResult("b", "high", 1, "skipped", "b cannot"),
        CellResult("c", "low", 0, "failed", "no luck"),
        CellResult("c", "low", 1, "ok", None, {"bce": 1.0}),
        CellResult("c", "high", 0, "pending"),
        CellResult("c", "high", 1, "pending"),
    )
    return MatrixResults("0123", "digits", ("a", "b", "c"), (LOW, HIGH), cells)


def test_markdown(results):
    assert results.to_markdown().splitlines() == [
        "| model | Low<br>bce ↓ [nats/image] | High<br>auroc ↑ |",
        "|---|--:|--:|",
        "| a | 105 ± 7.1 | **0.850 ± 0.071** |",
        "| b | **93 ± 4.2** | – |",
        "| c | failed | pending |",
    ]


def test_the_printed_table_says_why(results):
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(results_table(results))
    text = console.export_text()
    for expected in ("105 ± 7.1", "bce ↓ [nats/image]", "skipped  high: b cannot", "failed   c × low, seed 0: no luck"):
        assert expected in text
    assert "2 pending" in text


def test_json(results):
    as_json = results.to_json()
    assert (as_json["matrix"], as_json["dataset"], len(as_json["cells"])) == ("0123", "digits", 12)
    assert as_json["cells"][0] == {
        "model": "a",
        "task": "low",
        "seed": 0,
        "status": "ok",
        "reason": None,
        "metrics": {"bce": 100.0, "x": 1.0},
    }


def test_a_description_is_enough_to_know_the_tasks(lay_out):
    plan = lay_out(models=["vae"])
    tasks = tasks_of(describe(plan))
    assert [task.name for task in tasks] == [task.label for task in plan.tasks]
    assert tasks[0].primary.name == "auroc"
    assert tasks[0].primary.higher_is_better
