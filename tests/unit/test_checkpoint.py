"""Trainings that are interrupted after any turn and continued from bytes end as if undisturbed, to the bit."""

from __future__ import annotations

import io
import os
from dataclasses import replace
from math import inf

import pytest
import torch
from torch import Generator

from aebench.contracts import OptimizerSpec, Split
from aebench.errors import AebenchError
from aebench.training.checkpoint import restore_trainer, save_trainer
from aebench.training.records import Budget
from aebench.training.trainer import Trainer
from tests.unit.small_trainings import assert_equal, weights_of
from tests.unit.test_stages import SCHEDULED, Adversarial, Prepared

CPU = torch.device("cpu")
EPOCHS, BATCH_SIZE, IMAGES = 3, 64, 200
STEPS = IMAGES // BATCH_SIZE


class Scheduled(Prepared):
    """Counts the calls of `on_epoch` in a buffer that its loss reads; another one is not in its state dict."""

    def __init__(self, build):
        super().__init__(build)
        self.register_buffer("begun", torch.zeros(()))
        self.register_buffer("share", torch.zeros(()), persistent=False)

    def on_epoch(self, epoch, epochs):
        super().on_epoch(epoch, epochs)
        self.begun += 1
        self.share.fill_((epoch + 1) / epochs)

    def loss(self, x, generator):
        loss = super().loss(x, generator)
        return replace(loss, total=loss.total * (self.share + self.begun))


MODELS = {
    "vanilla": {},
    "stacked": {},
    "vae": {"precision": "bf16"},
    "vq_vae": {},
    "conv_vq_vae": {"precision": "bf16"},
    "aae": {"optimizer": OptimizerSpec(name="sgd", momentum=0.9, learning_rate=1e-3)},
    "sparse": {"patience": 1, "optimizer": OptimizerSpec(learning_rate=0.3)},
    "adversarial": {"optimizer": SCHEDULED},
    "scheduled": {"optimizer": SCHEDULED},
}
OWN = {"adversarial": Adversarial, "scheduled": Scheduled}


@pytest.fixture(scope="module")
def few(digits):
    return replace(digits, train=Split(digits.train.images[:IMAGES]), validation=Split(digits.validation.images[:50]))


@pytest.fixture
def start(build, few):
    """start(name, turn_seconds): a new model and its trainer."""

    def start(name, turn_seconds=0.0):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = OWN[name](build) if name in OWN else build(name)
        generators = Generator().manual_seed(1), Generator().manual_seed(2)
        return model, Trainer(model, few, Budget(EPOCHS, BATCH_SIZE, **MODELS.get(name, {})), *generators, turn_seconds)

    return start


def run_turns(trainer, turns=inf):
    """The number of turns until the training is done, at most `turns`."""
    done = 0
    while not trainer.done and done < turns:
        trainer.start_turn()
        trainer.finish_turn()
        done += 1
    return done


@pytest.mark.parametrize("name", [name for name in MODELS if name != "vanilla"])
def test_a_training_goes_on_from_any_turn_with_identical_results(start, name):
    whole, undisturbed = start(name, turn_seconds=inf)
    run_turns(undisturbed)
    expected = undisturbed.result()

    _, interrupted = start(name)
    saved = [save_trainer(interrupted, "a")]
    while run_turns(interrupted, 1):
        saved.append(save_trainer(interrupted, "a"))  # which must not change the training
    assert interrupted.result().epochs == expected.epochs
    assert len(saved) > STEPS * expected.epochs_used

    for content in saved:
        model, resumed = start(name)
        restore_trainer(resumed, "a", content, CPU)
        run_turns(resumed)
        found = resumed.result()
        assert replace(found, seconds=0) == replace(expected, seconds=0)
        assert_equal(weights_of(model), weights_of(whole))


def test_every_registered_model_goes_on_within_its_second_epoch(start, registry):
    for name in registry.autoencoders:
        whole, undisturbed = start(name, turn_seconds=inf)
        run_turns(undisturbed)
        _, interrupted = start(name)
        run_turns(interrupted, STEPS + 2)
        model, resumed = start(name)
        restore_trainer(resumed, "a", save_trainer(interrupted, "a"), CPU)
        run_turns(resumed)
        assert resumed.result().epochs == undisturbed.result().epochs, name
        assert_equal(weights_of(model), weights_of(whole))


def test_an_interrupted_stage_stops_early_as_if_undisturbed(start):
    _, trainer = start("sparse")
    run_turns(trainer)
    assert trainer.result().epochs_used < EPOCHS  # so the case above is one of early stopping


def test_a_turn_takes_steps_for_its_time_and_ends_with_the_epoch(start):
    _, by_step = start("vanilla", 0.0)
    _, by_epoch = start("vanilla", 1000.0)
    assert run_turns(by_step) == EPOCHS * STEPS
    assert run_turns(by_epoch) == EPOCHS


def test_the_seconds_go_on_from_those_of_the_interrupted_training(start):
    _, first = start("vanilla")
    run_turns(first, STEPS + 1)
    _, second = start("vanilla")
    restore_trainer(second, "a", save_trainer(first, "a"), CPU)
    assert second.result() == first.result()
    run_turns(second, 1)
    assert second.result().seconds > first.result().seconds > 0


def test_a_state_in_an_epoch_does_not_call_on_epoch_again(start):
    _, first = start("scheduled")
    run_turns(first, 2)  # the fit, and the first step
    model, second = start("scheduled")
    restore_trainer(second, "a", save_trainer(first, "a"), CPU)
    assert model.begun == 1
    run_turns(second)
    assert model.begun == EPOCHS


def test_a_state_contains_only_numbers_strings_lists_dicts_and_tensors(start):
    def kinds(value):
        yield type(value)
        if isinstance(value, dict):
            for key, part in value.items():
                yield from kinds(key)
                yield from kinds(part)
        elif isinstance(value, list | tuple):
            for part in value:
                yield from kinds(part)

    for name in MODELS:
        _, trainer = start(name)
        run_turns(trainer, STEPS + 1)
        for kind in set(kinds(trainer.state_dict())):
            assert issubclass(kind, int | float | str | list | tuple | dict | torch.Tensor | type(None)), (name, kind)


class Harmful:
    """Unpickling it makes the folder `ran` in the working directory."""

    def __reduce__(self):
        return os.mkdir, ("ran",)


def test_reading_a_state_executes_no_code(start, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    buffer = io.BytesIO()
    torch.save({"training": "a", "state": Harmful()}, buffer)
    _, trainer = start("vanilla")
    with pytest.raises(Exception, match="mkdir"):
        restore_trainer(trainer, "a", buffer.getvalue(), CPU)
    assert not (tmp_path / "ran").exists()
    torch.load(io.BytesIO(buffer.getvalue()), weights_only=False)
    assert (tmp_path / "ran").exists()  # so it would have run


def test_the_state_of_another_training_is_refused(start):
    _, trainer = start("vanilla")
    with pytest.raises(AebenchError, match="of the training a, not of b"):
        restore_trainer(start("vanilla")[1], "b", save_trainer(trainer, "a"), CPU)
