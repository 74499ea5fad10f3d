"""Prints a plan as a table."""

from __future__ import annotations

from rich.console import Group
from rich.table import Table
from rich.text import Text

from aebench.planning.planner import Plan


def plan_table(plan: Plan) -> Group:
    """A table with one row for each training and its tasks, and one line for each skipped cell."""
    table = Table(title=f"matrix {plan.matrix}: {len(plan.trainings)} trainings, {len(plan.cells)} cells")
    for column in ("model", "seed", "profile", "latent_dim", "held out", "epochs", "precision", "training", "tasks"):
        table.add_column(column, overflow="fold" if column == "tasks" else "ellipsis")
    for training in plan.trainings:
        tasks = [cell.task for cell in plan.cells if cell.training == training and cell.skip is None]
        held_out = "–" if training.held_out is None else str(training.held_out)
        columns = (training.label, training.seed, training.profile, training.latent_dim, held_out, training.epochs)
        table.add_row(*map(str, columns), training.precision, training.hash, ", ".join(tasks))
    skipped = (
        Text(f"skipped  {cell.training.label} × {cell.task}: {cell.skip}")
        for cell in plan.cells
        if cell.skip is not None
    )
    return Group(table, *skipped)
