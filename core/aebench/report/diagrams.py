"""Critical-difference diagrams: models by mean rank; bars join models that do not differ significantly."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from aebench.results.matrix import MatrixResults, TaskInfo
    from aebench.results.statistics import Ranking


def ranking_diagrams(results: MatrixResults) -> dict[str, bytes]:
    """PNG images by file name, one for each task whose models are ranked over several seeds."""
    diagrams = {}
    for task in results.tasks if results.is_repeated else ():
        ranking = results.ranking(task)
        if ranking is not None:
            content = io.BytesIO()
            critical_difference(results, task, ranking).savefig(content, format="png")
            diagrams[f"{task.name}.png"] = content.getvalue()
    return diagrams


def critical_difference(results: MatrixResults, task: TaskInfo, ranking: Ranking) -> Figure:
    """Demšar's diagram (2006) for one task: ranks within each seed, averaged; bars join models without a
    significant difference.
    """
    import pandas as pd
    from matplotlib.figure import Figure
    from scikit_posthocs import critical_difference_diagram
    from scipy.stats import rankdata

    names = list(ranking.order)
    values = np.array([results.values(name, task) for name in names])
    ranks = rankdata(-values if task.primary.higher_is_better else values, axis=0).mean(axis=1)
    p_values = pd.DataFrame(np.eye(len(names)), index=names, columns=names)
    for (one, other), p in ranking.p_values.items():
        p_values.loc[one, other] = p
    figure = Figure(figsize=(9, 1.6 + 0.28 * len(names)), layout="constrained")
    axes = figure.subplots()
    critical_difference_diagram(pd.Series(ranks, index=names), p_values, ax=axes, text_h_margin=0.1)
    axes.set_title(f"{task.title}: mean rank by {task.primary.heading}, {values.shape[1]} seeds", pad=20)
    return figure
