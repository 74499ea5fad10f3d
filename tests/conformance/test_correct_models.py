"""The kit finds nothing in correct models, however unusual their training is."""

from __future__ import annotations

import pytest

from aebench.testing import AutoencoderUnderTest, autoencoders
from aebench.testing.autoencoder_checks import state, training
from tests.conformance.correct_models import (
    GOOD,
    GOOD_FIT,
    Adversarial,
    AnnealsByEpoch,
    CountsInBuffers,
    DecodesByGradient,
    FitsAParameter,
    RaisesItsTarget,
    name_of,
    record,
)


@pytest.mark.parametrize("twin", [GOOD, GOOD_FIT], ids=name_of)
def test_the_correct_twin_passes_everything(twin):
    subject = AutoencoderUnderTest(twin)
    assert [result.message for check in autoencoders.CHECKS if not (result := check(subject)).ok] == []


@pytest.mark.parametrize("check", autoencoders.CHECKS, ids=lambda check: check.name)
@pytest.mark.parametrize("build", [Adversarial, AnnealsByEpoch, DecodesByGradient, FitsAParameter], ids=name_of)
def test_unusual_training_passes_every_check(build, check):
    assert check(AutoencoderUnderTest(record(build))).message == ""


def test_a_schedule_may_raise_the_loss():
    assert training.training_lowers_the_loss(AutoencoderUnderTest(record(RaisesItsTarget))).message == ""


def test_a_counter_in_a_buffer_passes():
    subject = AutoencoderUnderTest(record(CountsInBuffers))
    assert training.stateless_training_step(subject).message == ""
    assert state.loading_restores_the_model(subject).message == ""
