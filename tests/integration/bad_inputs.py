"""The table of bad inputs: what is written, how the command is called, and what its one line says."""

from __future__ import annotations

import io
import os
import pickle
import stat
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

Arguments = tuple[object, ...]


@dataclass(frozen=True)
class Case:
    """One bad input.

    Attributes:
        name: what is wrong.
        write: (folder) -> the arguments of the command, after writing the files that they name.
        expected: part of the line.
        env: environment variables; `{folder}` stands for the folder.
    """

    name: str
    write: Callable[[Path], Arguments]
    expected: str
    env: Mapping[str, str] = field(default_factory=dict)


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def options(name: str, arguments: Arguments, expected: str, **env: str) -> Case:
    return Case(f"options: {name}", lambda folder: arguments, expected, env)


def config(name: str, content: str | bytes, expected: str) -> Case:
    def write(folder: Path) -> Arguments:
        data = content if isinstance(content, bytes) else content.encode()
        (folder / "bench.yaml").write_bytes(data)
        return "run", "--config", folder / "bench.yaml"

    return Case(f"config: {name}", write, expected)


def arrays(name: str, expected: str, *arguments: object, **saved: Any) -> Case:
    def write(folder: Path) -> Arguments:
        np.savez(folder / "mine.npz", **saved)
        return "run", "--dataset", folder / "mine.npz", *arguments

    return Case(f"arrays: {name}", write, expected)


def npz(name: str, make: Callable[[Path], bytes], expected: str) -> Case:
    def write(folder: Path) -> Arguments:
        (folder / "mine.npz").write_bytes(make(folder))
        return "run", "--dataset", folder / "mine.npz"

    return Case(f"npz: {name}", write, expected)


def pictures(name: str, put: Callable[[Path], Any], expected: str, settings: str = "") -> Case:
    """A folder of 24 good pictures, and what `put` puts beside them."""

    def write(folder: Path) -> Arguments:
        images = folder / "images"
        images.mkdir()
        for i in range(24):
            GREY.save(images / f"{i:02}.png")
        put(images)
        if not settings:
            return "run", "--dataset", images
        (folder / "bench.yaml").write_text(f"dataset: {{name: folder, params: {{path: {images}, {settings}}}}}")
        return "run", "--config", folder / "bench.yaml"

    return Case(f"pictures: {name}", write, expected)


def folder(name: str, put: Callable[[Path], Any], expected: str) -> Case:
    """A folder with what `put` puts there alone."""

    def write(folder: Path) -> Arguments:
        (folder / "images").mkdir()
        put(folder / "images")
        return "run", "--dataset", folder / "images"

    return Case(f"folder: {name}", write, expected)


def idx(name: str, content: bytes, expected: str) -> Case:
    """KMNIST's files, of which the first has this content."""

    def write(folder: Path) -> Arguments:
        raw = folder / "KMNIST" / "raw"
        raw.mkdir(parents=True)
        for part in ("train", "t10k"):
            (raw / f"{part}-images-idx3-ubyte").write_bytes(struct.pack(">4I", 0x803, 30, 8, 8) + bytes(30 * 64))
            (raw / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">2I", 0x801, 30) + bytes(30))
        (raw / "train-images-idx3-ubyte").write_bytes(content)
        return "run", "--dataset", "kmnist", "--data-dir", folder

    return Case(f"idx: {name}", write, expected)


GREY = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8) * 4)
X = np.arange(30 * 64, dtype=np.uint8).reshape(30, 8, 8)
Y = np.arange(30) % 3


def saved(image: Image.Image, kind: str, **how: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **how)
    return file.getvalue()


def file(name: str, content: bytes) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).write_bytes(content)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *chunks: bytes, depth: int = 8, colour: int = 0) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    rows = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + rows + chunk(b"IEND", b"")


def npy(array: np.ndarray[Any, Any]) -> bytes:
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


def header(shape: str, descr: str = "|u1") -> bytes:
    """The beginning of an .npy file."""
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


def archive(members: Mapping[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", compression) as target:
        for name, data in members.items():
            target.writestr(name, data)
    return content.getvalue()


def claiming(size: int) -> bytes:
    """An archive whose array has 10^12 values in its header, and `size` bytes in the directory of the archive."""
    data = header("(1000000, 1000, 1000)")
    content = archive({"x.npy": data})
    at = content.rindex(b"PK\x01\x02") + 20  # sizes, compressed and not
    extra = struct.pack("<HHQ", 1, 8, size)  # ZIP64
    content = bytearray(content)
    content[at + 4 : at + 8] = b"\xff" * 4
    content[at + 10 : at + 12] = struct.pack("<H", len(extra))
    name_end = at + 26 + len("x.npy")
    content[name_end:name_end] = extra
    end = content.rindex(b"PK\x05\x06") + 12
    content[end : end + 4] = struct.pack("<I", struct.unpack("<I", content[end : end + 4])[0] + len(extra))
    return bytes(content)


def encrypted() -> bytes:
    content = bytearray(archive({"x.npy": npy(X)}))
    for marker, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(marker) + offset] |= 1
    return bytes(content)


def damaged_member() -> bytes:
    content = bytearray(archive({"x.npy": npy(X)}))
    content[1000] ^= 1
    return bytes(content)


def twice() -> bytes:
    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with zipfile.ZipFile(content, "w") as target:
            for _ in range(2):
                target.writestr("x.npy", npy(X))
    return content.getvalue()


def object_array(folder: Path) -> bytes:
    content = io.BytesIO()
    np.savez(content, x=np.array([Trap(folder / "unpickled")], dtype=object))
    return content.getvalue()


def animated(kind: str) -> bytes:
    return saved(GREY.convert("RGB"), kind, save_all=True, append_images=[GREY.convert("RGB").rotate(90)])


def billion_laughs() -> str:
    lines = ["a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    return "\n".join(lines)


def text_chunk() -> bytes:
    info = PngImagePlugin.PngInfo()
    info.add_text("comment", "x" * 3_000_000, zip=True)
    return saved(GREY, "png", pnginfo=info)


def truncated_tiff() -> bytes:
    content = saved(Image.fromarray(np.tile(X[0], (9, 9))), "tiff")
    return content[: len(content) - 60]


def tiff(bits: int, kind: int, data: bytes) -> bytes:
    """A TIFF of 8 by 8 pixels with these values: unsigned (1), signed (2) or floating-point (3)."""
    tags = {256: 8, 257: 8, 258: bits, 259: 1, 262: 1, 273: 8, 277: 1, 278: 8, 279: len(data), 339: kind}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + struct.pack("<H", len(tags)) + entries + bytes(4)


def classes(*names: str) -> Callable[[Path], None]:
    def put(folder: Path) -> None:
        for name in names:
            (folder / name).mkdir()
            for i in range(15):
                GREY.save(folder / name / f"{i}.png")

    return put


def params(text: str) -> str:
    return f"models: [{{name: vae, {text}}}]"


OPTIONS = [
    options("an unknown model", ("run", "--models", "veae"), "--models: model 'veae' is not registered; did you mean"),
    options("an unknown task", ("run", "--tasks", "x"), "--tasks: task 'x' is not registered. Available: anomaly_det"),
    options("an unknown data set", ("run", "--dataset", "mist"), "--dataset: data set 'mist' is not registered; did"),
    options("an unknown backbone", ("run", "--backbones", "cnov"), "'cnov' is not registered; did you mean 'conv'?"),
    options("a backbone twice", ("run", "--backbones", "conv,conv"), "--backbones: 'conv' is listed twice"),
    options("no models", ("run", "--models", ","), "--models: must not be empty"),
    options("no data set", ("run", "--dataset", ""), "--dataset: data set '' is not registered"),
    options("an unknown option", ("run", "--optoin"), "No such option"),
    options("an unknown command", ("rum",), "No such command"),
    options("no epochs", ("run", "--epochs", 0), "--epochs: input should be greater than 0, got 0"),
    options("epochs that are text", ("run", "--epochs", "x"), "'--epochs'"),
    options("10^12 epochs", ("run", "--epochs", 10**12), "--epochs: input should be less than or equal to 1000000"),
    options("epochs of 5,000 digits", ("run", "--epochs", "9" * 5000), "'--epochs'"),
    options("no seeds", ("run", "--seeds", 0), "--seeds: input should be greater than 0, got 0"),
    options("negative seeds", ("run", "--seeds", -1), "--seeds: input should be greater than 0, got -1"),
    options(
        "10^9 seeds", ("run", "--seeds", 10**9), "--seeds: input should be less than or equal to 1000, got 1000000"
    ),
    options("10^9 seeds of a plan", ("plan", "--seeds", 10**9), "--seeds: input should be less than or equal to 1000"),
    options("no jobs", ("run", "--jobs", 0), "'--jobs'"),
    options("10^9 jobs", ("run", "--jobs", 10**9), "'--jobs': Input should be less than or equal to 1024"),
    options("a year-long limit", ("run", "--cell-timeout", 10**12), "'--cell-timeout'"),
    options("an unknown precision", ("run", "--precision", "fp8"), "--precision: input should be 'fp32', 'bf16' or"),
    options("an unknown device", ("run", "--device", "abacus"), "--device: 'abacus' is not a device"),
    options("a device that is not there", ("run", "--device", "cuda:99"), "--device: 'cuda:99' does not exist"),
    options(
        "a configuration that is not there", ("run", "--config", "none.yaml"), "none.yaml: cannot be read: No such"
    ),
    options("a folder that is not there", ("run", "--dataset", "./none"), "none is not a folder of images"),
    options("arrays that are not there", ("run", "--dataset", "none.npz"), "none.npz cannot be read"),
    options("a home that is not there", ("run", "--dataset", "~no_such_user/x"), "~no_such_user/x is not a path"),
    options("a data directory of nobody", ("run", "--data-dir", "~no_such_user/x"), "~no_such_user/x is not a path"),
    options("a path that is too long", ("run", "--dataset", "./" + "x" * 5000), "is not a folder of images"),
    options("a data set with ../", ("run", "--dataset", "../../none"), "../../none is not a folder of images"),
    options("a data set with a newline", ("run", "--dataset", "no\nne"), r"data set 'no\nne' is not registered"),
    options("a folder with a newline", ("run", "--dataset", "./no\nne"), r"no\nne is not a folder of images"),
    options("a model with quotes", ("run", "--models", "v'a\"e"), "model 'v'a\"e' is not registered"),
    options("a model with an escape", ("run", "--models", "\x1b[2Jvae"), r"model '\x1b[2Jvae' is not registered"),
    options("a task with ../", ("run", "--tasks", "../x"), "task '../x' is not registered"),
    options("a data set with an escape", ("run", "--dataset", "./\x1b[31mred.npz"), r"\x1b[31mred.npz cannot be read"),
    options("a model that is not UTF-8", ("run", "--models", "va\udce9"), "--models: is not text in UTF-8"),
    options("a data set that is not UTF-8", ("run", "--dataset", "./\udce9"), "--dataset: is not text in UTF-8"),
    options("an experiment with a newline", ("run", "--experiment", "a\nb"), "'--experiment'"),
    options("an experiment with an escape", ("run", "--experiment", "\x1b[31m"), "'--experiment'"),
    options("an experiment without a name", ("run", "--experiment", " "), "'--experiment'"),
    options("an experiment of 5,000 characters", ("run", "--experiment", "x" * 5000), "'--experiment'"),
    options("a server that does not answer", ("run", "--tracking-uri", "http://127.0.0.1:9"), ":9 does not answer"),
    options(
        "a store in no folder", ("run", "--tracking-uri", "sqlite:////no/folder/m.db"), "cannot be written: no such"
    ),
    options("a store that is none", ("run", "--tracking-uri", "somewhere"), "give a database (sqlite:///mlflow.db) or"),
    options("a folder as a store", ("run", "--tracking-uri", "sqlite:////tmp"), "/tmp is a folder, not a database"),
    options("a store with a broken host", ("run", "--tracking-uri", "http://[::1"), "does not answer"),
    options("a store with an escape", ("run", "--tracking-uri", "\x1b[31m://x"), r"\x1b[31m"),
    options("results of a folder", ("results", "--tracking-uri", "sqlite:////tmp"), "/tmp is a folder, not a database"),
    options("no results", ("results",), "there are no results yet"),
    options("an unknown kind of list", ("list", "cars"), "'cars'"),
    options("a plugin with ../", ("new", "task", "../x"), "../x"),
    options("a plugin with a newline", ("new", "task", "a\nb"), r"a\nb"),
    options("a check of nothing", ("check", "\x1b[31m"), r"\x1b[31m"),
    options("a limit that is text", ("run",), "AEBENCH_PLUGIN_SECONDS must be a number", AEBENCH_PLUGIN_SECONDS="soon"),
    options("a limit of nan", ("run",), "AEBENCH_PLUGIN_SECONDS must be a number", AEBENCH_PLUGIN_SECONDS="nan"),
    options("a limit of infinity", ("run",), "AEBENCH_PLUGIN_SECONDS must be a number", AEBENCH_PLUGIN_SECONDS="inf"),
    options("a limit of -1", ("run",), "AEBENCH_PLUGIN_SECONDS must be a number", AEBENCH_PLUGIN_SECONDS="-1"),
    options("a limit with an escape", ("run",), r"got '\x1b[31m'", AEBENCH_PLUGIN_SECONDS="\x1b[31m"),
    options("garbage as a store", ("run",), "cannot be used: give a database", MLFLOW_TRACKING_URI="garbage"),
    options("a store of an unknown kind", ("run",), "does not answer", MLFLOW_TRACKING_URI="oracle+x://y"),
    options(
        "a file as a data directory",
        ("run", "--dataset", "kmnist"),
        "cannot be written",
        AEBENCH_DATA_DIR="{folder}/file",
    ),
    options(
        "a data directory of nobody in the environment", ("run",), "is not a path", AEBENCH_DATA_DIR="~no_such_user/x"
    ),
]

CONFIGS = [
    config("empty list", "- vae", "expected keys such as 'dataset' and 'models', got a list"),
    config("text", "vae", "expected keys such as 'dataset' and 'models', got a str"),
    config("an open bracket", "models: [", "is not YAML"),
    config(
        "a tag of Python", "models: !!python/object/apply:os.system [touch x]", "python/object/apply:os.system' is not"
    ),
    config("a tag of its own", "seed: !secret 3", "the tag '!secret' is not allowed"),
    config("a set", "models: !!set {vae}", "set' is not allowed"),
    config("binary data", "models: [!!binary dmFl]", "binary' is not allowed"),
    config("a forced number", "seed: !!int abc", "int' is not allowed"),
    config("aliases that explode", billion_laughs(), "more than 10,000 values, with aliases replaced"),
    config("an alias of itself in a list", "models: &a [*a]", "'*a' contains itself"),
    config("an alias of itself in a section", "training: &a\n  epochs: *a", "'*a' contains itself"),
    config("an alias of nothing", "models: *a", "undefined alias 'a'"),
    config("20,000 brackets", "models: " + "[" * 20_000, "more than 50 levels of nesting"),
    config("20,000 braces", "{a: " * 20_000, "more than 50 levels of nesting"),
    config("20,000 dashes", "- " * 20_000, "more than 50 levels of nesting"),
    config("20,000 values", "models: [" + "vae," * 20_000 + "]", "more than 10,000 values"),
    config("a million bytes", "# " + "x" * 1_000_000, "more than 200,000 bytes"),
    config("a key twice", "seed: 1\nseed: 2", "line 2, column 1: the key 'seed' is given twice"),
    config("a key twice in a section", "training:\n  epochs: 1\n  epochs: 2", "line 3, column 3: the key 'epochs'"),
    config("a list as a key", "? [a]\n: 2", "a key must be text"),
    config("a merge of a number", "training: {<<: 3}", "expected a mapping"),
    config("a merge with an unknown key", "training: {<<: {epoch: 3}}", "training.epoch: unknown key; did you mean"),
    config("two documents", "seed: 1\n---\nseed: 2", "found another document"),
    config("UTF-16", "seed: 1".encode("utf-16"), "is not text in UTF-8"),
    config("Latin-1", "models: [\xe9]".encode("latin-1"), "is not text in UTF-8"),
    config("NUL bytes", "seed: \0", "special characters are not allowed"),
    config("random bytes", bytes(range(128, 256)), "is not text in UTF-8"),
    config("an escape in a name", 'models: ["\\e[31mvae"]', r"model '\x1b[31mvae' is not registered"),
    config("half a character", 'models: ["\\ud800"]', r"models[0]: is not text in UTF-8: it has '\ud800'"),
    config("an escape as a key", '"\\e[31m": 3', r"\x1b[31m: unknown key"),
    config("a newline in a key", '"a\\nb": 3', r"a\nb: unknown key"),
    config("NUL in a path", 'dataset: {name: folder, params: {path: "a\\0b"}}', r"a\x00b is not a path"),
    config("an escape in a path", 'dataset: {name: npz, params: {path: "\\e[31m"}}', r"\x1b[31m cannot be read"),
    config("a date", "seed: 2020-01-01", "seed: input should be a valid integer, got '2020-01-01'"),
    config("an impossible date", "seed: 2020-13-45", "seed: input should be a valid integer, got '2020-13-45'"),
    config("a time", "seed: 12:30", "seed: input should be a valid integer, got '12:30'"),
    config("a number as text", "seed: '3'", "seed: input should be a valid integer, got '3'"),
    config("a boolean as a number", "seeds: true", "seeds: input should be a valid integer, got True"),
    config("half a seed", "seeds: 1.5", "seeds: input should be a valid integer, got 1.5"),
    config("a seed that is not finite", "seed: .nan", "seed: input should be"),
    config("a negative seed", "seed: -1", "seed: input should be greater than or equal to 0, got -1"),
    config("a seed of 50,000 digits", "seed: " + "9" * 50_000, "a whole number beyond 9,223,372,036,854,775,807"),
    config("a seed of 2^40", "seed: 1099511627776", "seed: input should be less than or equal to 4294967295"),
    config("10^9 seeds", "seeds: 1000000000", "seeds: input should be less than or equal to 1000"),
    config(
        "too many cells", "seeds: 1000\nprofiles: {anomaly: {latent_dim: 2, held_out: all}}", "the limit is 200,000"
    ),
    config("10^12 epochs", "training: {epochs: 1000000000000}", "training.epochs: input should be less than or equal"),
    config("10^12 images in a batch", "training: {batch_size: 1000000000000}", "batch_size: input should be less than"),
    config("a batch of one", "training: {batch_size: 1}", "training.batch_size: input should be greater than 1"),
    config(
        "10^9 numbers in a code", "profiles: {general: {latent_dim: 1000000000}}", "latent_dim: input should be less"
    ),
    config(
        "no numbers in a code", "profiles: {general: {latent_dim: 0}}", "latent_dim: input should be greater than 0"
    ),
    config(
        "a class that is not there", "profiles: {anomaly: {latent_dim: 2, held_out: 99}}", "class 99 is not in digits"
    ),
    config("a negative class", "profiles: {anomaly: {latent_dim: 2, held_out: -1}}", "held_out.class: input should be"),
    config("a profile with ../", "profiles: {../x: {latent_dim: 2}}", "should match pattern"),
    config(
        "an infinite learning rate", "training: {optimizer: {learning_rate: .inf}}", "learning_rate: input should be a"
    ),
    config(
        "a rate that overflows", "training: {optimizer: {learning_rate: 1.0e+999}}", "learning_rate: input should be"
    ),
    config(
        "a rate that is not a number", "training: {optimizer: {learning_rate: .nan}}", "learning_rate: input should"
    ),
    config("a rate of 10^30", "training: {optimizer: {learning_rate: 1.0e+30}}", "less than or equal to 1000"),
    config("no patience", "training: {early_stopping: {patience: 0}}", "patience: input should be greater than 0"),
    config("no sigma", "likelihood: {name: gaussian, sigma: 0}", "likelihood.gaussian.sigma: input should be greater"),
    config("a sigma of 10^-300", "likelihood: {name: gaussian, sigma: 1.0e-300}", "likelihood.gaussian.sigma: input"),
    config("a sigma where there is none", "likelihood: {name: bernoulli, sigma: 1}", "likelihood.bernoulli.sigma: "),
    config("an unknown likelihood", "likelihood: poisson", "likelihood: "),
    config("an unknown optimiser", "training: {optimizer: adamm}", "training.optimizer.name: input should be 'adam'"),
    config(
        "a schedule of no steps", "training: {optimizer: {schedule: {name: step, every: 0}}}", "schedule.step.every: "
    ),
    config(
        "a foreign setting", "training: {optimizer: {schedule: {name: cosine, every: 3}}}", "schedule.cosine.every: "
    ),
    config("a model without epochs", params("training: {epochs: 0}"), "models[0].training.epochs: "),
    config("a label with a space", params("label: 'a b'"), "models[0].label: string should match pattern"),
    config("a label with an escape", params('label: "\\e[31m"'), r"got '\x1b[31m'"),
    config("a label with ../", params("label: ../x"), "models[0].label: string should match pattern"),
    config("a label with a newline", params('label: "vae\\n"'), "models[0].label: string should match pattern"),
    config("a number as a model", "models: [3]", "models[0]: input should be an object, got 3"),
    config("a model that is nothing", "models: [null]", "models[0]: input should be an object, got None"),
    config("models that are a text", "models: vae", "models: input should be a valid array"),
    config("no models", "models: []", "models: must not be empty"),
    config("a model twice", "models: [vae, vae]", "'vae' is listed 2 times; give them different labels"),
    config("backbones that are a text", "backbones: dense", "backbones: "),
    config("a number as a backbone", "backbones: [3]", "backbones[0]: "),
    config("no backbones", "backbones: []", "backbones: must not be empty"),
    config("an unknown parameter", "tasks: [{name: sampling, params: {sampler: prior}}]", "tasks[0].params.sampler: "),
    config("an unknown sampler", "tasks: [{name: sampling, params: {sampler: gnm}}]", "tasks.sampling.params: "),
    config(
        "padding of 10^6", "dataset: {name: mnist, params: {padding: 1000000}}", "padding: input should be less than"
    ),
    config("negative padding", "dataset: {name: mnist, params: {padding: -1}}", "padding: input should be greater"),
    config(
        "a size of 10^6", "dataset: {name: omniglot, params: {size: 1000000}}", "size: input should be less than or"
    ),
    config("no images", "dataset: {name: celeba, params: {train_images: 0}}", "train_images: input should be greater"),
    config(
        "an unknown split", "dataset: {name: emnist, params: {split: all}}", "dataset.params.split: input should be"
    ),
    config(
        "a path that is a number", "dataset: {name: folder, params: {path: 3}}", "path: input should be a valid string"
    ),
    config("a folder without a path", "dataset: folder", "dataset.params.path: is required"),
    Case("config: a folder", lambda folder: ("run", "--config", folder), "cannot be read: it is a folder"),
    Case("config: a device", lambda folder: ("run", "--config", "/dev/zero"), "cannot be read: it is a device"),
]


def pipe_as_config(folder: Path) -> Arguments:
    os.mkfifo(folder / "bench.yaml")
    return "run", "--config", folder / "bench.yaml"


def pipe_as_arrays(folder: Path) -> Arguments:
    os.mkfifo(folder / "mine.npz")
    return "run", "--dataset", folder / "mine.npz"


ARRAYS = [
    Case("config: a pipe", pipe_as_config, "cannot be read: it is a named pipe"),
    Case("npz: a pipe", pipe_as_arrays, "cannot be read as an .npz file: it is a named pipe"),
    arrays("no x", "has no array 'x'", z=X),
    arrays("one image", "needs at least 20 images, got 1", x=X[:1]),
    arrays("no image", "x is empty", x=X[:0]),
    arrays("images without pixels", "x is empty", x=X[:, :0]),
    arrays("a number", "x must be (N, H, W)", x=np.uint8(3)),
    arrays("vectors", "x must be (N, H, W)", x=X.reshape(30, 64)),
    arrays("five dimensions", "x must be (N, H, W)", x=X[..., None, None]),
    arrays("two channels", "with 1 or 3 channels", x=np.stack([X, X], axis=-1)),
    arrays("channels first", "with 1 or 3 channels", x=np.stack([X] * 3, axis=1)),
    arrays("small images for conv", "conv needs images of at least 8x8 pixels", "--backbones", "conv", x=X[:, :7]),
    arrays("integers", "x must be uint8, or floating point in [0, 1], got int64", x=X.astype(int)),
    arrays("complex numbers", "x must be uint8, or floating point in [0, 1], got complex128", x=X.astype(complex)),
    arrays("text", "x must be uint8", x=X.astype(str)),
    arrays("dates", "x must be uint8", x=X.astype("datetime64[s]")),
    arrays("booleans", "x must be uint8, or floating point in [0, 1], got bool", x=X > 3),
    arrays("records", "x must be uint8", x=np.zeros((30, 8, 8), [("a", "u1"), ("b", "u1")])),
    arrays("floats of 255", "but lies in [0, 255]; rescale it", x=X.astype(float)),
    arrays("negative pixels", "must lie in [0, 1]", x=X / 255 - 0.5),
    arrays("not a number", "has NaN or infinite values", x=np.where(X == 3, np.nan, X / 255)),
    arrays("infinity", "has NaN or infinite values", x=np.where(X == 3, np.inf, X / 255)),
    arrays("zeros and ones in bytes", "its largest value is 1", x=(X > 3).astype(np.uint8)),
    arrays("too few labels", "y must have a label for each of the 30 images, got 29", x=X, y=Y[:29]),
    arrays("too many labels", "y must have a label for each of the 30 images, got 31", x=X, y=np.append(Y, 1)),
    arrays("labels in columns", "y must be (N,)", x=X, y=Y[:, None]),
    arrays("a label for all", "y must be (N,)", x=X, y=3),
    arrays("labels of floats", "y must be integers or text, got float64", x=X, y=Y / 2),
    arrays("labels that are not numbers", "y must be integers or text, got float64", x=X, y=np.full(30, np.nan)),
    arrays("labels that are dates", "y must be integers or text", x=X, y=Y.astype("datetime64[s]")),
    arrays("one class", "there is only one class, '0'", x=X, y=Y * 0),
    arrays("labels with an escape", r"got '\x1b[31m'", x=X, y=np.where(Y == 0, "\x1b[31m", "b")),
    arrays("labels with a newline", r"got 'a\nb'", x=X, y=np.where(Y == 0, "a\nb", "b")),
    arrays("labels without a name", "of 1 to 200 characters, got ''", x=X, y=np.where(Y == 0, "", "b")),
    arrays("labels of 300 characters", "of 1 to 200 characters", x=X, y=np.where(Y == 0, "a" * 300, "b")),
    npz("objects", object_array, "x holds Python objects, which are not unpickled"),
    npz("a pickle", lambda folder: pickle.dumps(Trap(folder / "unpickled")), "it is not an archive"),
    npz("one array", lambda folder: npy(X), "it is not an archive"),
    npz("text", lambda folder: b"no", "it is not an archive"),
    npz("nothing", lambda folder: b"", "it is not an archive"),
    npz("half a file", lambda folder: archive({"x.npy": npy(X)})[:1000], "it is not an archive"),
    npz("a damaged array", lambda folder: damaged_member(), "Bad CRC-32"),
    npz("an encrypted array", lambda folder: encrypted(), "is encrypted"),
    npz("an array twice", lambda folder: twice(), "there are several arrays x"),
    npz("no header", lambda folder: archive({"x.npy": b"abc"}), "cannot be read as an .npz file"),
    npz("a header of code", lambda folder: archive({"x.npy": header("__import__('os')")}), "cannot be read as an .npz"),
    npz("a header of 10^12 values", lambda folder: archive({"x.npy": header("(1000000, 1000, 1000)")}), "need 3 TB of"),
    npz("10^12 values in the archive", lambda folder: claiming(10**12 + 128), "need 3 TB of memory, and"),
    npz("a header of 10^30 values", lambda folder: archive({"x.npy": header(f"({10**30}, 1, 1)")}), "of memory, and"),
    npz("negative sizes", lambda folder: archive({"x.npy": header("(-30, 8, 8)")}), "its header promises -1920"),
    npz(
        "a bomb",
        lambda folder: archive({"x.npy": header("(30, 8, 8)") + bytes(10**8)}, zipfile.ZIP_DEFLATED),
        "x has 100000000 bytes, its header promises 1920",
    ),
    npz(
        "fewer bytes than values", lambda folder: archive({"x.npy": header("(30, 8, 8)")}), "x has 0 bytes, its header"
    ),
]

PICTURES = [
    folder("empty", lambda folder: None, "holds no images"),
    folder("other files", file("notes.txt", b"no"), "holds no images"),
    folder("one image", lambda folder: GREY.save(folder / "a.png"), "needs at least 20 images, got 1"),
    folder("one class", classes("cats"), "there is only one class, 'cats'"),
    folder("a class with an escape", classes("\x1b[31m", "b"), r"got '\x1b[31m'"),
    folder("a class with a newline", classes("a\nb", "b"), r"got 'a\nb'"),
    folder("a class that is not UTF-8", classes("\udce9", "b"), r"got '\udce9'"),
    pictures("text", file("x.png", b"no"), "x.png cannot be read as an image"),
    pictures("nothing", file("x.png", b""), "x.png cannot be read as an image"),
    pictures("a script for Ghostscript", file("x.png", saved(GREY, "eps")), "x.png cannot be read as an image"),
    pictures("a name with an escape", file("\x1b[31m.png", b"no"), r"\x1b[31m.png cannot be read as an image"),
    pictures("a name with a newline", file("a\nb.png", b"no"), r"a\nb.png cannot be read as an image"),
    pictures("half a PNG", file("x.png", saved(GREY, "png")[:-40]), "x.png cannot be read as an image"),
    pictures("half a JPEG", file("x.jpg", saved(GREY.resize((99, 99)), "jpeg")[:-300]), "x.jpg cannot be read as an"),
    pictures("half a GIF", file("x.gif", saved(GREY, "gif")[:-60]), "x.gif cannot be read as an image"),
    pictures("half a BMP", file("x.bmp", saved(GREY, "bmp")[:-20]), "x.bmp cannot be read as an image"),
    pictures("half a WebP", file("x.webp", saved(GREY, "webp")[:-20]), "x.webp cannot be read as an image"),
    pictures("half a TIFF", file("x.tif", truncated_tiff()), "x.tif cannot be read as an image"),
    pictures("a compressed TIFF", file("x.tif", saved(GREY, "tiff", compression="tiff_lzw")[:-20]), "x.tif cannot be"),
    pictures("a TIFF without a directory", file("x.tif", b"II*\0" + struct.pack("<I", 10**6)), "x.tif cannot be read"),
    pictures("a PNG without a size", file("x.png", png(0, 0)), "x.png cannot be read as an image"),
    pictures("a PNG of an unknown kind", file("x.png", png(8, 8, colour=5)), "x.png cannot be read as an image"),
    pictures(
        "a PNG with a short header", file("x.png", b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", b"abc")), "x.png cannot be"
    ),
    pictures("a PNG with a wrong checksum", file("x.png", png(8, 8).replace(b"IHDR\0", b"IHDR\1")), "x.png cannot be"),
    pictures("a PNG with a text of 3 MB", file("x.png", text_chunk()), "x.png cannot be read as an image"),
    pictures("a bomb", file("x.png", png(50_000, 50_000)), "x.png has more than 67,108,864 pixels"),
    pictures("a small bomb", file("x.png", png(9000, 9000)), "x.png has 81,000,000 pixels; the limit of a picture is"),
    pictures("a bomb at PIL's warning", file("x.png", png(10_000, 10_000)), "x.png has more than 67,108,864 pixels"),
    pictures("an animated GIF", file("x.gif", animated("gif")), "x.gif has 2 frames"),
    pictures("an animated PNG", file("x.png", animated("png")), "x.png has 2 frames"),
    pictures("an animated WebP", file("x.webp", animated("webp")), "x.webp has 2 frames"),
    pictures("a TIFF of two pages", file("x.tif", animated("tiff")), "x.tif has 2 frames"),
    pictures("a TIFF of 32 bits", file("x.tif", saved(GREY.convert("I"), "tiff")), "x.tif has signed or floating"),
    pictures("a TIFF of floats", file("x.tif", saved(GREY.convert("F"), "tiff")), "x.tif has signed or floating"),
    pictures("a TIFF of signed bytes", file("x.tif", tiff(8, 2, bytes(64))), "x.tif has signed or floating-point"),
    pictures("a map of floats", file("x.ppm", saved(GREY.convert("F"), "ppm")), "x.ppm has pixels of PIL's mode F"),
    pictures("a map without values", file("x.ppm", b"P5 8 8 0\n" + bytes(64)), "x.ppm cannot be read as an image"),
    pictures("a map of 10^12 pixels", file("x.ppm", b"P5 1000000 1000000 255\n"), "x.ppm has more than 67,108,864"),
    pictures(
        "a TIFF in Lab", file("x.tif", saved(Image.new("LAB", (8, 8)), "tiff")), "x.tif has pixels of PIL's mode LAB"
    ),
    pictures("a broken link", lambda folder: (folder / "x.png").symlink_to("none"), "x.png cannot be read as an image"),
    pictures("a link to itself", lambda folder: (folder / "x.png").symlink_to("x.png"), "x.png cannot be read as an"),
    pictures(
        "a link to a device",
        lambda folder: (folder / "x.png").symlink_to("/dev/zero"),
        "x.png cannot be read as an image: it is a device",
    ),
    pictures(
        "a pipe", lambda folder: os.mkfifo(folder / "x.png"), "x.png cannot be read as an image: it is a named pipe"
    ),
    pictures(
        "a socket",
        lambda folder: os.mknod(folder / "x.png", stat.S_IFSOCK),
        "x.png cannot be read as an image: it is a socket",
    ),
    pictures(
        "a folder as a picture",
        lambda folder: (folder / "x.png").mkdir(),
        "x.png cannot be read as an image: it is a folder",
    ),
    pictures(
        "a size of 10^6", lambda folder: None, "size: input should be less than or equal to 4096", "size: 1000000"
    ),
    pictures("a size of 1", lambda folder: None, "size: input should be greater than 1", "size: 1"),
    pictures("a size that is text", lambda folder: None, "size: input should be a valid integer", "size: big"),
    pictures("a colour that is text", lambda folder: None, "color: input should be a valid boolean", "color: 'yes'"),
]

IDX = [
    idx("nothing", b"", "it does not begin like an IDX file of 3 dimensions"),
    idx("half a header", b"\0\0\10\3", "it does not begin like an IDX file of 3 dimensions"),
    idx("another type", struct.pack(">4I", 0xD03, 30, 8, 8) + bytes(1920), "it does not begin like an IDX file"),
    idx(
        "fewer images", struct.pack(">4I", 0x803, 30, 8, 8) + bytes(1000), "it has 1016 bytes, its header promises 1936"
    ),
    idx(
        "sizes that overflow",
        struct.pack(">4I", 0x803, *[2**31 - 1] * 3),
        "its header promises 99035203",
    ),
    idx(
        "negative sizes",
        struct.pack(">4I", 0x803, 2**32 - 30, 2**32 - 8, 8) + bytes(1920),
        "train-images-idx3-ubyte is",
    ),
]

ALL = [*OPTIONS, *CONFIGS, *ARRAYS, *PICTURES, *IDX]
