"""Early stopping: where a stage ends, which weights it keeps, and resumption."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Generator

from aebench.contracts import Autoencoder, Loss, OptimizerSpec, Stage, Update
from aebench.errors import TrainingDiverged
from aebench.training.records import Budget
from aebench.training.trainer import Trainer
from tests.unit.small_trainings import fit_briefly, small_spec


class Wanders(Autoencoder):
    """Its validation loss follows a script: `on_epoch` writes the loss of the epoch into a buffer."""

    script = (5.0, 3.0, 4.0, 2.0, 6.0, 7.0, 8.0, 1.0)

    def __init__(self):
        super().__init__(small_spec(64), torch.nn.Flatten(), torch.nn.Unflatten(1, (1, 8, 8)))
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.register_buffer("level", torch.zeros(()))

    def on_epoch(self, epoch, epochs):
        self.level.fill_(self.script[epoch])

    def loss(self, x, generator):
        total = self.level + 0 * self.weight
        return Loss(total, total, total.new_zeros(()))


@pytest.mark.parametrize(
    ("patience", "epochs", "used", "kept"),
    [(1, 8, 3, 3.0), (2, 8, 6, 2.0), (4, 8, 8, 1.0), (9, 8, 8, 1.0), (3, 5, 5, 2.0), (1, 2, 2, 3.0), (None, 7, 7, 8.0)],
)
def test_early_stopping_ends_a_stage_and_keeps_its_best_weights(digits, patience, epochs, used, kept):
    model = Wanders()
    result = fit_briefly(model, digits, epochs=epochs, patience=patience)
    assert result.epochs_used == len(result.epochs) == used
    assert model.level == kept


@pytest.mark.parametrize("done", range(6))
def test_early_stopping_resumes_with_identical_results(digits, done):
    def trainer(model):
        return Trainer(model, digits, Budget(8, 64, patience=2), Generator().manual_seed(1), Generator())

    first, resumed = trainer(Wanders()), Wanders()
    for _ in range(done):
        first.run_epoch()
    second = trainer(resumed)
    second.load_state_dict(first.state_dict())
    while not second.done:
        second.run_epoch()
    assert second.result().epochs_used == 6
    assert resumed.level == 2.0


class NotANumber(Wanders):
    def loss(self, x, generator):
        loss = super().loss(x, generator)
        return loss if self.training else replace(loss, total=loss.total * float("nan"))


def test_early_stopping_needs_a_finite_validation_loss(digits):
    with pytest.raises(TrainingDiverged, match=r"the validation loss became nan in epoch 1 \(end to end\)"):
        fit_briefly(NotANumber(), digits, patience=1)
    assert fit_briefly(NotANumber(), digits).epochs_used == 2


class TwoStages(Wanders):
    """Two stages of half the budget; notes what `on_epoch` is told."""

    def __init__(self):
        super().__init__()
        self.told = []

    def on_epoch(self, epoch, epochs):
        super().on_epoch(epoch % 4, epochs)
        self.told.append((epoch, epochs))

    def stages(self, epochs):
        return tuple(Stage(name, epochs // 2, (Update(self.loss, (self,)),)) for name in ("first", "second"))


def test_a_stage_begins_at_its_own_epoch_after_one_that_stopped_early(digits):
    model = TwoStages()
    fit_briefly(model, digits, epochs=8, patience=1)
    assert model.told == [(0, 8), (1, 8), (2, 8), (4, 8), (5, 8), (6, 8)]


def test_each_stage_stops_early_by_itself(build, digits):
    model = build("stacked")
    result = fit_briefly(model, digits, epochs=30, patience=1, optimizer=OptimizerSpec(learning_rate=0.2))
    stages = [losses.stage for losses in result.epochs]
    assert len(dict.fromkeys(stages)) == 3
    assert len(stages) < 30
