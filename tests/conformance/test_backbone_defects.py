"""The kit finds defective backbones: each defect is absent from the convolutional one."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from aebench.networks import CONV, ConvEncoder
from aebench.testing import BackboneUnderTest, backbones


class OnlyEvenSizes(nn.Module):
    """Half the image's size, doubled."""

    def __init__(self, latent_dim, output_shape):
        super().__init__()
        channels, height, width = output_shape
        self.layers = nn.Sequential(
            nn.Linear(latent_dim, channels * (height // 2) * (width // 2)),
            nn.Unflatten(1, (channels, height // 2, width // 2)),
            nn.Upsample(scale_factor=2),
        )

    def forward(self, z):
        return self.layers(z)


class LeavesAParameter(ConvEncoder):
    def __init__(self, input_shape, code_width):
        super().__init__(input_shape, code_width)
        self.unused = nn.Parameter(torch.ones(1))


class NormalisesTheBatch(ConvEncoder):
    def forward(self, x):
        return super().forward(x - x.mean(dim=0))


class DropsOutAlways(ConvEncoder):
    def forward(self, x):
        return super().forward(functional.dropout(x))


BACKBONE_DEFECTS = [
    (backbones.shapes_and_dtypes, {"decoder": OnlyEvenSizes}, "(1, 9, 13) images"),
    (backbones.gradient_reaches_every_parameter, {"encoder": LeavesAParameter}, "unused"),
    (backbones.deterministic_evaluation, {"encoder": NormalisesTheBatch}, "the batch changes its output"),
    (backbones.deterministic_evaluation, {"encoder": DropsOutAlways}, "global generator"),
]


@pytest.mark.parametrize(("check", "parts", "actual"), BACKBONE_DEFECTS, ids=lambda value: getattr(value, "name", None))
def test_a_defective_backbone_is_found(check, parts, actual):
    result = check(BackboneUnderTest(CONV.model_copy(update=parts)))
    assert not result.ok
    assert actual in result.actual
    assert check(BackboneUnderTest(CONV)).message == ""
