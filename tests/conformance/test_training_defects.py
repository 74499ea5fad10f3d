"""The kit finds defective trainings: each defect is absent from the correct twin."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from aebench.contracts import Loss, Stage, Update, to_unit_interval
from aebench.testing import AutoencoderUnderTest
from aebench.testing.autoencoder_checks import training
from tests.conformance.correct_models import (
    GOOD,
    GOOD_FIT,
    AnnealsByEpoch,
    Good,
    GoodFit,
    RaisesItsTarget,
    name_of,
    record,
)


class DeadParameter(Good):
    def __init__(self, spec):
        super().__init__(spec)
        self.unused = nn.Parameter(torch.ones(3))


class LogOfBlack(Good):
    def loss(self, x, generator):
        loss = super().loss(x, generator)
        penalty = loss.penalty - x.mean().log()
        return Loss(loss.reconstruction + penalty, loss.reconstruction, penalty)


class PartsDoNotAddUp(Good):
    def loss(self, x, generator):
        loss = super().loss(x, generator)
        return replace(loss, total=2 * loss.total)


class CountsInPython(Good):
    """Anneals its penalty with a counter in an attribute."""

    steps = 0

    def loss(self, x, generator):
        self.steps += 1
        loss = super().loss(x, generator)
        penalty = loss.penalty * min(1, self.steps / 100)
        return Loss(loss.reconstruction + penalty, loss.reconstruction, penalty)


class UphillUnderASchedule(RaisesItsTarget):
    """As `GradientUphill`, with a schedule."""

    def loss(self, x, generator):
        return uphill(super().loss(x, generator))


class AnnealsInPython(Good):
    """Anneals its penalty in an attribute, which a recorded step would not see."""

    weight = 0.0

    def on_epoch(self, epoch, epochs):
        self.weight = (epoch + 1) / epochs

    def loss(self, x, generator):
        loss = super().loss(x, generator)
        penalty = loss.penalty * self.weight
        return Loss(loss.reconstruction + penalty, loss.reconstruction, penalty)


class FitsNothingFirst(Good):
    def stages(self, epochs):
        return Stage("first", fit=lambda images, generator: None), *super().stages(epochs)


class ReplacesItsWeight(AnnealsByEpoch):
    def on_epoch(self, epoch, epochs):
        self.weight = torch.full((), (epoch + 1) / epochs)


class GrowsItsWeight(AnnealsByEpoch):
    def on_epoch(self, epoch, epochs):
        self.weight = torch.ones(epoch + 1)


class TrainsWhatItDoesNotName(Good):
    """Its update names the encoder, but its loss pulls the decoder's weights towards zero."""

    def loss(self, x, generator):
        with torch.no_grad():
            for parameter in self.decoder.parameters():
                parameter.mul_(0.99)
        return super().loss(x, generator)

    def stages(self, epochs):
        first, second = (Update(self.loss, (module,)) for module in (self.encoder, self.decoder))
        return Stage("encoder", epochs - epochs // 2, (first,)), Stage("decoder", epochs // 2, (second,))


class TrainsTenTimesLonger(Good):
    def stages(self, epochs):
        return (Stage("end to end", 10 * epochs, (Update(self.loss, (self,)),)),)


class RoundsUp(Good):
    """Three stages of a third of the budget each, rounded up: one epoch becomes three."""

    def stages(self, epochs):
        return tuple(Stage(f"part {part}", -(-epochs // 3), (Update(self.loss, (self,)),)) for part in range(3))


class GradientUphill(Good):
    """Reports the loss, but trains with the negative of its gradient."""

    def loss(self, x, generator):
        return uphill(super().loss(x, generator))


def uphill(loss):
    """A loss of the same value, with the negative of its gradient."""
    total = 2 * loss.total.detach() - loss.total
    return Loss(total, total, total.new_zeros(()))


class FitsNothing(GoodFit):
    def fit(self, images, generator):
        pass


class FitsBadly(GoodFit):
    def fit(self, images, generator):
        self.mean.copy_(1 - to_unit_interval(images).mean(dim=0))


TRAINING_DEFECTS = [
    (training.gradient_reaches_every_parameter, record(DeadParameter), "unused"),
    (training.gradient_reaches_every_parameter, record(FitsNothing), "the state dict did not change"),
    (training.finite_loss, record(LogOfBlack), "black images"),
    (training.finite_loss, record(PartsDoNotAddUp), "is not"),
    (training.stateless_training_step, record(CountsInPython), "'end to end' gave"),
    (training.stateless_training_step, record(AnnealsInPython), "'end to end' gave"),
    (training.gradient_reaches_every_parameter, record(FitsNothingFirst), "the state dict did not change"),
    (training.updates_train_only_what_they_name, record(TrainsWhatItDoesNotName), "of stage 'encoder' changed decoder"),
    (training.on_epoch_keeps_shapes, record(ReplacesItsWeight), "epoch 0 replaced weight"),
    (training.on_epoch_keeps_shapes, record(GrowsItsWeight), "epoch 0 replaced weight"),
    (training.stages_keep_to_the_budget, record(TrainsTenTimesLonger), "they have 10"),
    (training.stages_keep_to_the_budget, record(RoundsUp), "they have 3"),
    (training.training_lowers_the_loss, record(GradientUphill), "went from"),
    (training.training_lowers_the_loss, record(UphillUnderASchedule), "went from"),
    (training.training_lowers_the_loss, record(FitsBadly), "went from"),
]


@pytest.mark.parametrize(("check", "defective", "actual"), TRAINING_DEFECTS, ids=name_of)
def test_a_defective_training_is_found(check, defective, actual):
    result = check(AutoencoderUnderTest(defective))
    assert not result.ok
    assert actual in result.actual
    twin = GOOD_FIT if issubclass(defective.build, GoodFit) else GOOD
    assert check(AutoencoderUnderTest(twin)).message == ""
