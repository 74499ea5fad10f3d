"""Optimisers and their schedules, against PyTorch's own."""

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


@pytest.mark.parametrize(
    ("spec", "kind", "settings"),
    [
        (OptimizerSpec(), torch.optim.Adam, {"lr": 1e-3, "weight_decay": 0.0}),
        (OptimizerSpec(name="adamw", weight_decay=0.1), torch.optim.AdamW, {"lr": 1e-3, "weight_decay": 0.1}),
        (OptimizerSpec(name="sgd", learning_rate=0.2, momentum=0.9), torch.optim.SGD, {"lr": 0.2, "momentum": 0.9}),
    ],
)
def test_an_optimiser_takes_the_steps_of_pytorchs_own(spec, kind, settings):
    one, other = _parameter(), _parameter()
    ours, theirs = build_optimizer(spec, [one]), kind([other], **settings)
    assert type(ours) is kind
    for rate in (settings["lr"], 0.01):
        set_learning_rate(ours, rate)
        theirs.param_groups[0]["lr"] = rate
        for parameter, optimizer in ((one, ours), (other, theirs)):
            optimizer.zero_grad()
            (parameter**3).backward()
            optimizer.step()
    torch.testing.assert_close(one, other)
    assert one != 1


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
