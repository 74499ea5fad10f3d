"""Every plugin in the repository passes the conformance kit."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Generator

from aebench.registry.loading import create_registry
from aebench.testing import checks_of

REGISTRY = create_registry()
NAMES = [*REGISTRY.autoencoders, *REGISTRY.tasks, *REGISTRY.backbones, *REGISTRY.samplers, "digits"]
CHECKS = [pytest.param(check, id=f"{name}-{check.name}") for name in NAMES for check in checks_of(name, REGISTRY)]


def test_every_plugin_is_loaded():
    assert REGISTRY.autoencoders
    assert REGISTRY.tasks
    assert REGISTRY.failures == ()


@pytest.mark.parametrize("check", CHECKS)
def test_contract(check):
    result = check()
    assert result.ok, result.message + result.traceback


@pytest.mark.parametrize("name", ["npz", "folder"])
def test_data_sets_with_required_parameters_pass(name, tmp_path):
    rng = np.random.default_rng(0)
    images, labels = rng.integers(256, size=(90, 6, 5), dtype=np.uint8), np.arange(90) % 3
    path = tmp_path / ("mine.npz" if name == "npz" else "mine")
    if name == "npz":
        np.savez(path, x=images, y=labels)
    else:
        for number, (image, label) in enumerate(zip(images, labels, strict=True)):
            file = path / str(label) / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(file)
    results = [check() for check in checks_of(name, REGISTRY, data_dir=Path(tmp_path), params={"path": str(path)})]
    assert [result.message for result in results if not result.ok] == []


@pytest.mark.cuda
@pytest.mark.parametrize("name", REGISTRY.autoencoders)
def test_the_model_gives_the_same_on_cuda(name, build):
    model = build(name).cuda().eval()
    x = torch.rand(6, *model.input_shape, generator=Generator().manual_seed(0))
    torch.testing.assert_close(
        model.reconstruct(x.cuda()).cpu(), build(name).eval().reconstruct(x), rtol=1e-3, atol=1e-4
    )
