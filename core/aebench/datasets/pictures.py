"""Picture files become 8-bit pixels with their true values; what cannot be read unambiguously is refused."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from aebench.datasets.limits import LARGEST_PICTURE
from aebench.errors import AebenchError, one_line
from aebench.files import check_regular

if TYPE_CHECKING:
    from PIL.Image import Image

# By suffix; a file is read as one of these formats, whatever else PIL could make of it.
FORMATS = {
    ".bmp": "BMP",
    ".gif": "GIF",
    ".jpeg": "JPEG",
    ".jpg": "JPEG",
    ".png": "PNG",
    ".ppm": "PPM",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".webp": "WEBP",
}
BITS_PER_SAMPLE, PHOTOMETRIC, SAMPLE_FORMAT = 258, 262, 339  # tags of TIFF
WHITE_IS_ZERO, UNSIGNED = 0, 1
STDERR = 2
UNAMBIGUOUS = {"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV"}
SIXTEEN_BITS = {"I;16", "I;16B", "I;16L", "I;16N"}


def read_picture(path: Path, size: int, color: bool) -> np.ndarray[Any, Any]:
    """One picture, upright, resized to a square: (size, size, C) uint8 with one channel or, with `color`, three.

    Raises:
        AebenchError: the file is missing or damaged, is no file, is too large, is animated, or its values have no
            known range.
    """
    from PIL import Image, ImageOps

    try:
        check_regular(path)
        with _silent_libraries(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what matters is raised
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=sorted(set(FORMATS.values()))) as image:
                _check(image)
                ImageOps.exif_transpose(image, in_place=True)
                square = to_plain(image).convert("RGB" if color else "L").resize((size, size))
    except AebenchError as error:
        raise AebenchError(f"{path} {error}") from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise AebenchError(f"{path} has more than {LARGEST_PICTURE:,} pixels, the limit of a picture") from error
    except OSError as error:
        raise AebenchError(f"{path} cannot be read as an image: {error.strerror or one_line(error)}") from error
    except Exception as error:  # PIL raises anything on a damaged file
        raise AebenchError(f"{path} cannot be read as an image: {one_line(error)}") from error
    return np.atleast_3d(np.asarray(square))


@contextlib.contextmanager
def _silent_libraries() -> Iterator[None]:
    """Inside, nothing reaches the file descriptor of stderr, on which libtiff prints what it thinks of a file."""
    sys.stderr.flush()
    kept = os.dup(STDERR)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), STDERR)
        yield
    finally:
        os.dup2(kept, STDERR)
        os.close(kept)


def _check(image: Image) -> None:
    width, height = image.size
    if width * height > LARGEST_PICTURE:
        raise AebenchError(f"has {width * height:,} pixels; the limit of a picture is {LARGEST_PICTURE:,}")
    if set(getattr(image, "tag_v2", {}).get(SAMPLE_FORMAT, (UNSIGNED,))) != {UNSIGNED}:
        raise AebenchError("has signed or floating-point values, whose range is unknown; save it with 8 or 16 bits")
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":  # whose other frames are previews of a camera's first
        raise AebenchError(f"has {frames} frames; give each of them a file of its own")


def to_plain(image: Image) -> Image:
    """The same picture in mode "L" or "RGB", its brightest possible value 255.

    Transparent pixels are laid on white, as viewers show them.

    Raises:
        AebenchError: the range of its values is not known.
    """
    from PIL import Image

    if image.mode in SIXTEEN_BITS or (image.mode == "I" and image.format == "PPM"):
        return _from_16_bits(image)
    if image.mode not in UNAMBIGUOUS:
        raise AebenchError(
            f"has pixels of PIL's mode {image.mode}, whose range is unknown; save it with 8 or 16 bits per channel"
        )
    if image.has_transparency_data:
        image = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def _from_16_bits(image: Image) -> Image:
    from PIL import Image

    if "transparency" in image.info:
        raise AebenchError("has 16 bits per pixel and a transparent colour; save it without transparency")
    tags: Any = getattr(image, "tag_v2", {})
    largest = 2 ** tags.get(BITS_PER_SAMPLE, (16,))[0] - 1
    values = np.asarray(image).astype(np.float64) / largest
    if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO:
        values = 1 - values
    return Image.fromarray(np.rint(values * 255).astype(np.uint8))
