"""What tables and JSON say about a matrix, and how it is described for later readers."""

import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

from aebench.contracts import Gaussian
from aebench.errors import AebenchError
from aebench.planning.cells import CellResult, Status
from aebench.report.tables import entry, markdown_table, results_table
from aebench.results.description import LAYOUT, describe, results_of
from aebench.results.matrix import MatrixResults, MetricInfo, TaskInfo

LOW = TaskInfo("low", "Low", (MetricInfo("bce", "B", "nats/image", False, True), MetricInfo("x", "X", "", True, False)))
HIGH = TaskInfo("high", "High", (MetricInfo("auroc", "A", "", True, True),))


@pytest.fixture
def results():
    def ok(model, task, seed, **metrics):
        return CellResult(model, task, seed, None, Status.OK, metrics=metrics)

    cells = (
        ok("a", "low", 0, bce=100.0, x=1.0),
        ok("a", "low", 1, bce=110.0, x=9.0),
        ok("b", "low", 0, bce=90.0, x=1.0),
        ok("b", "low", 1, bce=96.0, x=1.0),
        ok("a", "high", 0, auroc=0.9),
        ok("a", "high", 1, auroc=0.8),
        CellResult("b", "high", 0, None, Status.SKIPPED, "b cannot"),
        CellResult("b", "high", 1, None, Status.SKIPPED, "b cannot"),
        CellResult("c", "low", 0, None, Status.FAILED, "no luck"),
        CellResult("c", "low", 1, None, Status.OK, metrics={"bce": 1.0}),
        CellResult("c", "high", 0, None, Status.PENDING),
        CellResult("c", "high", 1, None, Status.PENDING),
    )
    return MatrixResults("0123", "digits", ("a", "b", "c"), (LOW, HIGH), cells)


def test_markdown(results):
    assert markdown_table(results).splitlines() == [
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
    assert "likelihood: bernoulli" in text


def test_the_printed_table_names_the_likelihood_with_its_settings(results):
    assert "likelihood: gaussian (sigma 0.1)" in _printed(replace(results, likelihood=Gaussian().model_dump()))


def _results(cells, models=("a", "b"), **more):
    return MatrixResults("0123", "digits", models, (LOW,), tuple(cells), **more)


def _low(model, seed, bce, held_out=None):
    return CellResult(model, "low", seed, held_out, Status.OK, metrics={"bce": bce})


def _printed(results):
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(results_table(results))
    return console.export_text()


def test_one_seed_tells_nothing_apart():
    results = _results([_low("a", 0, 1.0), _low("b", 0, 2.0)])
    assert "| a | 1 |" in markdown_table(results)
    assert "no two models can be told apart" in _printed(results)
    assert results.to_json()["rankings"]["low"]["groups"] == []


def test_places_are_shared_by_those_who_cannot_be_told_apart():
    values = {"a": (3.0, 3.1, 3.2), "b": (1.0, 1.2, 1.1), "c": (1.1, 1.1, 1.2)}
    cells = [_low(model, seed, bce) for model, row in values.items() for seed, bce in enumerate(row)]
    results = _results(cells, ("a", "b", "c"))
    assert [entry(results, model, LOW)[-3:] for model in "abc"] == ["(3)", "(1)", "(1)"]
    assert [results.is_best(model, LOW) for model in "abc"] == [False, True, True]
    assert [line.count("**") for line in markdown_table(results).splitlines()[2:]] == [0, 2, 2]
    ranking = results.to_json()["rankings"]["low"]
    assert [entry["model"] for entry in ranking["models"]] == ["b", "c", "a"]
    assert ranking["groups"] == [["b", "c"], ["a"]]
    assert ranking["models"][0]["low"] < ranking["models"][0]["mean"] == pytest.approx(1.1)


def test_a_baseline_is_shown_last_and_not_ranked():
    cells = [_low(model, seed, bce + 0.01 * seed) for model, bce in (("floor", 0.0), ("b", 2.0)) for seed in range(3)]
    results = _results([*cells, *(_low("c", seed, 3.0 + 0.02 * seed) for seed in range(3))], ("floor", "b", "c"))
    assert entry(results, "floor", LOW).endswith("(1)")
    below = _results(results.cells, results.models, baselines=frozenset({"floor"}))
    assert below.rows == ("b", "c", "floor")
    assert not below.is_best("floor", LOW)
    assert below.is_best("b", LOW)
    assert "floor (baseline)" in [line for line in _printed(below).splitlines() if line.startswith("│")][-1]
    assert "(1)" not in entry(below, "floor", LOW)


def test_held_out_classes_are_averaged_within_a_seed():
    cells = [_low("a", seed, bce, held_out) for seed, held_out, bce in ((0, 1, 1.0), (0, 7, 3.0), (1, 1, 5.0))]
    assert _results(cells).by_seed("a", "low", "bce") == {0: 2.0, 1: 5.0}
    lacking = [*cells, CellResult("a", "low", 1, 7, Status.FAILED, "no luck")]
    assert _results(lacking).by_seed("a", "low", "bce") == {0: 2.0}
    assert entry(_results(lacking), "a", LOW) == "failed"
    assert _results(lacking).to_json()["cells"][1]["held_out"] == 7


def test_an_absent_metric_says_why():
    results = _results(
        [CellResult("a", "low", 0, None, Status.OK, absent={"bce": "too few"}), _low("b", 0, float("nan"))]
    )
    assert entry(results, "a", LOW) == "absent"
    assert "absent   low: bce: too few (a)" in _printed(results)
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


def test_the_json_of_other_cells_says_why_and_leaves_out_what_is_not_there(results):
    by_status = {cell["status"]: cell for cell in results.to_json()["cells"]}
    skipped, failed = by_status["skipped"], by_status["failed"]
    assert (skipped["reason"], skipped["metrics"]) == ("b cannot", {})
    assert failed["reason"] == "no luck"
    assert not {"absent", "held_out"} & (set(skipped) | set(failed))
    assert json.loads(json.dumps(results.to_json())) == results.to_json()


def test_a_description_is_enough_to_show_results(rotation):
    found = {
        (cell.training.label, cell.training.seed, cell.key): CellResult.of(cell, Status.OK, metrics={"auroc": 0.5})
        for cell in rotation.cells
    }
    description = json.loads(json.dumps(describe(rotation)))
    results = results_of(description, found)
    assert (results.matrix, results.dataset) == (rotation.matrix, rotation.dataset.name)
    assert results.models == ("vae", "shallow")
    assert results.cells == tuple(found.values())
    assert {cell.held_out for cell in results.of("vae", "anomaly_detection")} == {1, 7}
    declared = {task.record.name: task.record.metrics for task in rotation.tasks}
    for task in results.tasks:
        assert [metric.name for metric in task.metrics] == [metric.name for metric in declared[task.name]]
        (primary,) = (metric for metric in declared[task.name] if metric.primary)
        assert (task.primary.name, task.primary.higher_is_better) == (primary.name, primary.higher_is_better)
    assert results.variants["vae"].name == "vae"


def test_a_described_cell_without_a_result_is_pending(rotation):
    first = rotation.cells[0]
    key = first.training.label, first.training.seed, first.key
    results = results_of(describe(rotation), {key: CellResult.of(first, Status.OK)})
    assert [(cell.model, cell.key) for cell in results.cells] == [
        (cell.training.label, cell.key) for cell in rotation.cells
    ]
    assert results.count() == {Status.OK: 1, Status.PENDING: len(rotation.cells) - 1}


def test_baselines_are_described(lay_out, registry):
    plan = lay_out()
    results = results_of(describe(plan), {})
    assert results.baselines == {name for name, model in registry.autoencoders.items() if model.record.baseline}


def test_a_models_own_training_is_described_and_shown_in_the_table(lay_out):
    own = {"epochs": 90, "optimizer": {"name": "adamw", "schedule": "cosine"}}
    description = describe(lay_out(models=["vanilla", {"name": "vae", "training": own}], tasks=["reconstruction"]))
    results = results_of(description, {})
    assert list(results.own_training) == ["vae"]
    assert results.to_json()["own_training"]["vae"]["epochs"] == 90
    same = lay_out(models=[{"name": "vae", "training": {"epochs": 60}}], tasks=["reconstruction"])
    assert results_of(describe(same), {}).own_training == {}
    table = markdown_table(results)
    assert "| vae (own budget) |" in table
    assert "| vanilla |" in table
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(results_table(results))
    assert "own budget of vae: epochs 90, optimizer (name adamw, learning_rate 0.001" in console.export_text()
    for model in description["models"]:
        del model["own_training"]  # as earlier versions wrote it
    assert results_of(description, {}).own_training == {}


def test_a_later_layout_is_refused(rotation):
    with pytest.raises(AebenchError, match="upgrade aebench"):
        results_of(describe(rotation) | {"layout": LAYOUT + 1}, {})
