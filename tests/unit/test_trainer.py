"""The training loop: learning, reproducibility, resumption, global state, and concurrent trainings."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Generator

from aebench.contracts import Autoencoder, OptimizerSpec, Split
from aebench.errors import TrainingDiverged
from aebench.training.records import Budget
from aebench.training.step_runner import StepRunner
from aebench.training.trainer import Trainer
from tests.unit.small_trainings import assert_equal, fit_briefly, new_trainer, small_spec, weights_of


@pytest.mark.parametrize(
    "name", ["shallow", "vanilla", "stacked", "sparse", "denoising", "vae", "beta_vae_strict", "vq_vae"]
)
def test_the_loss_falls(build, digits, name):
    epochs = fit_briefly(build(name), digits, epochs=9).epochs
    assert [losses.epoch for losses in epochs] == list(range(1, 10))
    by_stage = {stage: [losses for losses in epochs if losses.stage == stage] for stage in {e.stage for e in epochs}}
    for losses in by_stage.values():
        assert losses[-1].total < losses[0].total
        assert losses[-1].validation < losses[0].validation
    for losses in epochs:
        assert losses.total == pytest.approx(losses.reconstruction + losses.penalty, rel=1e-5)


@pytest.mark.parametrize("name", ["vanilla", "denoising", "vae", "vq_vae"])
def test_the_same_seeds_give_the_same_weights_and_global_state_is_unchanged(build, digits, name):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, two = build(name), build(name)
    fit_briefly(one, digits)
    fit_briefly(two, digits)
    assert torch.equal(before, torch.get_rng_state())
    for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True):
        assert torch.equal(a, b)


class _CountingRunner(StepRunner):
    """Counts the steps that a stage takes after it was prepared."""

    def __init__(self):
        self.warmed_up, self.prepared, self.taken = 0, 0, 0

    def warm_up(self, step, index):
        self.warmed_up += 1
        super().warm_up(step, index)

    def prepare(self, step, batch_size):
        self.prepared += 1

        def take(index):
            assert index.shape == (batch_size,)
            self.taken += 1
            step(index)

        return take


def test_every_step_is_taken_by_the_runner_of_the_device(build, digits, monkeypatch):
    runner = _CountingRunner()
    expected = fit_briefly(build("stacked"), digits, epochs=6)
    monkeypatch.setattr("aebench.training.trainer.step_runner", lambda device: runner)
    found = fit_briefly(build("stacked"), digits, epochs=6)
    stages = len({losses.stage for losses in expected.epochs})
    assert found.epochs == expected.epochs
    assert stages > 1
    assert (runner.warmed_up, runner.prepared, runner.taken) == (stages, stages, found.optimizer_steps)


@pytest.mark.parametrize("name", ["vanilla", "stacked", "sparse", "denoising", "vae", "vq_vae"])
def test_bf16_reaches_the_loss_of_fp32_and_keeps_float32_weights(build, digits, name):
    full, half = build(name), build(name)
    expected = fit_briefly(full, digits, epochs=12).epochs[-1]
    found = fit_briefly(half, digits, epochs=12, precision="bf16").epochs[-1]
    assert found.validation == pytest.approx(expected.validation, rel=0.03)
    assert found.validation != expected.validation
    assert {value.dtype for value in half.state_dict().values() if value.is_floating_point()} == {torch.float32}


def test_the_model_is_left_in_evaluation_mode(build, digits):
    model = build("vanilla")
    fit_briefly(model, digits, epochs=1)
    assert not any(module.training for module in model.modules())


def test_fewer_images_than_a_batch_are_one_batch(build, digits):
    few = replace(digits, train=Split(digits.train.images[:10]))
    assert len(fit_briefly(build("vanilla"), few, epochs=1).epochs) == 1


class Diverging(Autoencoder):
    def loss(self, x, generator):
        loss = super().loss(x, generator)
        return replace(loss, total=loss.total * float("nan"))


def test_a_diverging_training_raises(digits):
    model = Diverging(
        small_spec(64),
        torch.nn.Flatten(),
        torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.Unflatten(1, (1, 8, 8))),
    )
    with pytest.raises(TrainingDiverged, match="became nan in epoch 1"):
        fit_briefly(model, digits)


def test_the_schedule_changes_the_training(build, digits):
    constant, falling = build("vanilla"), build("vanilla")
    fit_briefly(constant, digits, epochs=3)
    fit_briefly(falling, digits, epochs=3, optimizer=OptimizerSpec(schedule={"name": "step", "every": 1}))
    assert any(not torch.equal(a, b) for a, b in zip(weights_of(constant), weights_of(falling), strict=True))


@pytest.mark.parametrize("done", [1, 2, 3, 6])
@pytest.mark.parametrize("name", ["stacked", "denoising", "vae"])
def test_a_training_resumes_from_its_state_with_identical_results(build, digits, name, done):
    whole = build(name)
    expected = new_trainer(whole, digits)
    while not expected.done:
        expected.run_epoch()

    first = new_trainer(build(name), digits)
    for _ in range(done):
        first.run_epoch()
    state = first.state_dict()
    if not first.done:
        first.run_epoch()  # which must not change the state
    resumed = build(name)
    second = new_trainer(resumed, digits)
    second.load_state_dict(state)
    while not second.done:
        second.run_epoch()
    assert second.result().epochs == expected.result().epochs
    assert_equal(weights_of(resumed), weights_of(whole))


def test_trainings_that_take_turns_give_the_results_of_trainings_alone(build, digits, registry):
    names = [name for name in registry.autoencoders if any(stage.updates for stage in build(name).stages(3))]
    alone, concurrent = ({name: build(name) for name in names} for _ in range(2))
    expected = {name: fit_briefly(model, digits, epochs=3).epochs for name, model in alone.items()}
    trainers = {name: new_trainer(model, digits, epochs=3) for name, model in concurrent.items()}
    while running := [trainer for trainer in trainers.values() if not trainer.done]:
        for trainer in running:
            trainer.start_turn()
        for trainer in running:
            trainer.finish_turn()
    for name, trainer in trainers.items():
        assert trainer.result().epochs == expected[name]
        assert_equal(weights_of(concurrent[name]), weights_of(alone[name]))


def test_linear_layers_of_a_model_use_the_fast_products(build, digits, monkeypatch):
    from aebench.training import fast_products

    if not fast_products._has_fast_products():
        pytest.skip("this processor has no AVX-512")
    calls = []
    original = fast_products._onednn
    monkeypatch.setattr(fast_products, "_onednn", lambda *arguments: calls.append(arguments) or original(*arguments))
    monkeypatch.setattr(fast_products, "SMALLEST", 0)
    fit_briefly(build("vanilla"), digits, epochs=1)
    assert calls


@pytest.mark.cuda
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_trainings_on_their_own_streams_give_the_results_of_trainings_alone(build, digits, precision):
    data = digits.to("cuda")
    names = ["vanilla", "stacked", "sparse", "denoising", "vae", "vq_vae"]

    def trainer(name):
        generators = Generator().manual_seed(1), Generator("cuda").manual_seed(2)
        return Trainer(build(name).cuda(), data, Budget(3, 64, precision=precision), *generators)

    expected, concurrent = ({name: trainer(name) for name in names} for _ in range(2))
    for one in expected.values():
        while not one.done:
            one.run_epoch()
    for _ in range(3):
        for one in concurrent.values():
            one.start_turn()
        for one in concurrent.values():
            one.finish_turn()
    for name, one in concurrent.items():
        assert one.result().graph_fallback == expected[name].result().graph_fallback == ""
        for found, reference in zip(one.result().epochs, expected[name].result().epochs, strict=True):
            assert found.total == pytest.approx(reference.total, rel=1e-3)
            assert found.validation == pytest.approx(reference.validation, rel=1e-2)


@pytest.mark.cuda
@pytest.mark.parametrize("name", ["vanilla", "stacked", "sparse", "denoising", "vae", "vq_vae"])
def test_a_training_on_cuda_agrees_with_one_on_the_cpu(build, digits, name):
    on_cpu = fit_briefly(build(name), digits).epochs[-1].total
    model = build(name).cuda()
    on_cuda = fit_briefly(model, digits.to("cuda")).epochs[-1].total
    assert on_cuda == pytest.approx(on_cpu, rel=0.03)


@pytest.mark.cuda
@pytest.mark.parametrize("name", ["vanilla", "sparse", "denoising", "vae", "vq_vae"])
def test_a_training_step_can_be_captured_in_a_cuda_graph(build, digits, name):
    """The loss has no host synchronisation and no Python code that depends on values."""
    model = build(name).cuda().train()
    noise = Generator("cuda").manual_seed(0)
    x = digits.train.x(slice(64)).cuda()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            model.loss(x, noise).total.backward()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    graph.register_generator_state(noise)
    with torch.cuda.graph(graph):
        total = model.loss(x, noise).total
        total.backward()
    graph.replay()
    assert torch.isfinite(total)
