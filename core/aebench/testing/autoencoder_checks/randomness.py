"""Checks of randomness: every random number comes from the generator that is passed in."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from aebench.contracts import Capability
from aebench.testing.autoencoder_checks.model_under_test import (
    EPOCHS,
    AutoencoderUnderTest,
    equal,
    fits,
    random_bytes,
    random_images,
    seeded_generator,
    updates,
)
from aebench.testing.checks import check, expect
from aebench.testing.side_effects import no_global_randomness, seeded_global_generators


@check("aebench.contracts.Autoencoder.bottleneck")
def seeded_stochasticity(subject: AutoencoderUnderTest) -> int:
    """Sampled codes, the loss and samples depend on the generator that is passed in, and on no other."""
    checked = 0
    for case, model in subject.cases():
        x = random_images(model.input_shape)
        calls: dict[str, Callable[[], Tensor]] = {
            "embed(stochastic=True)": lambda m=model, x=x: m.embed(x, stochastic=True, generator=seeded_generator(1)),  # type: ignore[misc]
            "loss": lambda m=model, x=x: m.loss(x, seeded_generator(1)).total,  # type: ignore[misc]
        }
        if Capability.SAMPLE in subject.record.capabilities:
            calls["sample"] = lambda m=model: m.sample(4, seeded_generator(1))  # type: ignore[misc]
        for name, call in calls.items():
            results = []
            for seed in (1, 2):
                with seeded_global_generators(seed), torch.no_grad():
                    results.append(call())
            actual = f"{case}: two calls with the same seed give different values"
            expect(equal(*results), f"{name} to depend on the generator alone", actual)
            checked += 1
    return checked


@check("aebench.contracts.AutoencoderRecord")
def no_global_generators(subject: AutoencoderUnderTest) -> int:
    """Nothing draws from a global generator; only build may draw from PyTorch's, which it must not seed."""
    return _initialisation_follows_the_seed(subject) + _methods_leave_global_generators_unchanged(subject)


def _initialisation_follows_the_seed(subject: AutoencoderUnderTest) -> int:
    _, spec = next(subject.specs())
    for seed in (1, 2):
        with seeded_global_generators(seed):
            subject.record.build(spec)
            current = torch.initial_seed()
            expect(current == seed, "build not to seed PyTorch", f"it called torch.manual_seed({current})")
    one, other = (subject.build(spec, seed=1).state_dict() for _ in range(2))
    different = [name for name in one if not equal(one[name], other[name])]
    expect(not different, "the same initial weights from the same seed", f"{', '.join(different)} differ")
    return 3


def _methods_leave_global_generators_unchanged(subject: AutoencoderUnderTest) -> int:
    checked = 0
    for case, model in subject.cases():
        x = random_images(model.input_shape)
        with no_global_randomness(f"{case}: loss"):
            model.loss(x, seeded_generator())
        for _, update in updates(model):
            for module in update.trains:
                module.train()
            with no_global_randomness(f"{case}: the loss in training mode (nn.Dropout ignores the generator)"):
                update.loss(x, seeded_generator())
            model.eval()
        with no_global_randomness(f"{case}: reconstruct"), torch.no_grad():
            model.reconstruct(x)
            model.reconstruct(x, stochastic=True, generator=seeded_generator())
        with no_global_randomness(f"{case}: on_epoch"):
            model.on_epoch(0, EPOCHS)
        for fit in fits(model):
            with no_global_randomness(f"{case}: fit"):
                fit(random_bytes(model.input_shape), seeded_generator())
        if Capability.SAMPLE in subject.record.capabilities:
            with no_global_randomness(f"{case}: sample"), torch.no_grad():
                model.sample(4, seeded_generator())
        checked += 1
    return checked
