"""Numbers of bytes in words."""

import pytest

from aebench.memory import available_memory, format_bytes, machine_memory


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


def test_no_more_memory_is_available_than_there_is():
    assert 0 < available_memory() <= machine_memory()
