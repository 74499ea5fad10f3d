"""Every model as a program: it reconstructs any number of images as the model does."""

import io

import pytest
import torch

from aebench.registry.loading import create_registry
from aebench.training.export import export_program

SHAPE = (1, 12, 8)


@pytest.mark.parametrize("name", sorted(create_registry().autoencoders))
def test_an_exported_model_takes_any_number_of_images(name, build):
    model = build(name, SHAPE).eval()
    program = torch.export.load(io.BytesIO(export_program(model, SHAPE))).module()
    for images in (1, 5):
        x = torch.rand(images, *SHAPE, generator=torch.Generator().manual_seed(images))
        torch.testing.assert_close(program(x), model(x))
