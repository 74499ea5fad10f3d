"""Critical-difference diagrams say what the ranking says."""

import re
import sys

import pytest

from aebench.report.diagrams import critical_difference
from aebench.results.matrix import CellResult, MatrixResults, MetricInfo, TaskInfo

VALUES = {"a": (3.0, 3.1, 3.2), "b": (1.0, 1.2, 1.1), "c": (1.1, 1.1, 1.2)}


@pytest.mark.parametrize(("higher_is_better", "best"), [(False, "b"), (True, "a")])
def test_models_ranks_and_ties_are_drawn(higher_is_better, best):
    task = TaskInfo("low", "Low", (MetricInfo("x", "X", "", higher_is_better, True),))
    cells = [
        CellResult(name, "low", seed, "ok", None, {"x": x})
        for name, row in VALUES.items()
        for seed, x in enumerate(row)
    ]
    results = MatrixResults("0", "digits", tuple(VALUES), (task,), tuple(cells))
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
