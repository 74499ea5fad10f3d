"""Exports a trained model as a program that runs without the plugin it came from."""

from __future__ import annotations

import io

import torch

from aebench.contracts import Autoencoder


def export_program(model: Autoencoder, input_shape: tuple[int, int, int]) -> bytes:
    """The model's `forward` as a program of `torch.export`, in PyTorch's format pt2; reading it executes no code.

    Args:
        model: in evaluation mode, on the CPU.
        input_shape: (C, H, W) of one image; the program takes any number of images at once.

    Raises:
        Exception: whatever PyTorch raises for a model that it cannot export.
    """
    images = torch.zeros(2, *input_shape)  # with one image, the export would fix the batch size at one
    program = torch.export.export(model, (images,), dynamic_shapes=[{0: torch.export.Dim.AUTO}])
    content = io.BytesIO()
    torch.export.save(program, content)
    return content.getvalue()
