"""Checks of the record: declared capabilities, the backbone, and parameters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from aebench.contracts import AebenchError, Autoencoder, Capability
from aebench.networks import DENSE
from aebench.testing.autoencoder_checks.model_under_test import (
    AutoencoderUnderTest,
    Shape,
    equal,
    random_images,
    seeded_generator,
)
from aebench.testing.checks import Nonconformance, check, expect
from aebench.testing.parameters import reject_unknown_keys

SHAPE: Shape = (1, 8, 8)
LATENT_DIM = 3


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


@check("aebench.contracts.AutoencoderRecord")
def reconstructs_through_its_backbone(subject: AutoencoderUnderTest) -> int:
    """A model whose record names no networks of its own reconstructs through `spec.encoder` and `spec.decoder`.

    One with networks of its own asks for neither.
    """
    calls: Counter[str] = Counter()

    def recorded(part: str, build: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
        def build_recorded(*shapes: Any) -> nn.Module:
            module = build(*shapes)
            for submodule in module.modules():
                submodule.register_forward_hook(lambda *_: calls.update([part]))
            return module

        return build_recorded

    backbone = DENSE.model_copy(
        update={"encoder": recorded("encoder", DENSE.encoder), "decoder": recorded("decoder", DENSE.decoder)}
    )
    model = subject.build(subject.spec(SHAPE, LATENT_DIM, backbone)).eval()
    with torch.no_grad():
        model.reconstruct(random_images(SHAPE))
    if not subject.record.own_networks:
        unused = [part for part in ("encoder", "decoder") if not calls[part]]
        expected = "a reconstruction through spec.encoder and spec.decoder, or own_networks to say why not"
        expect(not unused, expected, f"it does not use the {' and the '.join(unused)} of its backbone")
    return 1


@check("aebench.contracts.Params")
def strict_parameters(subject: AutoencoderUnderTest) -> int:
    """The params model has defaults for all its fields and rejects unknown keys."""
    return reject_unknown_keys(subject.record.params, need_defaults=True)
