"""Critical-difference diagrams say what the ranking says."""

import io
import re
import sys

import pytest
from PIL import Image

from aebench.planning.cells import CellResult, Status
from aebench.report.diagrams import critical_difference, ranking_diagrams
from aebench.results.matrix import MatrixResults, MetricInfo, TaskInfo

VALUES = {"a": (3.0, 3.1, 3.2), "b": (1.0, 1.2, 1.1), "c": (1.1, 1.1, 1.2)}


def _results(task, seeds=3):
    cells = [
        CellResult(name, "low", seed, None, Status.OK, metrics={"x": x})
        for name, row in VALUES.items()
        for seed, x in enumerate(row[:seeds])
    ]
    return MatrixResults("0", "digits", tuple(VALUES), (task,), tuple(cells))


def _task(higher_is_better):
    return TaskInfo("low", "Low", (MetricInfo("x", "X", "", higher_is_better, True),))


@pytest.mark.parametrize(("higher_is_better", "best"), [(False, "b"), (True, "a")])
def test_models_ranks_and_ties_are_drawn(higher_is_better, best):
    task = _task(higher_is_better)
    results = _results(task)
    ranking = results.ranking(task)
    figure = critical_difference(results, task, ranking)
    (axes,) = figure.axes
    assert axes.get_title().startswith("Low: mean rank by x")
    labels = [re.sub("[()]", "", text.get_text()).split() for text in axes.texts]
    ranks = {name: float(rank) for name, rank in (sorted(label, reverse=True) for label in labels)}
    assert set(ranks) == set(VALUES)
    assert min(ranks, key=ranks.get) == best
    bars = [line for line in axes.lines if line.get_color() == "k"]
    assert len(bars) == sum(len(group) > 1 for group in ranking.groups()) == 1
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert not (pyplot and pyplot.get_fignums())


def test_every_ranked_task_has_a_png():
    (name, content), *others = ranking_diagrams(_results(_task(True))).items()
    assert (name, others) == ("low.png", [])
    assert Image.open(io.BytesIO(content)).format == "PNG"


def test_one_seed_has_no_diagram():
    assert ranking_diagrams(_results(_task(True), seeds=1)) == {}
