"""Published data sets: read from their original formats, downloaded, put there by hand, missing, and damaged."""

import hashlib
import os
import pickle
import re
import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import torch
from torchvision import datasets

from aebench.errors import AebenchError
from aebench.testing import checks_of
from tests.unit import published_datasets
from tests.unit.published_datasets import NO_NETWORK


@pytest.fixture(params=published_datasets.ALL, ids=lambda make: make.__name__)
def published(request, monkeypatch, tmp_path):
    """A small data set that cannot be downloaded."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))  # where medmnist makes a folder when it is imported
    published = request.param()
    published.point_to(monkeypatch, NO_NETWORK)
    return published


@pytest.fixture
def server(tmp_path):
    """The URL of a server of the files in the folder `published`."""
    (tmp_path / "published").mkdir()
    handler = partial(_QuietHandler, directory=tmp_path / "published")
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


class _QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture
def load(registry):
    def load(published, data_dir, **params):
        record = registry.dataset(published.name).record
        return record.load(record.params(**{**published.params, **params}), data_dir)

    return load


@pytest.fixture
def put(monkeypatch, tmp_path):
    """put(published): its files are in tmp_path, and it is returned."""

    def put(published):
        published.point_to(monkeypatch, NO_NETWORK)
        published.put(tmp_path / published.folder)
        return published

    return put


def _check(raw, published):
    expected = published.expected
    for images, right in ((raw.images, expected.images), (raw.test_images, expected.test_images)):
        assert images.dtype == torch.uint8
        assert images.shape == right.shape
        assert (images.int() - right.int()).abs().max() <= published.tolerance
    assert raw.classes == expected.classes
    if expected.labels is None:
        assert raw.labels is None
        assert raw.test_labels is None
    else:
        assert torch.equal(raw.labels, expected.labels)
        assert torch.equal(raw.test_labels, expected.test_labels)


def test_files_are_downloaded_once_and_read(published, load, tmp_path, monkeypatch, server):
    published.put(tmp_path / "published")
    published.point_to(monkeypatch, server)
    _check(load(published, tmp_path / "data"), published)
    published.point_to(monkeypatch, NO_NETWORK)
    _check(load(published, tmp_path / "data"), published)


def test_files_that_were_put_there_by_hand_need_no_network(published, load, tmp_path):
    published.put(tmp_path / "data" / published.folder)
    _check(load(published, tmp_path / "data"), published)


def test_the_checks_of_data_sets_pass(published, registry, tmp_path):
    published.put(tmp_path / "data" / published.folder)
    checks = checks_of(published.name, registry, data_dir=tmp_path / "data", params=published.params)
    results = [check() for check in checks]
    assert [result.message + result.traceback for result in results if not result.ok] == []


def test_without_a_network_one_line_says_which_files_go_where(published, load, tmp_path):
    folder = tmp_path / "data" / published.folder
    with pytest.raises(AebenchError) as error:
        load(published, tmp_path / "data")
    (line,) = str(error.value).splitlines()
    assert "could not be downloaded (" in line
    assert f"without a network, put {', '.join(published.files)} into {folder}, or run on 'digits'" in line


def test_only_what_is_missing_or_damaged_has_to_be_put_there(published, load, tmp_path):
    folder = tmp_path / "data" / published.folder
    published.put(folder)
    last = list(published.files)[-1]
    (folder / last).unlink()
    with pytest.raises(AebenchError, match=rf"put {re.escape(last)} into"):
        load(published, tmp_path / "data")
    if set(published.files) & set(published.read):
        return  # published as they are read: a damaged one has to be deleted
    (folder / last).write_bytes(published.files[last][:-10])
    with pytest.raises(AebenchError, match=rf"put {re.escape(last)} \(the one there is damaged\) into"):
        load(published, tmp_path / "data")


def _truncated(content):
    return content[:-10]


def _flipped(content):
    return content[:-20] + bytes([content[-20] ^ 1]) + content[-19:]


@pytest.mark.parametrize("damage", [_truncated, _flipped])
def test_a_damaged_file_is_had_again(published, load, tmp_path, monkeypatch, server, damage):
    published.put(tmp_path / "published")
    folder = tmp_path / "data" / published.folder
    published.put(folder)
    load(published, tmp_path / "data")
    in_archives = not set(published.files) & set(published.read)  # which are there, and are unpacked again
    for name in published.read:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(damage(content))
        if not in_archives:
            with pytest.raises(AebenchError) as error:
                load(published, tmp_path / "data")
            (line,) = error.value.lines
            assert line.startswith(f"{folder / name} is corrupt or truncated: ")
            assert "could not be downloaded (" in line
            assert f"put {name} into {folder}" in line
            assert (folder / name).read_bytes() == damage(content)
            published.point_to(monkeypatch, server)
        _check(load(published, tmp_path / "data"), published)
        published.point_to(monkeypatch, NO_NETWORK)
        assert (folder / name).read_bytes() == content
    assert not list(tmp_path.rglob("*.damaged"))
    _check(load(published, tmp_path / "data"), published)


def test_a_folder_that_cannot_be_written_is_read_without_digests(load, tmp_path, put):
    published = put(published_datasets.qmnist())
    load(published, tmp_path)
    folder = tmp_path / published.folder
    (folder / "aebench-digests").unlink()
    (folder / "aebench-digests.part").mkdir()  # root may write into any folder
    _check(load(published, tmp_path), published)
    assert not (folder / "aebench-digests").exists()


def test_damaged_digests_are_noted_anew(load, tmp_path, put):
    published = put(published_datasets.qmnist())
    load(published, tmp_path)
    digests = tmp_path / published.folder / "aebench-digests"
    whole = digests.read_bytes()
    digests.write_bytes(_flipped(whole))
    _check(load(published, tmp_path), published)
    assert digests.read_bytes() == whole


def test_a_pipe_in_the_place_of_a_file_is_not_read(load, tmp_path, put):
    published = put(published_datasets.usps())
    (tmp_path / "usps.bz2").unlink()
    os.mkfifo(tmp_path / "usps.bz2")
    with pytest.raises(AebenchError, match=r"usps\.bz2 cannot be read: it is a named pipe"):
        load(published, tmp_path)


def test_a_data_directory_that_cannot_be_written(published, load, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(AebenchError, match=r"that directory cannot be written \(.*--data-dir"):
        load(published, tmp_path / "file")


class _Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", ["data_batch_3", "test_batch", "batches.meta"])
def test_a_pickle_that_is_not_the_published_one_is_not_read(name, load, tmp_path, put):
    published = put(published_datasets.cifar10())
    load(published, tmp_path)
    (tmp_path / "cifar-10-batches-py" / name).write_bytes(pickle.dumps(_Trap(tmp_path / "trapped")))
    _check(load(published, tmp_path), published)  # the published one is unpacked again
    (tmp_path / "cifar-10-batches-py" / name).write_bytes(pickle.dumps(_Trap(tmp_path / "trapped")))
    (tmp_path / "cifar-10-python.tar.gz").unlink()
    with pytest.raises(AebenchError, match=f"{name} is corrupt"):
        load(published, tmp_path)
    assert not (tmp_path / "trapped").exists()


def test_a_pickle_that_calls_a_function_is_not_read_even_if_its_digest_is_right(load, tmp_path, put, monkeypatch):
    """Another user of a shared folder may exchange the file after its digest was compared."""
    published = put(published_datasets.cifar10())
    trap = pickle.dumps(_Trap(tmp_path / "trapped"))
    load(published, tmp_path)
    monkeypatch.setattr(datasets.CIFAR10, "test_list", [["test_batch", hashlib.md5(trap).hexdigest()]])
    (tmp_path / "cifar-10-batches-py" / "test_batch").write_bytes(trap)
    with pytest.raises(AebenchError, match=r"test_batch is corrupt or truncated: it names .*pathlib"):
        load(published, tmp_path)
    assert not (tmp_path / "trapped").exists()


def test_padding_is_a_parameter(load, tmp_path, put):
    for published in (put(published_datasets.emnist()), put(published_datasets.qmnist())):
        raw = load(published, tmp_path, padding=0)
        assert torch.equal(raw.images, published.expected.images[:, :, 2:-2, 2:-2])


def test_omniglot_is_resized_and_its_strokes_are_bright(load, tmp_path, put):
    images = load(put(published_datasets.omniglot(ink=(52, 52))), tmp_path, size=20).images
    assert images.shape[1:] == (1, 20, 20)
    assert images[:, :, :9, :9].amin(dim=(1, 2, 3)).unique().tolist() == [0, 255]  # some have no ink
    assert (images[:, :, 11:, :] == 0).all()
    assert (images[:, :, :, 11:] == 0).all()


def test_celeba_is_limited_in_its_published_order(load, tmp_path, put):
    published = put(published_datasets.celeba())
    raw = load(published, tmp_path, train_images=45, test_images=7)
    assert (len(raw.images), len(raw.test_images)) == (45, 7)
    assert torch.equal(raw.images, load(published, tmp_path).images[:45])


def test_medmnist_without_its_package(load, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "medmnist", None)
    with pytest.raises(AebenchError, match=r"needs the package medmnist.*pip install 'medmnist>=3'"):
        load(published_datasets.medmnist(), tmp_path)


def test_medmnist_lists_the_two_dimensional_sets(registry):
    info = pytest.importorskip("medmnist").INFO
    flat = {name for name in info if not name.endswith("3d")}
    subsets = registry.dataset("medmnist").record.params.model_json_schema()["properties"]["subset"]["enum"]
    assert set(subsets) == flat
