"""Files that are written as a whole or not at all, and checked when they are read."""

import os
import resource
import signal

import pytest

from aebench.errors import DamagedFile
from aebench.files import read_sealed, write_atomically, write_sealed


def test_a_sealed_file_gives_its_content_back(tmp_path):
    write_sealed(tmp_path / "file", b"content")
    assert read_sealed(tmp_path / "file") == b"content"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    "damage", [lambda c: c[:-1], lambda c: c[:10], lambda c: b"", lambda c: c + b"x", lambda c: c[:-1] + b"X"]
)
def test_a_damaged_file_is_noticed(tmp_path, damage):
    file = tmp_path / "file"
    write_sealed(file, b"content")
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(DamagedFile, match="file is damaged"):
        read_sealed(file)


def test_a_write_that_fails_leaves_the_old_content_and_no_other_file(tmp_path):
    file = tmp_path / "file"
    write_atomically(file, b"old")
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            write_atomically(file, bytes(100_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert file.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]
