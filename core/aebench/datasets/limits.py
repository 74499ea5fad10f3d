"""What a data set may cost: memory, counted before it is allocated, and the number of its classes."""

from __future__ import annotations

from math import prod

from aebench.errors import AebenchError
from aebench.memory import available_memory, format_bytes

LARGEST_SIDE = 4096  # pixels, of images that are resized
LARGEST_PADDING = 512
LARGEST_PICTURE = 2**26  # pixels of a file; PIL warns of decompression bombs a little above
MOST_CLASSES = 10_000
COPIES = 3  # at the peak: what is read, what it is converted to, and its splits


def check_memory(what: str, shape: tuple[int, ...], itemsize: int = 1) -> None:
    """Refuse arrays that do not fit into memory, before anything is allocated.

    Args:
        what: the data set or file, as the message names it.
        shape: of the array.
        itemsize: bytes of each value.

    Raises:
        AebenchError: it needs more memory than is available.
    """
    needed, available = COPIES * prod(shape) * itemsize, available_memory()
    if needed > available:
        raise AebenchError(
            f"{what}: {'x'.join(str(size) for size in shape)} values need {format_bytes(needed)} of memory, and "
            f"{format_bytes(available)} are available; use fewer or smaller images"
        )
