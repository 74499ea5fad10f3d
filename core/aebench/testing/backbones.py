"""The checks of every backbone, in the order in which they run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from aebench.contracts import BackboneRecord
from aebench.testing.autoencoder_checks.model_under_test import equal, random_images
from aebench.testing.checks import check, expect
from aebench.testing.side_effects import no_global_randomness, seeded_global_generators

LATENT_DIM = 5
CODE_WIDTH = 10
CHANNELS = 1, 3
LONGER_BY = (0, 0), (1, 5), (24, 24)  # pixels of height and width above the smallest that the backbone takes


@dataclass(frozen=True)
class BackboneUnderTest:
    """A registered backbone."""

    record: BackboneRecord

    def cases(self) -> Iterator[tuple[tuple[int, int, int], nn.Module, nn.Module]]:
        """Image shape, encoder and decoder, for several shapes from the smallest on; in training mode."""
        side = self.record.smallest_side
        for channels in CHANNELS:
            for higher, wider in LONGER_BY:
                shape = channels, side + higher, side + wider
                with seeded_global_generators(0):
                    yield shape, self.record.encoder(shape, CODE_WIDTH), self.record.decoder(LATENT_DIM, shape)


@check("aebench.contracts.BackboneRecord")
def shapes_and_dtypes(subject: BackboneUnderTest) -> int:
    """Encoder and decoder have outputs of the shapes of the contract, for images of any size from the smallest on."""
    checked = 0
    for shape, encoder, decoder in subject.cases():
        codes, decoded = encoder(random_images(shape)), decoder(torch.randn(6, LATENT_DIM))
        for name, tensor, expected in (("encoder", codes, (6, CODE_WIDTH)), ("decoder", decoded, (6, *shape))):
            actual = f"{shape} images: it returned {tuple(tensor.shape)} {tensor.dtype}"
            matches = tuple(tensor.shape) == expected and tensor.dtype == torch.float32
            expect(matches, f"the {name} to return {expected} torch.float32", actual)
            checked += 1
    return checked


@check("aebench.contracts.BackboneRecord")
def gradient_reaches_every_parameter(subject: BackboneUnderTest) -> int:
    """Every parameter of encoder and decoder gets a gradient."""
    checked = 0
    for shape, encoder, decoder in subject.cases():
        encoder(random_images(shape, 16)).square().sum().backward()
        (decoder(torch.randn(16, LATENT_DIM)) - random_images(shape, 16)).square().sum().backward()
        for module in (encoder, decoder):
            missed = [name for name, value in module.named_parameters() if value.grad is None or not value.grad.any()]
            expect(not missed, "a gradient for every parameter", f"{shape} images: none reaches {', '.join(missed)}")
            checked += len(list(module.parameters()))
    return checked


@check("aebench.contracts.BackboneRecord")
def deterministic_evaluation(subject: BackboneUnderTest) -> int:
    """In evaluation mode the same input gives the same output, for an image alone and in a batch."""
    checked = 0
    for shape, encoder, decoder in subject.cases():
        for name, module, batch in (
            ("encoder", encoder.eval(), random_images(shape)),
            ("decoder", decoder.eval(), torch.randn(6, LATENT_DIM)),
        ):
            with torch.no_grad(), no_global_randomness(f"the {name}"):
                first, second = module(batch), module(batch)
                alone = torch.cat([module(one) for one in batch.split(1)])
            expect(equal(first, second), f"the {name} to be deterministic", f"{shape} images: two calls differ")
            close = torch.allclose(first, alone, rtol=1e-3, atol=1e-4)
            expect(close, f"the {name} to treat each image alone", f"{shape} images: the batch changes its output")
            checked += 1
    return checked


CHECKS = (shapes_and_dtypes, gradient_reaches_every_parameter, deterministic_evaluation)
