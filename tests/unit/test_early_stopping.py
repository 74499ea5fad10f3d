"""Early stopping: where a stage ends, which weights it keeps, and resumption."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Generator

from aebench.contracts import Autoencoder, Loss, OptimizerSpec
from aebench.errors import TrainingDiverged
from aebench.training.records import Budget
from aebench.training.trainer import Trainer
from tests.unit.small_trainings import fit_briefly, small_spec

BATCH_SIZE = 64  # of `fit_briefly`


class Wanders(Autoencoder):
    """Its loss follows a script, one value for each epoch, by the number of training steps in a buffer."""

    script = (5.0, 3.0, 4.0, 2.0, 6.0, 7.0, 8.0, 1.0)

    def __init__(self, steps_per_epoch):
        super().__init__(small_spec(64), torch.nn.Flatten(), torch.nn.Unflatten(1, (1, 8, 8)))
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.steps_per_epoch = steps_per_epoch
        self.register_buffer("values", torch.tensor(self.script))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    @property
    def level(self):
        return self.values[(self.steps - 1) // self.steps_per_epoch]

    def loss(self, x, generator):
        if self.training:
            self.steps += 1
        total = self.level + 0 * self.weight
        return Loss(total, total, total.new_zeros(()))


class WandersBySchedule(Wanders):
    """It may change its loss from epoch to epoch."""

    def on_epoch(self, epoch, epochs):
        pass


@pytest.fixture
def steps_per_epoch(digits):
    return len(digits.train) // BATCH_SIZE


@pytest.mark.parametrize(
    ("patience", "epochs", "used", "kept"),
    [(1, 8, 3, 3.0), (2, 8, 6, 2.0), (4, 8, 8, 1.0), (9, 8, 8, 1.0), (3, 5, 5, 2.0), (1, 2, 2, 3.0), (None, 7, 7, 8.0)],
)
def test_early_stopping_ends_a_stage_and_keeps_its_best_weights(digits, steps_per_epoch, patience, epochs, used, kept):
    model = Wanders(steps_per_epoch)
    result = fit_briefly(model, digits, epochs=epochs, patience=patience)
    assert result.epochs_used == len(result.epochs) == used
    assert model.level == kept


def test_a_model_with_a_schedule_of_its_own_is_trained_for_the_whole_budget(digits, steps_per_epoch):
    model = WandersBySchedule(steps_per_epoch)
    assert fit_briefly(model, digits, epochs=7, patience=1).epochs_used == 7
    assert model.level == 8.0


@pytest.mark.parametrize("done", range(6))
def test_early_stopping_resumes_with_identical_results(digits, steps_per_epoch, done):
    def trainer(model):
        return Trainer(model, digits, Budget(8, BATCH_SIZE, patience=2), Generator().manual_seed(1), Generator())

    first, resumed = trainer(Wanders(steps_per_epoch)), Wanders(steps_per_epoch)
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


def test_early_stopping_needs_a_finite_validation_loss(digits, steps_per_epoch):
    with pytest.raises(TrainingDiverged, match=r"the validation loss became nan in epoch 1 \(end to end\)"):
        fit_briefly(NotANumber(steps_per_epoch), digits, patience=1)
    assert fit_briefly(NotANumber(steps_per_epoch), digits).epochs_used == 2


def test_each_stage_stops_early_by_itself(build, digits):
    model = build("stacked")
    result = fit_briefly(model, digits, epochs=30, patience=1, optimizer=OptimizerSpec(learning_rate=0.2))
    stages = [losses.stage for losses in result.epochs]
    assert len(dict.fromkeys(stages)) == 3
    assert len(stages) < 30
