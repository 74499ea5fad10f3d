"""The checks of every sampler, in the order in which they run."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from aebench.contracts import Autoencoder, Bernoulli, ModelSpec, Params, SamplerRecord
from aebench.testing.autoencoder_checks.model_under_test import equal, seeded_generator
from aebench.testing.checks import check, expect
from aebench.testing.side_effects import no_global_randomness, no_leftovers, seeded_global_generators

SHAPE = (1, 2, 2)
WIDTH = 4  # of the codes
CODES = 2000
SAMPLES = 2000
MEAN = torch.tensor([0.3, 0.4, 0.5, 0.6])
CORRELATED = torch.tensor([[1.0, 0.8, 0.0, 0.0], [0.8, 1.0, 0.0, 0.0], [0.0, 0.0, 0.5, -0.3], [0.0, 0.0, -0.3, 0.5]])
COVARIANCE = 0.05**2 * CORRELATED
TOLERANCE = 0.02  # of means and standard deviations, whose standard error is 0.001


class _Transparent(Autoencoder):
    """Its images are its codes, so that samples show which codes were drawn; its prior is the codes' distribution."""

    def __init__(self) -> None:
        spec = ModelSpec(SHAPE, WIDTH, Params(), None, Bernoulli())
        super().__init__(spec, nn.Flatten(), nn.Unflatten(1, SHAPE))

    def decode(self, z: Tensor) -> Tensor:
        return self.likelihood.from_mean(super().decode(z))

    def sample(self, n: int, generator: Generator) -> Tensor:
        return self.decode_images(_draw_codes(n, generator))


def _draw_codes(n: int, generator: Generator) -> Tensor:
    noise = torch.randn(n, WIDTH, generator=generator)
    return MEAN + noise @ torch.linalg.cholesky(COVARIANCE).T


@dataclass(frozen=True)
class SamplerUnderTest:
    """A registered sampler."""

    record: SamplerRecord

    @torch.no_grad()
    def samples(self, codes: Tensor, n: int = SAMPLES, seed: int = 0) -> Tensor:
        """n images, drawn after the sampler is fitted to the codes of a model that shows codes as images."""
        model = _Transparent().eval().requires_grad_(False)
        return self.record.fit(model, codes, seeded_generator(seed))(n, seeded_generator(seed + 1))


@check("aebench.contracts.SamplerRecord")
def shapes_and_ranges(subject: SamplerUnderTest) -> int:
    """Samples are images (n, *input_shape) float32 in [0, 1], for any n."""
    for n in (1, 7):
        samples = subject.samples(_draw_codes(CODES, seeded_generator()), n)
        matches = tuple(samples.shape) == (n, *SHAPE) and samples.dtype == torch.float32
        expect(matches, f"{(n, *SHAPE)} torch.float32", f"it returned {tuple(samples.shape)} {samples.dtype}")
        low, high = float(samples.min()), float(samples.max())
        expect(0 <= low <= high <= 1, "samples in [0, 1]", f"they lie in [{low}, {high}]")
    return 2


@check("aebench.contracts.SamplerRecord")
def follows_the_codes(subject: SamplerUnderTest) -> int:
    """The samples' codes are distributed like the training codes, and not like something else, such as test images."""
    samples = subject.samples(_draw_codes(CODES, seeded_generator())).flatten(1)
    mean, covariance = samples.mean(dim=0), samples.T.cov()
    off = float((mean - MEAN).abs().max())
    expect(off < TOLERANCE, "samples with the codes' mean", f"a mean is off by {off:.3g}")
    wrong = float((covariance - COVARIANCE).abs().max().sqrt())
    expect(wrong < TOLERANCE, "samples with the codes' covariance", f"a root covariance is off by {wrong:.3g}")
    return 2


@check("aebench.contracts.SamplerRecord")
def seeded_sampling(subject: SamplerUnderTest) -> int:
    """The same seed gives the same samples, another seed others; no global generator is used, nothing is written."""
    codes = _draw_codes(CODES, seeded_generator())
    before = codes.clone()
    with no_global_randomness("it"), no_leftovers("it"):
        one = subject.samples(codes, 50, seed=1)
        expect(equal(codes, before), "the codes to stay as they are", "fit changed them in place")
        other = subject.samples(codes, 50, seed=2)
    with seeded_global_generators(1):  # a sampler that draws from a copy of a global generator differs here
        again = subject.samples(codes, 50, seed=1)
    expect(equal(one, again), "the same samples from the same seed", "two calls differ")
    expect(not equal(one, other), "other samples from another seed", "they are the same")
    return 3


@check("aebench.contracts.SamplerRecord")
def unusual_codes(subject: SamplerUnderTest) -> int:
    """Codes that are few, equal or collapsed onto a line still give finite samples."""
    line = MEAN + torch.linspace(-0.1, 0.1, 50)[:, None] * torch.ones(WIDTH)
    few = _draw_codes(5, seeded_generator())
    for case, codes in (("5 codes", few), ("equal", MEAN.repeat(50, 1)), ("a line", line)):
        finite = bool(torch.isfinite(subject.samples(codes, 20)).all())
        expect(finite, "finite samples", f"codes: {case}: they are not finite")
    return 3


CHECKS = (shapes_and_ranges, follows_the_codes, seeded_sampling, unusual_codes)
