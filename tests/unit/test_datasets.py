"""Loading and splitting: seeded, disjoint, complete; and bad data is told from good before anything is trained."""

import struct
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import KMNIST, MNIST, FashionMNIST

from aebench.contracts import ImageDataset, Split
from aebench.datasets import load_dataset, mnist
from aebench.errors import AebenchError


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    for dataset_class in (MNIST, FashionMNIST, KMNIST):
        monkeypatch.setattr(dataset_class, "mirrors", ["http://127.0.0.1:9/"])


def _load(registry, name, data_dir=Path("."), seed=0, **params):
    record = registry.dataset(name).record
    return load_dataset(record, record.params(**params), data_dir, seed)


def _rows(split):
    return [image.tobytes() for image in split.images.numpy()]


def test_digits(digits):
    assert digits.info.input_shape == (1, 8, 8)
    assert digits.info.sizes == (1318, 120, 359)
    assert digits.train.images.dtype == torch.uint8
    assert digits.train.images.max() == 255
    assert digits.classes == tuple("0123456789")


def test_splits_are_disjoint_complete_and_seeded(tmp_path, registry):
    x = np.arange(100 * 16, dtype=np.uint8).reshape(100, 4, 4)
    x[:, 0, 0] = np.arange(100)
    np.savez(tmp_path / "a.npz", x=x)
    path = str(tmp_path / "a.npz")
    one, again, other = (_load(registry, "npz", seed=seed, path=path) for seed in (1, 1, 2))
    rows = [_rows(split) for split in (one.train, one.validation, one.test)]
    assert [len(part) for part in rows] == [73, 7, 20]
    assert sorted(chain(*rows)) == sorted(image.tobytes() for image in x)
    assert one.info.fingerprint == again.info.fingerprint != other.info.fingerprint


def test_a_fingerprint_sees_one_pixel_and_one_label(digits):
    pixel, label = digits.train.images.clone(), digits.train.labels.clone()
    pixel[0, 0, 0, 0] += 1
    label[0] = (label[0] + 1) % 10
    for train in (Split(pixel, digits.train.labels), Split(digits.train.images, label)):
        assert replace(digits, train=train).info.fingerprint != digits.info.fingerprint


def test_a_class_is_held_out_of_training_only(digits):
    without = digits.without_class(1)
    assert 1 not in without.train.labels
    assert 1 not in without.validation.labels
    assert torch.equal(without.test.labels, digits.test.labels)
    assert len(without.train) == (digits.train.labels != 1).sum()


def test_a_data_set_survives_its_file(tmp_path, digits):
    digits.save(tmp_path / "digits.safetensors")
    assert ImageDataset.open(tmp_path / "digits.safetensors").info == digits.info


def test_npz_with_floats_labels_and_colour(tmp_path, registry):
    x = np.linspace(0, 1, 40 * 5 * 5 * 3).reshape(40, 5, 5, 3)
    np.savez(tmp_path / "a.npz", x=x, y=np.array(["cat", "dog"] * 20))
    data = _load(registry, "npz", path=str(tmp_path / "a.npz"))
    assert data.info.input_shape == (3, 5, 5)
    assert data.classes == ("cat", "dog")


@pytest.mark.parametrize(
    ("arrays", "complaint"),
    [
        ({"z": np.zeros((30, 4, 4))}, "no array 'x'"),
        ({"x": np.zeros((30, 16))}, "must be"),
        ({"x": np.full((30, 4, 4), 2.0)}, r"lie in \[0, 1\], which the likelihoods need, but lies in \[2, 2\]"),
        ({"x": np.linspace(-0.5, 1, 480).reshape(30, 4, 4)}, r"but lies in \[-0.5, 1\]; rescale it"),
        ({"x": np.full((30, 4, 4), np.nan)}, r"lie in \[0, 1\], but has NaN or infinite values"),
        ({"x": np.zeros((30, 4, 4), dtype=np.int64)}, "uint8"),
        ({"x": np.zeros((30, 4, 4)), "y": np.zeros(29, int)}, "a label for each of the 30 images, got 29"),
        ({"x": np.zeros((30, 4, 4)), "y": np.zeros((30, 1))}, r"y must be \(N,\)"),
        ({"x": np.zeros((3, 4, 4))}, "at least 20 images"),
        ({"x": np.zeros((0, 4, 4))}, "x is empty"),
    ],
)
def test_bad_arrays(tmp_path, registry, arrays, complaint):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(AebenchError, match=complaint):
        _load(registry, "npz", path=str(tmp_path / "a.npz"))


def test_an_npz_that_is_none(tmp_path, registry):
    (tmp_path / "a.npz").write_text("no")
    with pytest.raises(AebenchError, match="cannot be read"):
        _load(registry, "npz", path=str(tmp_path / "a.npz"))


def _write_images(folder, count, value):
    folder.mkdir(parents=True)
    for i in range(count):
        Image.fromarray(np.full((10, 12), value + i, dtype=np.uint8)).save(folder / f"{i}.png")


def test_folder_with_classes(tmp_path, registry):
    _write_images(tmp_path / "cats", 15, 0)
    _write_images(tmp_path / "dogs", 15, 100)
    data = _load(registry, "folder", path=str(tmp_path), size=16)
    assert data.info.input_shape == (1, 16, 16)
    assert data.classes == ("cats", "dogs")
    for split in (data.train, data.test):
        assert torch.equal(split.labels, (split.images.amax(dim=(1, 2, 3)) >= 100).long())


def test_folder_without_classes(tmp_path, registry):
    _write_images(tmp_path / "pictures", 30, 0)
    data = _load(registry, "folder", path=str(tmp_path / "pictures"), color=True)
    assert data.info.input_shape == (3, 32, 32)
    assert data.train.labels is None
    assert data.classes == ()


def test_bad_folders(tmp_path, registry):
    with pytest.raises(AebenchError, match="not a folder"):
        _load(registry, "folder", path=str(tmp_path / "none"))
    with pytest.raises(AebenchError, match="holds no images"):
        _load(registry, "folder", path=str(tmp_path))
    (tmp_path / "broken.png").write_text("no")
    with pytest.raises(AebenchError, match=r"broken\.png cannot be read"):
        _load(registry, "folder", path=str(tmp_path))


def _write_idx(folder, train=60, test=20):
    """A small data set in MNIST's format."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for part, n in (("train", train), ("t10k", test)):
        images = struct.pack(">IIII", 0x803, n, 28, 28) + rng.integers(256, size=n * 784, dtype=np.uint8).tobytes()
        (folder / f"{part}-images-idx3-ubyte").write_bytes(images)
        labels = struct.pack(">II", 0x801, n) + (np.arange(n) % 10).astype(np.uint8).tobytes()
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(labels)


@pytest.mark.parametrize(("name", "folder"), [("fashion_mnist", "FashionMNIST"), ("kmnist", "KMNIST")])
def test_idx_files_are_read_and_padded(tmp_path, registry, name, folder):
    _write_idx(tmp_path / folder / "raw")
    data = _load(registry, name, tmp_path)
    assert data.info.input_shape == (1, 32, 32)
    assert data.info.sizes == (55, 5, 20)
    assert len(data.classes) == 10
    border = data.test.images.clone()
    border[:, :, 2:-2, 2:-2] = 0
    assert not border.any()
    raw = np.frombuffer((tmp_path / folder / "raw" / "t10k-images-idx3-ubyte").read_bytes()[16:], np.uint8)
    assert np.array_equal(data.test.images[:, 0, 2:-2, 2:-2].numpy().ravel(), raw)
    assert _load(registry, name, tmp_path, padding=0).info.input_shape == (1, 28, 28)


@pytest.mark.parametrize("damage", [lambda b: b[:-100], lambda b: b"\1" + b[1:], lambda b: b[:3], lambda b: b + b"x"])
@pytest.mark.parametrize("file", ["train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"])
def test_a_damaged_idx_file_is_named(tmp_path, registry, damage, file):
    raw = tmp_path / "KMNIST" / "raw"
    _write_idx(raw, train=300, test=300)
    (raw / file).write_bytes(damage((raw / file).read_bytes()))
    with pytest.raises(AebenchError, match=rf"{file} is corrupt or truncated.*could not be downloaded"):
        _load(registry, "kmnist", tmp_path)


def test_mnist_that_is_not_the_published_one(tmp_path, registry):
    _write_idx(tmp_path / "MNIST" / "raw")
    with pytest.raises(AebenchError, match="MD5 digest is not the published one"):
        _load(registry, "mnist", tmp_path)


def test_a_download_without_a_network_says_how_to_go_on(tmp_path, registry):
    with pytest.raises(AebenchError, match=r"could not be downloaded.*without a network, put train-images.*'digits'"):
        _load(registry, "kmnist", tmp_path)


def test_a_data_directory_that_cannot_be_written(tmp_path, registry):
    (tmp_path / "file").write_text("")
    with pytest.raises(AebenchError, match=r"cannot be written.*--data-dir"):
        _load(registry, "kmnist", tmp_path / "file")


def test_a_download_that_brings_none_of_the_files(tmp_path, registry):
    processed = tmp_path / "KMNIST" / "processed"  # a layout of long ago, with which torchvision downloads nothing
    processed.mkdir(parents=True)
    for part in ("training", "test"):
        torch.save((torch.zeros(1, 28, 28), torch.zeros(1)), processed / f"{part}.pt")
    with pytest.raises(AebenchError, match=r"could not be downloaded \(the download has no train-images.*put train-im"):
        _load(registry, "kmnist", tmp_path)


def test_published_digests_are_of_the_four_files():
    assert set(mnist.MNIST_MD5) == set(mnist.IDX_FILES)
