"""Numbers of bytes in words, and memory that goes back to the system."""

import ctypes
import subprocess
import sys

import pytest

from aebench.memory import available_memory, format_bytes, machine_memory

FREE_MANY_BLOCKS = """
import psutil
from aebench.memory import return_free_memory
blocks = [bytearray(50_000) for _ in range(6000)]
blocks = blocks[-1:]  # the last block, at the top of the heap, keeps the others there
before = psutil.Process().memory_info().rss
return_free_memory()
print(before - psutil.Process().memory_info().rss)
"""


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1 kB"),
        (9_140_000_000, "9.1 GB"),
        (80e12, "80 TB"),
        (5e15, "5 PB"),
        (3e21, "3000 EB"),
    ],
)
def test_numbers_of_bytes_have_a_unit(size, words):
    assert format_bytes(size) == words


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="this C library cannot do it"
)
def test_memory_that_was_freed_goes_back_to_the_system():
    command = [sys.executable, "-c", FREE_MANY_BLOCKS]
    returned = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert returned > 200_000_000


def test_no_more_memory_is_available_than_there_is():
    assert 0 < available_memory() <= machine_memory()
