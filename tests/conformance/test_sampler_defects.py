"""The kit finds defective samplers: each defect is absent from the correct twin."""

from __future__ import annotations

import pytest
import torch

from aebench.contracts import SamplerRecord
from aebench.testing import SamplerUnderTest, samplers
from aebench.testing.small_digits import small_digits


def sampler(draw_codes, prepare=lambda codes: None):
    """A sampler that decodes draw_codes(codes, n, generator)."""

    def fit(model, codes, generator):
        prepare(codes)
        return lambda n, generator: model.decode_images(draw_codes(codes, n, generator))

    return SamplerRecord(name="mine", title="Mine", summary="under test", fit=fit)


def memorised(codes, n, generator):
    return codes[torch.randint(len(codes), (n,), generator=generator)]


def from_test_images(codes, n, generator):
    test = small_digits().test.x().flatten(1)[:, : codes.shape[1]]
    return memorised(test, n, generator)


def standard_normal_codes(codes, n, generator):
    return torch.randn(n, codes.shape[1], generator=generator)


def first_codes(codes, n, generator):
    return codes[:n]


def unseeded(codes, n, generator):
    return codes[torch.randperm(len(codes))[:n]]


def forked(codes, n, generator):
    with torch.random.fork_rng():
        return codes[torch.randperm(len(codes))[:n]]


def standardised(codes, n, generator):
    return codes.mean(dim=0) + (memorised(codes, n, generator) - codes.mean(dim=0)) / codes.std(dim=0) * codes.std(
        dim=0
    )


SAMPLER_DEFECTS = [
    (samplers.follows_the_codes, sampler(from_test_images), "off by"),
    (samplers.follows_the_codes, sampler(standard_normal_codes), "off by"),
    (samplers.seeded_sampling, sampler(first_codes), "they are the same"),
    (samplers.seeded_sampling, sampler(unseeded), "global random generator"),
    (samplers.seeded_sampling, sampler(forked), "two calls differ"),
    (samplers.seeded_sampling, sampler(memorised, lambda codes: codes.mul_(0.9)), "in place"),
    (samplers.shapes_and_ranges, sampler(lambda codes, n, generator: codes[:5]), "(5, 1, 2, 2)"),
    (samplers.unusual_codes, sampler(standardised), "codes: equal"),
]


@pytest.mark.parametrize(("check", "defective", "actual"), SAMPLER_DEFECTS)
def test_a_defective_sampler_is_found(check, defective, actual):
    result = check(SamplerUnderTest(defective))
    assert not result.ok
    assert actual in result.actual
    assert check(SamplerUnderTest(sampler(memorised))).message == ""
