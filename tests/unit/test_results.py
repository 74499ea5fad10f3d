"""What a table says about a matrix."""

import io

import pytest
from rich.console import Console

from aebench.display import RunProgress, results_table
from aebench.results import CellResult, MatrixResults, MetricInfo, TaskInfo, describe, tasks_of
from aebench.training import EpochLosses
from aebench.work import CellDone, EpochDone, Started, Unit

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


def test_live_progress_shows_cells_trainings_losses_and_time_left(lay_out):
    plan = lay_out(models=["vae"], tasks=["reconstruction", "sampling"])
    unit = Unit(plan.trainings[0], plan.cells)
    console = Console(width=100, force_terminal=True, file=io.StringIO())
    with RunProgress(console) as progress:
        progress.begin(plan, [unit], reused=3)
        progress.update(Started(unit.training))
        progress.update(EpochDone(unit.training, EpochLosses(12, "end to end", 98.765, 90.0, 8.765, 99.0)))
        progress.update(CellDone(plan.cells[0], "ok"))
        progress.update(CellDone(plan.cells[1], "failed", reason="no luck"))
    shown = console.file.getvalue()
    for text in ("2 cells, 0 skipped, 3 already done; 2 to do, with 1 trainings", "2/2", "failed   vae × sampling"):
        assert text in shown
    for text in ("vae · general · seed 0", "epoch 12, loss 98.77"):
        assert text in shown
