"""Checks of evaluation: shapes, independence of the batch, determinism, extreme codes."""

from __future__ import annotations

import torch

from aebench.contracts import Autoencoder
from aebench.testing.autoencoder_checks.model_under_test import (
    AutoencoderUnderTest,
    equal,
    random_images,
    seeded_generator,
)
from aebench.testing.checks import check, expect
from aebench.testing.side_effects import seeded_global_generators

LARGE = 100.0  # standard deviation of the codes that `large_codes` decodes


@check("aebench.contracts.Autoencoder")
def shapes_and_dtypes(subject: AutoencoderUnderTest) -> int:
    """Codes, decoded values and reconstructions have the shapes, dtypes and ranges of the contract."""
    checked = 0
    for case, model in subject.cases(trained=False):
        expect(isinstance(model, Autoencoder), "build to return an aebench.contracts.Autoencoder", f"got {type(model)}")
        for n in (6, 1):
            x = random_images(model.input_shape, n)
            with torch.no_grad():
                z = model.embed(x)
                decoded, reconstruction = model.decode(z), model.reconstruct(x)
                line = model.interpolate(x, x.flip(0), 5)
            for method, tensor, shape in (
                ("embed", z, (n, model.latent_dim)),
                ("decode", decoded, tuple(x.shape)),
                ("reconstruct", reconstruction, tuple(x.shape)),
                ("interpolate", line, (n, 5, *model.input_shape)),
            ):
                expected = f"{method} to return {shape} torch.float32 for {case}"
                actual = f"it returned {tuple(tensor.shape)} {tensor.dtype}"
                expect(tuple(tensor.shape) == shape and tensor.dtype == torch.float32, expected, actual)
                checked += 1
            for method, images in (("reconstruct", reconstruction), ("interpolate", line)):
                low, high = float(images.min()), float(images.max())
                expect(0 <= low <= high <= 1, f"{method} to return values in [0, 1]", f"they lie in [{low}, {high}]")
    return checked


@check("aebench.contracts.Autoencoder.embed")
def batch_independence(subject: AutoencoderUnderTest) -> int:
    """The code and the reconstruction of an image do not depend on the batch it is in."""
    checked = 0
    for case, model in subject.cases():
        x = random_images(model.input_shape)
        for name, method in (("embed", model.embed), ("reconstruct", model.reconstruct)):
            with torch.no_grad():
                in_batch = method(x)
                alone = torch.cat([method(image) for image in x.split(1)])
            difference = float((in_batch - alone).abs().max())
            close = torch.allclose(in_batch, alone, rtol=1e-3, atol=1e-4)
            actual = f"{case}: an image alone gives values that differ by {difference:.2g}"
            expect(close, f"{name} to give the same values for an image alone and in a batch", actual)
            checked += 1
    return checked


@check("aebench.contracts.Autoencoder.reconstruct")
def deterministic_evaluation(subject: AutoencoderUnderTest) -> int:
    """Without `stochastic=True` the same image always gives the same result."""
    checked = 0
    for case, model in subject.cases():
        x = random_images(model.input_shape)
        for name, method in (("embed", model.embed), ("reconstruct", model.reconstruct)):
            results = []
            for seed in (1, 2):
                with seeded_global_generators(seed), torch.no_grad():
                    results.append(method(x))
            expect(equal(*results), f"{name} to be deterministic", f"{case}: two calls give different values")
            checked += 1
    return checked


@check("aebench.contracts.Autoencoder.decode")
def large_codes(subject: AutoencoderUnderTest) -> int:
    """Codes far from zero decode to finite values: interpolated codes and samples of a prior may lie anywhere."""
    checked = 0
    for case, model in subject.cases():
        z = LARGE * torch.randn(16, model.latent_dim, generator=seeded_generator())
        with torch.no_grad():
            finite = torch.isfinite(model.decode(z)).float().mean()
        expect(
            finite == 1,
            "finite decoded values",
            f"{case}: {1 - float(finite):.0%} of the values of codes near ±{LARGE:g} are not finite",
        )
        checked += 1
    return checked
