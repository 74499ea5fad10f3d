"""What a table says about a matrix."""

import io

import pytest
from rich.console import Console

from aebench.execution.work import CellDone, EpochDone, Postponed, Started, Unit
from aebench.report.progress import RunProgress, results_table
from aebench.results.matrix import CellResult, MatrixResults, MetricInfo, TaskInfo, describe, tasks_of
from aebench.training.trainer import EpochLosses

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
        "| a | 105 ± 64 (1) | 0.850 ± 0.64 |",
        "| b | 93 ± 38 (1) | – |",
        "| c | failed | pending |",
    ]


def test_the_printed_table_says_why(results):
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(results_table(results))
    text = console.export_text()
    for expected in (
        "105 ± 64 (1)",
        "bce ↓ [nats/image]",
        "skipped  high: b cannot",
        "failed   c × low, seed 0: no luck",
    ):
        assert expected in text
    assert "2 pending" in text


def _results(cells, models=("a", "b"), **more):
    return MatrixResults("0123", "digits", models, (LOW,), tuple(cells), **more)


def _low(model, seed, bce, **more):
    return CellResult(model, "low", seed, "ok", None, {"bce": bce}, **more)


def _printed(results):
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(results_table(results))
    return console.export_text()


def test_one_seed_tells_nothing_apart():
    results = _results([_low("a", 0, 1.0), _low("b", 0, 2.0)])
    assert "| a | 1 |" in results.to_markdown()
    assert "no two models can be told apart" in _printed(results)
    assert results.to_json()["rankings"]["low"]["groups"] == []


def test_places_are_shared_by_those_who_cannot_be_told_apart():
    values = {"a": (3.0, 3.1, 3.2), "b": (1.0, 1.2, 1.1), "c": (1.1, 1.1, 1.2)}
    cells = [_low(model, seed, bce) for model, row in values.items() for seed, bce in enumerate(row)]
    results = _results(cells, ("a", "b", "c"))
    assert [results.entry(model, LOW)[-3:] for model in "abc"] == ["(3)", "(1)", "(1)"]
    assert [results.is_best(model, LOW) for model in "abc"] == [False, True, True]
    ranking = results.to_json()["rankings"]["low"]
    assert [entry["model"] for entry in ranking["models"]] == ["b", "c", "a"]
    assert ranking["groups"] == [["b", "c"], ["a"]]
    assert ranking["models"][0]["low"] < ranking["models"][0]["mean"] == pytest.approx(1.1)


def test_a_baseline_is_shown_last_and_not_ranked():
    cells = [_low(model, seed, bce + 0.01 * seed) for model, bce in (("floor", 0.0), ("b", 2.0)) for seed in range(3)]
    results = _results([*cells, *(_low("c", seed, 3.0 + 0.02 * seed) for seed in range(3))], ("floor", "b", "c"))
    assert results.entry("floor", LOW).endswith("(1)")
    below = _results(results.cells, results.models, baselines=frozenset({"floor"}))
    assert below.rows == ("b", "c", "floor")
    assert not below.is_best("floor", LOW)
    assert below.is_best("b", LOW)
    assert "floor (baseline)" in _printed(below).splitlines()[-4]
    assert "(1)" not in below.entry("floor", LOW)


def test_held_out_classes_are_averaged_within_a_seed():
    cells = [_low("a", seed, bce, held_out=held_out) for seed, held_out, bce in ((0, 1, 1.0), (0, 7, 3.0), (1, 1, 5.0))]
    assert _results(cells).by_seed("a", "low", "bce") == {0: 2.0, 1: 5.0}
    lacking = [*cells, CellResult("a", "low", 1, "failed", "no luck", held_out=7)]
    assert _results(lacking).by_seed("a", "low", "bce") == {0: 2.0}
    assert _results(lacking).entry("a", LOW) == "failed"
    assert _results(lacking).to_json()["cells"][1]["held_out"] == 7


def test_an_absent_metric_says_why():
    results = _results([CellResult("a", "low", 0, "ok", None, {}, {"bce": "too few"}), _low("b", 0, float("nan"))])
    assert results.entry("a", LOW) == "absent"
    assert "absent   low.bce: too few" in _printed(results)
    first, second = results.to_json()["cells"]
    assert first["absent"] == {"bce": "too few"}
    assert second["metrics"] == {"bce": None}
    assert results.ranking(LOW) is None


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
        progress._live._live.refresh()
        progress.update(Postponed(unit.training, "out of memory"))
        progress.update(Started(unit.training))
        progress.update(EpochDone(unit.training, EpochLosses(3, "end to end", 87.654, 80.0, 7.654, 99.0)))
        progress._live._live.refresh()
        assert progress._live._epochs_left == {unit.training: 48}  # nothing is counted twice
        progress.update(CellDone(plan.cells[0], "ok"))
        progress.update(CellDone(plan.cells[1], "failed", reason="no luck"))
        assert progress._live._work_left == 0
        assert not progress._live._bars
    shown = console.file.getvalue()
    for text in ("2 cells, 0 skipped, 3 already done; 2 to do, with 1 trainings", "2/2", "failed   vae × sampling"):
        assert text in shown
    for text in ("vae · general · seed 0", "epoch 12, loss 98.77", "epoch 3, loss 87.65", "again    vae"):
        assert text in shown
