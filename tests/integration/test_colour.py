"""Colour images in the shape of CIFAR-10: the whole matrix runs on both backbones, with numbers right for colour."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from PIL import Image

from .conftest import Home

CLASSES, SIDE, IMAGES = 10, 32, 300


def gratings(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Coloured gratings: x (N, 32, 32, 3) uint8 and y (N,); the class decides direction, frequency and colour."""
    y = np.arange(IMAGES) % CLASSES
    rows, columns = np.meshgrid(np.arange(SIDE), np.arange(SIDE), indexing="ij")
    angle, frequency = np.pi * y / CLASSES, 0.3 + 0.15 * (y % 3)
    along = rows * np.cos(angle)[:, None, None] + columns * np.sin(angle)[:, None, None]
    wave = np.sin(along * frequency[:, None, None] + rng.uniform(0, 2 * np.pi, (IMAGES, 1, 1)))
    colour = np.stack([0.5 + 0.4 * np.cos(2 * np.pi * y / CLASSES + shift) for shift in (0, 2, 4)], axis=1)
    x = 0.5 + 0.4 * wave[..., None] * colour[:, None, None] + rng.normal(0, 0.03, (IMAGES, SIDE, SIDE, 3))
    return (x.clip(0, 1) * 255).astype(np.uint8), y


@pytest.fixture(scope="module")
def colour_matrix(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """The whole matrix on both backbones, run once with a short budget."""
    home = Home(tmp_path_factory.mktemp("colour"))
    x, y = gratings(np.random.default_rng(0))
    np.savez(home.path / "colour.npz", x=x, y=y)
    home.run("run", "--dataset", "colour.npz", "--epochs", 1, "--backbones", "dense,conv")
    return home


def test_every_row_has_every_number(colour_matrix, registry):
    cells = colour_matrix.results()["cells"]
    rows = [
        name + suffix
        for name, plugin in registry.autoencoders.items()
        for suffix in ([""] if plugin.record.own_networks else ["", "_conv"])
    ]
    assert {(cell["model"], cell["task"]) for cell in cells} == set(product(rows, registry.tasks))
    primary = {name: plugin.record.primary.name for name, plugin in registry.tasks.items()}
    assert {cell["status"] for cell in cells} == {"ok"}
    assert all(np.isfinite(cell["metrics"][primary[cell["task"]]]) for cell in cells)


def test_the_reconstruction_error_is_that_of_the_gaussian_likelihood(colour_matrix):
    """The mean over images of a sum of squared errors, over twice the variance, plus the density's constant."""
    pixels, sigma = 3 * SIDE * SIDE, 0.1
    constant = pixels * (np.log(sigma) + np.log(2 * np.pi) / 2)
    for cell in colour_matrix.results()["cells"]:
        if cell["task"] == "reconstruction" and cell["model"] == "raw_pixels":
            assert cell["metrics"]["nll"] == pytest.approx(constant, rel=1e-6)
        elif cell["task"] == "reconstruction":
            # `mse` is that of the pictures, whose pixels are clipped to [0, 1], which are nearer to the image.
            assert cell["metrics"]["nll"] >= constant + pixels * cell["metrics"]["mse"] / (2 * sigma**2) - 0.1


def test_pictures_are_in_colour(colour_matrix):
    files = list((colour_matrix.path / "mlruns").rglob("ex_post_samples.png"))
    assert files
    for file in files:
        with Image.open(file) as image:
            pixels = np.asarray(image).astype(int)
        assert pixels.shape[2] == 3
    reconstructions = next((colour_matrix.path / "mlruns").rglob("reconstructions.png"))
    with Image.open(reconstructions) as image:
        red, green, blue = np.moveaxis(np.asarray(image.convert("RGB")).astype(int), 2, 0)
    assert (abs(red - green) > 20).mean() > 0.1
    assert (abs(green - blue) > 20).mean() > 0.1
