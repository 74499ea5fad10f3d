"""Pictures in every mode and depth give their true pixel values, or are refused."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from PIL import Image

from aebench.datasets.pictures import read_picture, to_plain
from aebench.errors import AebenchError

RAMP = np.array([[0, 1, 2, 127], [128, 200, 254, 255]], np.uint8)
WIDE = np.array([[0, 257, 1000, 32767], [32768, 40000, 65000, 65535]], np.uint16)
COLOURS = np.arange(24, dtype=np.uint8).reshape(2, 4, 3) * 10
ALPHA = np.array([[0, 64, 128, 255]] * 2, np.uint8)


def on_white(pixels, alpha):
    """Pixels (2, 4) or (2, 4, 3) uint8, laid on white."""
    share = alpha / 255.0
    return np.rint(
        pixels * share.reshape(2, 4, *[1] * (pixels.ndim - 2))
        + 255 * (1 - share).reshape(2, 4, *[1] * (pixels.ndim - 2))
    ).astype(int)


def palette():
    image = Image.fromarray(np.arange(8, dtype=np.uint8).reshape(2, 4), "L").convert("P")
    image.putpalette(COLOURS.reshape(8, 3).tobytes())
    return image


def palette_with_alpha():
    """Entries 0 to 7 of a palette, with the alpha of each pixel beside it."""
    image = Image.new("PA", (4, 2))
    image.putpalette(COLOURS.reshape(8, 3).tobytes())
    for i in range(8):
        image.putpixel((i % 4, i // 4), (i, int(ALPHA[i // 4, i % 4])))
    return image


def cmyk():
    """Ink 0 is white; cyan 255 has no red."""
    return Image.fromarray(np.concatenate([255 - COLOURS, np.zeros((2, 4, 1), np.uint8)], axis=2), "CMYK")


def channels(mode, *parts):
    return Image.merge(mode, [Image.fromarray(np.ascontiguousarray(part)) for part in parts])


RGB = [COLOURS[..., i] for i in range(3)]
# By mode: a picture, its true pixels, and the error that its own arithmetic with 8 bits allows.
READ = {
    "1": (Image.fromarray(RAMP > 127), np.where(RAMP > 127, 255, 0), 0),
    "L": (Image.fromarray(RAMP), RAMP, 0),
    "P": (palette(), COLOURS, 0),
    "PA": (palette_with_alpha(), on_white(COLOURS, ALPHA), 1),
    "LA": (channels("LA", RAMP, ALPHA), on_white(RAMP, ALPHA)[..., None].repeat(3, axis=2), 1),
    "La": (channels("LA", RAMP, ALPHA).convert("La"), on_white(RAMP, ALPHA)[..., None].repeat(3, axis=2), 1),
    "RGB": (channels("RGB", *RGB), COLOURS, 0),
    "RGBA": (channels("RGBA", *RGB, ALPHA), on_white(COLOURS, ALPHA), 1),
    "RGBa": (channels("RGBA", *RGB, ALPHA).convert("RGBa"), on_white(COLOURS, ALPHA), 1),
    "RGBX": (channels("RGBX", *RGB, ALPHA), COLOURS, 0),
    "CMYK": (cmyk(), COLOURS, 0),
    "YCbCr": (channels("RGB", *RGB).convert("YCbCr"), COLOURS, 2),
    "HSV": (channels("RGB", *RGB).convert("HSV"), COLOURS, 3),
    "I;16": (Image.fromarray(WIDE), np.rint(WIDE / 257), 0),
    "I;16L": (Image.frombytes("I;16L", (4, 2), WIDE.astype("<u2").tobytes()), np.rint(WIDE / 257), 0),
    "I;16B": (Image.frombytes("I;16B", (4, 2), WIDE.astype(">u2").tobytes()), np.rint(WIDE / 257), 0),
    "I;16N": (Image.frombytes("I;16N", (4, 2), WIDE.tobytes()), np.rint(WIDE / 257), 0),
}
REFUSED = {
    "I": Image.fromarray(WIDE.astype(np.int32)),
    "F": Image.fromarray(RAMP.astype(np.float32)),
    "LAB": Image.new("LAB", (4, 2)),
}


def test_every_mode_is_here():
    assert set(READ) | set(REFUSED) == set(Image.MODES)


@pytest.mark.parametrize("mode", READ)
def test_true_values(mode):
    image, expected, tolerance = READ[mode]
    assert image.mode == mode
    plain = to_plain(image)
    assert plain.mode in ("L", "RGB")
    pixels = np.asarray(plain).astype(int)
    assert pixels.shape == expected.shape
    assert np.abs(pixels - expected).max() <= tolerance


@pytest.mark.parametrize("mode", REFUSED)
def test_unknown_ranges(mode):
    assert REFUSED[mode].mode == mode
    with pytest.raises(AebenchError, match=f"mode {mode}, whose range is unknown"):
        to_plain(REFUSED[mode])


def square(values):
    """(2, 4) -> (8, 8), so that no pixel changes when the picture is resized to its own size."""
    return np.ascontiguousarray(np.tile(values, (4, 2)))


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.ppm"])
def test_files_of_16_bits(tmp_path, name):
    Image.fromarray(square(WIDE)).save(tmp_path / name)
    pixels = read_picture(tmp_path / name, 8, color=False)
    assert pixels.shape == (8, 8, 1)
    assert np.array_equal(pixels[..., 0], np.rint(square(WIDE) / 257))
    assert np.array_equal(read_picture(tmp_path / name, 8, color=True), pixels.repeat(3, axis=2))


def test_a_portable_map_of_12_bits(tmp_path):
    values = square(WIDE) >> 4
    (tmp_path / "a.ppm").write_bytes(b"P5 8 8 4095\n" + values.astype(">u2").tobytes())
    assert np.abs(read_picture(tmp_path / "a.ppm", 8, False)[..., 0] - np.rint(values / 4095 * 255)).max() == 0


def tiff(values, bits, photometric=1, sample_format=1):
    """A TIFF of one strip with the bytes of `values`, for 8 by 8 pixels."""
    data = values.tobytes()
    tags = {
        256: 8,
        257: 8,
        258: bits,
        259: 1,
        262: photometric,
        273: 8,
        277: 1,
        278: 8,
        279: len(data),
        339: sample_format,
    }
    directory = struct.pack("<H", len(tags))
    directory += b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + directory + bytes(4)


def test_a_tiff_of_12_bits_has_its_own_range(tmp_path):
    pairs = (square(WIDE) >> 4).reshape(-1, 2).astype(int)
    packed = np.stack([pairs[:, 0] >> 4, (pairs[:, 0] & 15) << 4 | pairs[:, 1] >> 8, pairs[:, 1] & 255], axis=1)
    (tmp_path / "a.tif").write_bytes(tiff(packed.astype(np.uint8), bits=12))
    assert np.array_equal(read_picture(tmp_path / "a.tif", 8, False)[..., 0], np.rint((square(WIDE) >> 4) / 4095 * 255))


@pytest.mark.parametrize(("values", "bits"), [(square(RAMP), 8), (square(WIDE), 16)])
def test_a_tiff_in_which_white_is_zero(tmp_path, values, bits):
    (tmp_path / "a.tif").write_bytes(tiff(values, bits, photometric=0))
    largest = 2**bits - 1
    expected = np.rint((largest - values.astype(float)) / largest * 255)
    assert np.array_equal(read_picture(tmp_path / "a.tif", 8, False)[..., 0], expected)


@pytest.mark.parametrize("bits", [8, 16])
def test_a_tiff_with_signed_values(tmp_path, bits):
    values = square(WIDE).astype(np.int16 if bits == 16 else np.int8)
    (tmp_path / "a.tif").write_bytes(tiff(values, bits, sample_format=2))
    with pytest.raises(AebenchError, match="signed or floating-point"):
        read_picture(tmp_path / "a.tif", 8, False)


def test_a_transparent_colour_of_a_palette(tmp_path):
    image = palette().resize((8, 8), Image.Resampling.NEAREST)
    image.save(tmp_path / "a.png", transparency=0)
    pixels = read_picture(tmp_path / "a.png", 8, color=True)
    assert pixels[0, 0].tolist() == [255, 255, 255]
    assert pixels[0, -1].tolist() == COLOURS[0, 3].tolist()


def test_an_image_of_a_camera_is_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    Image.fromarray(square(RAMP)).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(read_picture(tmp_path / "a.png", 8, False)[..., 0], square(RAMP)[::-1, ::-1])


def test_a_link_to_a_picture_is_followed(tmp_path):
    Image.fromarray(square(RAMP)).save(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to("a.png")
    assert np.array_equal(read_picture(tmp_path / "b.png", 8, False)[..., 0], square(RAMP))
