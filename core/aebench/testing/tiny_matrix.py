"""The check that trains a model for two epochs and evaluates every installed task on it."""

from __future__ import annotations

import torch

from aebench.execution.work import CellDone, NotTrained, Report, Unit, Workplace
from aebench.planning.config import load_benchmark
from aebench.planning.planner import plan
from aebench.testing.autoencoder_checks.model_under_test import AutoencoderUnderTest
from aebench.testing.checks import Nonconformance, check, expect
from aebench.testing.small_digits import small_digits, small_reference_classifier
from aebench.training.turns import all_at_once

EPOCHS = 2


@check("aebench.contracts.TaskRecord")
def runs_through_every_task(subject: AutoencoderUnderTest) -> int:
    """A tiny matrix of two epochs on digits and every installed task ends with all cells ok or skipped."""
    data = small_digits()
    benchmark = load_benchmark(subject.registry, None, {("training", "epochs"): EPOCHS})
    cells = [cell for cell in plan(benchmark, data.info).cells if cell.skip is None]
    done: list[CellDone] = []

    def emit(message: Report) -> None:
        if isinstance(message, NotTrained):
            raise Nonconformance("the training to succeed", message.reason)
        if isinstance(message, CellDone):
            done.append(message)

    workplace = Workplace(subject.registry, data, torch.device("cpu"), small_reference_classifier())
    for training in dict.fromkeys(cell.training for cell in cells):
        all_at_once(workplace.work(Unit(training, tuple(cell for cell in cells if cell.training == training)), emit))
    failed = [f"{cell.cell.task}: {cell.reason}" for cell in done if cell.status != "ok"]
    expect(not failed, "every task to evaluate the model", "; ".join(failed))
    return len(done)
