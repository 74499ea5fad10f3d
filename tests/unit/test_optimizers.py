"""Optimisers and their schedules, against PyTorch's own."""

import copy
from math import cos, pi

import pytest
import torch
from pydantic import ValidationError
from torch.optim.lr_scheduler import CosineAnnealingLR, StepLR

from aebench.contracts import OptimizerSpec, Stage, Update
from aebench.training.optimizers import build_optimizer, set_learning_rate

EPOCHS = 7


def _parameter():
    return torch.nn.Parameter(torch.ones(()))


def _rates(spec, epochs=EPOCHS):
    return [spec.learning_rate_in(epoch, epochs) for epoch in range(epochs)]


def _torch_rates(scheduler, *arguments):
    optimizer = torch.optim.SGD([_parameter()], lr=0.1)
    schedule, rates = scheduler(optimizer, *arguments), []
    for _ in range(EPOCHS):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return rates


def test_schedules_equal_those_of_pytorch():
    cosine = OptimizerSpec(learning_rate=0.1, schedule={"name": "cosine", "final": 0.2})
    assert _rates(cosine) == pytest.approx(_torch_rates(CosineAnnealingLR, EPOCHS, 0.02))
    step = OptimizerSpec(learning_rate=0.1, schedule={"name": "step", "every": 3, "factor": 0.5})
    assert _rates(step) == pytest.approx(_torch_rates(StepLR, 3, 0.5))
    assert _rates(OptimizerSpec(learning_rate=0.1)) == [0.1] * EPOCHS


def test_a_warm_up_grows_linearly_and_is_followed_by_the_whole_schedule():
    spec = OptimizerSpec(learning_rate=0.4, warm_up=3, schedule="cosine")
    rates = _rates(spec)
    assert rates[:3] == pytest.approx([0.1, 0.2, 0.3])
    assert rates[3:] == pytest.approx([0.2 * (1 + cos(pi * epoch / 4)) for epoch in range(4)])
    assert _rates(OptimizerSpec(learning_rate=0.4, warm_up=9), 3) == pytest.approx([0.04, 0.08, 0.12])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("spec", "kind", "settings"),
    [
        (OptimizerSpec(), torch.optim.Adam, {"lr": 1e-3}),
        (OptimizerSpec(weight_decay=0.1), torch.optim.Adam, {"lr": 1e-3, "weight_decay": 0.1}),
        (OptimizerSpec(name="adamw", weight_decay=0.1), torch.optim.AdamW, {"lr": 1e-3, "weight_decay": 0.1}),
        (OptimizerSpec(name="sgd", learning_rate=0.2, momentum=0.9), torch.optim.SGD, {"lr": 0.2, "momentum": 0.9}),
    ],
)
def test_an_optimiser_takes_the_steps_of_pytorchs_own(spec, kind, settings, dtype):
    """To the bit, also for a parameter that has no gradient in some steps, and for one that never has one."""
    initial = torch.randn(3, 7, 5, dtype=dtype, generator=torch.Generator().manual_seed(0))
    first, second = ([torch.nn.Parameter(values.clone()) for values in initial] for _ in range(2))
    ours, theirs = build_optimizer(spec, first), kind(second, **settings, fused=True)
    for step, rate in enumerate([settings["lr"], 0.01, 0.01, 0.02]):
        set_learning_rate(ours, rate)
        theirs.param_groups[0]["lr"] = rate
        for parameters, optimizer in ((first, ours), (second, theirs)):
            optimizer.zero_grad()
            assert [parameter.grad for parameter in parameters] == [None, None, None]
            trained = 2 if kind is torch.optim.SGD else 1 + step % 2  # fused SGD fails without its momentum
            loss = (parameters[0] ** 3).sum() + parameters[1].sin().sum()
            loss.backward(inputs=parameters[:trained])
            optimizer.step()
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))
    assert [torch.equal(one, values) for one, values in zip(first, initial, strict=True)] == [False, False, True]


def test_a_step_without_gradients_changes_nothing():
    parameter = _parameter()
    optimizer = build_optimizer(OptimizerSpec(), [parameter])
    optimizer.step()
    assert parameter == 1


def test_an_optimiser_goes_on_from_its_saved_state():
    one, other = _parameter(), _parameter()
    first, second = build_optimizer(OptimizerSpec(), [one]), build_optimizer(OptimizerSpec(), [other])

    def step(parameter, optimizer):
        optimizer.zero_grad()
        (parameter**3).backward()
        optimizer.step()

    set_learning_rate(first, 0.1)
    step(one, first)
    other.data.copy_(one.data)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for parameter, optimizer in ((one, first), (other, second)):
        step(parameter, optimizer)
    assert torch.equal(one, other)
    with pytest.raises(ValueError, match="shorter"):
        build_optimizer(OptimizerSpec(), [one, other]).load_state_dict(first.state_dict())


@pytest.mark.parametrize(
    "settings",
    [
        {"name": "adam", "momentum": 0.9},
        {"name": "lion"},
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"schedule": "linear"},
        {"schedule": "step"},
        {"schedule": {"name": "cosine", "every": 3}},
        {"warm_up": -1},
    ],
)
def test_wrong_settings_are_rejected(settings):
    with pytest.raises(ValidationError):
        OptimizerSpec(**settings)


def test_a_stage_is_either_a_fit_or_updates():
    update = Update(lambda x, generator: None, ())
    with pytest.raises(ValueError, match="has a fit, and so takes no updates"):
        Stage("both", updates=(update,), fit=lambda images, generator: None)
    with pytest.raises(ValueError, match="has 3 epochs and no updates"):
        Stage("neither", 3)
    for epochs in (1.5, -1):
        with pytest.raises(ValueError, match="which is not a whole number"):
            Stage("odd", epochs, (update,))
