"""What a run looks like in a terminal: live progress, plain lines where there is no terminal, and tables."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from aebench.execution.work import CellDone, EpochDone, Message, Postponed, Started, Trained, Unit
from aebench.planning.planner import Plan
from aebench.planning.specs import TrainingSpec
from aebench.results.matrix import MatrixResults, TaskInfo


class RunProgress:
    """Cells done, what trains now with its loss, and the time left; a context manager."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = _LiveProgress(console) if console.is_terminal else None
        self._started = time.monotonic()
        self._total = self._done = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def begin(self, plan: Plan, units: Sequence[Unit], reused: int) -> None:
        self._started = time.monotonic()
        self._total = sum(len(unit.cells) for unit in units)
        loaded = sum(unit.weights is not None for unit in units)
        skipped = sum(cell.skip is not None for cell in plan.cells)
        self._console.print(
            f"{plan.dataset.title}: {len(plan.cells)} cells, {skipped} skipped, {reused} already done; "
            f"{self._total} to do, with {len(units) - loaded} trainings",
            highlight=False,
        )
        if self._live is not None:
            self._live.start(units)

    def note(self, line: str) -> None:
        self._console.print(line, highlight=False)

    def update(self, message: Message) -> None:
        if isinstance(message, CellDone):
            self._done += 1
        if self._live is not None:
            self._live.update(message)
        if isinstance(message, CellDone) and message.status == "failed":
            self._print(f"failed   {_cell_name(message)}: {message.reason}")
        elif isinstance(message, Postponed):
            self._print(f"again    {_training_name(message.training)} will be trained by itself: {message.reason}")
        elif self._live is None and isinstance(message, CellDone):
            self._print(f"ok       {_cell_name(message)} ({message.seconds:.1f} s)")
        elif self._live is None and isinstance(message, Trained):
            self._print(f"trained  {_training_name(message.training)} ({message.result.seconds:.1f} s)")

    def _print(self, line: str) -> None:
        prefix = "" if self._live is not None else f"[{self._done}/{self._total}] "
        self._console.print(f"{prefix}{line}", markup=False, highlight=False, soft_wrap=True)


class _LiveProgress:
    """One bar over all cells, and one for every training that is under way."""

    def __init__(self, console: Console) -> None:
        self._overall = Progress(
            TextColumn("cells"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
        )
        self._current = Progress(TextColumn("  {task.description}"), BarColumn(), TextColumn("{task.fields[state]}"))
        self._live = Live(Group(self._overall, self._current), console=console, transient=True)
        self._bars: dict[TrainingSpec, TaskID] = {}
        self._cells_left: Counter[TrainingSpec] = Counter()
        self._epochs_left: dict[TrainingSpec, int] = {}  # of those to be trained; one that is tried again has none back
        self._work_left = 0.0
        self._work = 0.0

    def start(self, units: Sequence[Unit]) -> None:
        self._cells = self._overall.add_task("", total=sum(len(unit.cells) for unit in units), left="")
        self._cells_left = Counter({unit.training: len(unit.cells) for unit in units})
        self._epochs_left = {unit.training: unit.training.epochs for unit in units if unit.weights is None}
        # Epochs are what takes time; a cell counts as a few of them.
        self._work = self._work_left = float(sum(self._epochs_left.values()) + 5 * self._cells_left.total())
        self._since = time.monotonic()
        self._live.start()

    def stop(self) -> None:
        self._live.stop()

    def update(self, message: Message) -> None:
        training = message.cell.training if isinstance(message, CellDone) else message.training
        if isinstance(message, CellDone):
            self._overall.advance(self._cells)
            self._work_left -= 5
            self._cells_left[training] -= 1
            if not self._cells_left[training]:
                self._come_to(training, 0)
                self._hide(training)
        elif isinstance(message, Postponed):
            self._hide(training)
        elif training in self._epochs_left:
            self._show(training, message)
        self._overall.update(self._cells, left=self._time_left())

    def _show(self, training: TrainingSpec, message: Started | EpochDone | Trained) -> None:
        if training not in self._bars:
            name = _training_name(training)
            self._bars[training] = self._current.add_task(name, total=training.epochs, state="starting")
        bar = self._bars[training]
        if isinstance(message, EpochDone):
            losses = message.losses
            self._current.update(bar, completed=losses.epoch, state=f"epoch {losses.epoch}, loss {losses.total:.2f}")
            self._come_to(training, training.epochs - losses.epoch)
        elif isinstance(message, Trained):
            self._current.update(bar, completed=training.epochs, state="evaluating")
            self._come_to(training, 0)

    def _come_to(self, training: TrainingSpec, epochs_left: int) -> None:
        """Take note that a training has at most so many epochs before it."""
        before = self._epochs_left.get(training, 0)
        if epochs_left < before:
            self._work_left -= before - epochs_left
            self._epochs_left[training] = epochs_left

    def _hide(self, training: TrainingSpec) -> None:
        if training in self._bars:
            self._current.remove_task(self._bars.pop(training))

    def _time_left(self) -> str:
        done = self._work - self._work_left
        if done <= 0:
            return ""
        seconds = (time.monotonic() - self._since) * self._work_left / done
        return f"about {seconds / 60:.0f} min left" if seconds >= 90 else f"about {seconds:.0f} s left"


def results_table(results: MatrixResults) -> Group:
    """Models x tasks: each task's primary metric; over several seeds its mean, interval and place, the best in bold."""
    table = Table(title=f"{results.dataset}: matrix {results.matrix}", title_style="bold", header_style="bold")
    table.add_column("model", no_wrap=True)
    is_below = False
    for task in results.tasks:
        table.add_column(Text(f"{task.title}\n{task.primary.heading}"), justify="right")
    for model in results.rows:
        if model in results.baselines and not is_below:
            table.add_section()
            is_below = True
        table.add_row(results.name(model), *(_entry(results, model, task) for task in results.tasks))
    reasons = sorted({f"{cell.task}: {cell.reason}" for cell in results.cells if cell.status == "skipped"})
    failures = [
        f"{cell.model} × {cell.task}, seed {cell.seed}: {cell.reason}"
        for cell in results.cells
        if cell.status == "failed"
    ]
    counts = ", ".join(f"{count} {status}" for status, count in sorted(results.count().items()))
    lines = [f"{counts}. ↑ higher is better, ↓ lower is better; – skipped."]
    if results.is_repeated:
        lines.append("mean ± 95 % interval over seeds (place); models that cannot be told apart share a place.")
    else:
        lines.append("One seed: no two models can be told apart; --seeds 3 repeats the matrix.")
    lines += sorted(
        {f"absent   {cell.task}.{name}: {reason}" for cell in results.cells for name, reason in cell.absent.items()}
    )
    lines += [f"skipped  {reason}" for reason in reasons] + [f"failed   {failure}" for failure in failures]
    return Group(table, *(Text(line, style="dim" if line.startswith("skipped") else "") for line in lines))


def _entry(results: MatrixResults, model: str, task: TaskInfo) -> Text:
    text = results.entry(model, task)
    if results.is_best(model, task):
        return Text(text, style="bold green")
    return Text(text, style={"failed": "red", "pending": "dim", "–": "dim", "absent": "dim"}.get(text, ""))


def _training_name(training: TrainingSpec) -> str:
    return f"{training.label} · {training.profile} · seed {training.seed}"


def _cell_name(message: CellDone) -> str:
    training = message.cell.training
    return f"{training.label} × {message.cell.task} · seed {training.seed}"
