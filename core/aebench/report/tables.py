"""The matrix as a table of models and tasks, in a terminal and in Markdown."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import fmean
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from aebench.planning.cells import Status
from aebench.results.matrix import MatrixResults, TaskInfo

NO_VALUE = "–"  # for a task that the model was not asked
STYLES = {Status.FAILED: "red", Status.PENDING: "dim", NO_VALUE: "dim", "absent": "dim"}


def results_table(results: MatrixResults) -> Group:
    """Each task's primary metric by model, followed by what is skipped, absent or failed, and why.

    Over several seeds an entry is the mean with its 95 % confidence interval and the model's rank.
    """
    table = Table(title=f"{results.dataset}: matrix {results.matrix}", title_style="bold", header_style="bold")
    table.add_column("model", no_wrap=True)
    for task in results.tasks:
        table.add_column(Text(f"{task.title}\n{task.primary.heading}"), justify="right")
    baselines = [model for model in results.rows if model in results.baselines]
    for model in results.rows:
        if baselines and model == baselines[0]:
            table.add_section()
        table.add_row(row_name(results, model), *(_styled_entry(results, model, task) for task in results.tasks))
    lines = list(_explanations(results))
    return Group(table, *(Text(line, style="dim" if line.startswith("skipped") else "") for line in lines))


def markdown_table(results: MatrixResults) -> str:
    """The table of models and tasks in Markdown, the best of each column in bold."""
    lines = [
        " | ".join(["| model", *(f"{task.title}<br>{task.primary.heading}" for task in results.tasks)]) + " |",
        "|---|" + "--:|" * len(results.tasks),
    ]
    for model in results.rows:
        entries = []
        for task in results.tasks:
            mark = "**" if results.is_best(model, task) else ""
            entries.append(f"{mark}{entry(results, model, task)}{mark}")
        lines.append(" | ".join([f"| {row_name(results, model)}", *entries]) + " |")
    return "\n".join(lines)


def entry(results: MatrixResults, model: str, task: TaskInfo) -> str:
    """The mean over seeds; over several, with its 95 % confidence interval and rank; without a value, the reason."""
    values = results.values(model, task)
    if not values:
        return _entry_without_value(results, model, task)
    mean = fmean(values)
    text = f"{mean:.4g}" if abs(mean) >= 1 else f"{mean:.3f}"
    found, ranking = results.confidence_interval(model, task), results.ranking(task)
    if found is not None:
        noticeable = found.half_width > 1e-9 * abs(found.mean)
        text += f" ± {found.half_width:.2g}" if noticeable else " ± 0"
    if results.is_repeated and ranking is not None and model in ranking.order:
        text += f" ({ranking.place(model)})"
    return text


def row_name(results: MatrixResults, model: str) -> str:
    """A row's label; a baseline is marked as one, and so is a model with a budget of its own."""
    marks = ["baseline"] * (model in results.baselines) + ["own budget"] * (model in results.own_training)
    return f"{model} ({', '.join(marks)})" if marks else model


def _entry_without_value(results: MatrixResults, model: str, task: TaskInfo) -> str:
    cells = results.of(model, task.name)
    statuses = {cell.status for cell in cells}
    if Status.FAILED in statuses:
        return Status.FAILED
    if any(task.primary.name in cell.absent for cell in cells):
        return "absent"
    return NO_VALUE if statuses == {Status.SKIPPED} else Status.PENDING


def _styled_entry(results: MatrixResults, model: str, task: TaskInfo) -> Text:
    text = entry(results, model, task)
    return Text(text, style="bold green" if results.is_best(model, task) else STYLES.get(text, ""))


def _explanations(results: MatrixResults) -> Iterator[str]:
    counts = ", ".join(f"{count} {status}" for status, count in sorted(results.count().items()))
    yield f"{counts}. ↑ higher is better, ↓ lower is better; {NO_VALUE} skipped."
    if results.is_repeated:
        yield "mean ± 95 % interval over seeds (rank); models that do not differ significantly share a rank."
    else:
        yield "One seed: no two models can be told apart; --seeds 3 repeats the matrix."
    settings = {name: value for name, value in results.likelihood.items() if name != "name"}
    yield f"likelihood: {results.likelihood['name']}{f' {_in_words(settings)}' if settings else ''}"
    for row, variant in results.variants.items():
        if variant.own_networks:
            yield f"own networks of {row}: {variant.own_networks}"
    for model, own in results.own_training.items():
        yield f"own budget of {model}: {', '.join(f'{name} {_in_words(value)}' for name, value in own.items())}"
    cells = results.cells
    yield from _absent(results)
    yield from sorted({f"skipped  {cell.task}: {cell.reason}" for cell in cells if cell.status is Status.SKIPPED})
    for cell in cells:
        if cell.status is Status.FAILED:
            yield f"failed   {cell.model} × {cell.task}, seed {cell.seed}: {cell.reason}"


def _absent(results: MatrixResults) -> Iterator[str]:
    """A line for each reason why metrics of a task are absent, with the models if it does not concern all."""
    found: dict[tuple[str, str], tuple[set[str], set[str]]] = {}
    for cell in results.cells:
        for name, reason in cell.absent.items():
            metrics, models = found.setdefault((cell.task, reason), (set(), set()))
            metrics.add(name)
            models.add(cell.model)
    for (task, reason), (metrics, models) in sorted(found.items()):
        of = "" if models == set(results.models) else f" ({', '.join(sorted(models))})"
        yield f"absent   {task}: {', '.join(sorted(metrics))}: {reason}{of}"


def _in_words(setting: Any) -> str:
    """A setting on one line; nested settings in parentheses."""
    if isinstance(setting, dict):
        return "(" + ", ".join(f"{name} {_in_words(value)}" for name, value in setting.items()) + ")"
    return str(setting)
