"""Checks of the record: declared capabilities and parameters."""

from __future__ import annotations

import torch

from aebench.contracts import AebenchError, Autoencoder, Capability
from aebench.testing.autoencoder_checks.model_under_test import AutoencoderUnderTest, equal, seeded_generator
from aebench.testing.checks import Nonconformance, check, expect
from aebench.testing.parameters import reject_unknown_keys


@check("aebench.contracts.Capability")
def declared_capabilities(subject: AutoencoderUnderTest) -> int:
    """A model can do what its record declares, and declares what it can do."""
    checked = 0
    declared = Capability.SAMPLE in subject.record.capabilities
    for case, model in subject.cases():
        checked += 1
        if not declared:
            expect(
                type(model).sample is Autoencoder.sample,
                "the capability 'sample' to be declared, or no method sample",
                f"{case}: it overrides sample, but does not declare it",
            )
            continue
        try:
            with torch.no_grad():
                one, other = (model.sample(5, seeded_generator(seed)) for seed in (1, 2))
        except AebenchError as error:
            raise Nonconformance("a model that declares 'sample' to sample", f"{case}: {error}") from error
        shape = (5, *model.input_shape)
        expect(tuple(one.shape) == shape, f"sample to return {shape}", f"{case}: it returned {tuple(one.shape)}")
        low, high = float(one.min()), float(one.max())
        expect(0 <= low <= high <= 1, "samples in [0, 1]", f"{case}: they lie in [{low}, {high}]")
        expect(not equal(one, other), "different seeds to give different samples", f"{case}: they are the same")
    return checked


@check("aebench.contracts.Params")
def strict_parameters(subject: AutoencoderUnderTest) -> int:
    """The params model has defaults for all its fields and rejects unknown keys."""
    return reject_unknown_keys(subject.record.params, need_defaults=True)
