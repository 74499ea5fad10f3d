"""The package that `aebench new` writes passes every check unchanged."""

import importlib
import sys

import pytest
import torch

from aebench.contracts import Context, ImageDataset, Split
from aebench.registry.records import Registered, Registry
from aebench.scaffold import write_package
from aebench.testing import checks_of
from aebench.training.optimizers import adam

KINDS = {"autoencoder": "aebench_autoencoders", "task": "aebench_tasks", "dataset": "aebench_datasets"}


@pytest.mark.parametrize(("kind", "hook"), KINDS.items())
def test_the_package_passes_its_checks(kind, hook, registry, tmp_path, monkeypatch):
    name = f"brand_new_{kind}"
    monkeypatch.syspath_prepend(write_package(kind, name, tmp_path, registry))
    module = importlib.import_module(f"aebench_{name}")
    records = getattr(module, hook)()
    assert [record.name for record in records] == [name]
    registered = {name: Registered(records[0], "", "", "")}
    own = Registry(*(registered if each == hook else {} for each in KINDS.values()))
    assert [result.message for check in checks_of(name, own) if not (result := check()).ok] == []
    sys.modules.pop(module.__name__)


def test_the_task_shows_colour_images_in_colour(registry, build, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(write_package("task", "brand_new_picture", tmp_path, registry))
    (record,) = importlib.import_module("aebench_brand_new_picture").aebench_tasks()
    sys.modules.pop("aebench_brand_new_picture")
    red = torch.zeros(20, 3, 8, 6, dtype=torch.uint8)
    red[:, 0] = 255
    data = ImageDataset("red", "Red", (), 4, Split(red), Split(red), Split(red))
    model = build("vanilla", (3, 8, 6)).eval()
    with torch.no_grad():
        evaluation = record.evaluate(
            model, data, Context(record.params(), torch.device("cpu"), 0, None, lambda: model, adam)
        )
    picture = evaluation.images["worst"]
    assert picture.shape == (8, 12, 3)
    assert (picture[:, :6] == (255, 0, 0)).all()
