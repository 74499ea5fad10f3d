"""Numbers of bytes in words, and memory that goes back to the system."""

import ctypes
import subprocess
import sys

import pytest

from aebench.memory import available_memory, format_bytes, machine_memory

with_glibc = pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="this C library cannot do it"
)

FREE_MANY_BLOCKS = """
import psutil
from aebench.memory import return_freed_memory
blocks = [bytearray(50_000) for _ in range(6000)]
blocks = blocks[-1:]  # the last block, at the top of the heap, keeps the others there
before = psutil.Process().memory_info().rss
return_freed_memory()
print(before - psutil.Process().memory_info().rss)
"""


# Allocates and frees what a step of a training might, and prints how much of it the process still has.
TAKE_A_STEP = """
import psutil
from aebench.memory import keep_freed_memory
{keep}
before = psutil.Process().memory_info().rss
blocks = [bytearray(10_000_000) for _ in range(4)]
del blocks
print(psutil.Process().memory_info().rss - before)
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


def number_printed_by(program):
    return int(subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout)


@with_glibc
def test_memory_that_was_freed_goes_back_to_the_system():
    assert number_printed_by(FREE_MANY_BLOCKS) > 200_000_000


@with_glibc
def test_memory_that_was_freed_is_kept_for_the_next_step():
    assert number_printed_by(TAKE_A_STEP.format(keep="keep_freed_memory()")) > 35_000_000
    assert number_printed_by(TAKE_A_STEP.format(keep="")) < 25_000_000


def test_no_more_memory_is_available_than_there_is():
    assert 0 < available_memory() <= machine_memory()
