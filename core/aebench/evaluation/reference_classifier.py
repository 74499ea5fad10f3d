"""The reference classifier: one small convolutional network per data set, trained once and stored.

Distances between generated and real images are distances between its features. Heusel et al. (2017) use a network
trained on photographs, whose features describe small grey images poorly.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from filelock import FileLock
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Generator, Tensor, nn
from torch.nn import functional

from aebench.contracts import ImageDataset, Split
from aebench.contracts.data import IMAGES_AT_ONCE
from aebench.errors import DamagedFile, one_line
from aebench.files import check_regular, read_sealed, write_sealed
from aebench.planning.seeds import content_hash

CHANNELS = (16, 32, 64)  # of successive convolutions; further ones, for larger images, have the last width
FEATURES = 64
SMALLEST_MAP = 4  # pixels along the shorter side after the last convolution
STEPS = 1200
BATCH_SIZE = 128
PEAK_LEARNING_RATE = 5e-3
SEED = 1


class ConvolutionalClassifier(nn.Module):
    """Strided convolutions down to a few pixels, a hidden layer, and a linear layer with one output per class.

    Args:
        input_shape: (C, H, W).
        classes: number of classes.

    Attributes:
        accuracy: on the test split, in [0, 1]; nan before training.
        images_at_once: the number of images that it is given at once; less after an evaluation has run out of memory.
    """

    def __init__(self, input_shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        self.input_shape, self.classes = input_shape, classes
        self.accuracy = float("nan")
        self.images_at_once = IMAGES_AT_ONCE
        channels, height, width = input_shape
        layers: list[nn.Module] = []
        while not layers or min(height, width) > SMALLEST_MAP:
            wider = CHANNELS[min(len(layers) // 3, len(CHANNELS) - 1)]
            stride = 2 if min(height, width) > SMALLEST_MAP else 1
            layers += [nn.Conv2d(channels, wider, 3, stride, 1, bias=False), nn.BatchNorm2d(wider), nn.ReLU()]
            channels, height, width = wider, -(-height // stride), -(-width // stride)
        hidden = [nn.Flatten(), nn.Linear(channels * height * width, FEATURES), nn.ReLU()]
        self.body = nn.Sequential(*layers, *hidden)
        self.head = nn.Linear(FEATURES, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, C, H, W) float32 in [0, 1] -> logits (N, classes) float32."""
        logits: Tensor = self.head(self.body(x))
        return logits

    @torch.no_grad()
    def features(self, x: Tensor) -> Tensor:
        """Images (N, C, H, W) float32 in [0, 1] -> features (N, FEATURES) float32, at least 0."""
        return torch.cat([self.body(images) for images in x.split(self.images_at_once)])

    @torch.no_grad()
    def probabilities(self, x: Tensor) -> Tensor:
        """Images (N, C, H, W) float32 in [0, 1] -> class probabilities (N, classes) float32."""
        return torch.cat([self(images).softmax(dim=1) for images in x.split(self.images_at_once)])


def obtain_reference_classifier(
    data: ImageDataset,
    device: torch.device,
    data_dir: Path,
    provenance: str,
    on_training: Callable[[], None] = lambda: None,
) -> ConvolutionalClassifier:
    """The reference classifier of a labelled data set, loaded from `data_dir`, or trained and stored there.

    A stored one that is damaged is trained again. While another process trains, this one waits.

    Args:
        data: a data set with labels, on any device.
        device: where it is trained and returned.
        data_dir: classifiers are stored in its folder `reference_classifiers`; if that cannot be written, nothing is
            stored.
        provenance: identifies what it depends on besides the data: the code that trains it.
        on_training: called before a new one is trained.
    """
    name = content_hash({"fingerprint": data.info.fingerprint, "provenance": provenance})
    folder = data_dir / "reference_classifiers"
    path = folder / f"{data.name}-{name}.classifier"
    with contextlib.ExitStack() as held:
        writable = False
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            held.enter_context(FileLock(folder / ".lock"))  # two runs at once train it once
            writable = True
        with contextlib.suppress(OSError, DamagedFile):
            return load_reference_classifier(path).to(device)
        on_training()
        classifier = train_reference_classifier(data.to(device))
        if writable:
            with contextlib.suppress(OSError):
                for unfinished in folder.glob("*.part"):  # of processes that were killed; nobody else writes here
                    unfinished.unlink()
                save_reference_classifier(classifier, path)
    return classifier


def train_reference_classifier(data: ImageDataset, steps: int = STEPS) -> ConvolutionalClassifier:
    """Train a reference classifier with AdamW and a one-cycle learning rate, always from the same seed.

    Args:
        data: a data set with labels; its device is where the classifier is trained.
        steps: number of batches.
    """
    assert data.train.labels is not None
    device = data.train.images.device
    with _reproducibly():
        classifier = ConvolutionalClassifier(data.info.input_shape, len(data.classes)).to(device).train()
        optimizer = torch.optim.AdamW(classifier.parameters(), lr=PEAK_LEARNING_RATE, fused=True)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_LEARNING_RATE, total_steps=steps)
        for index in _batches(len(data.train), steps):
            index = index.to(device)
            loss = functional.cross_entropy(classifier(data.train.x(index)), data.train.labels[index])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
        classifier.eval().requires_grad_(False)
        classifier.accuracy = _accuracy(classifier, data.test)
    return classifier


def save_reference_classifier(classifier: ConvolutionalClassifier, path: Path) -> None:
    """Write a classifier to a sealed file that `load_reference_classifier` can read."""
    about = {"input_shape": classifier.input_shape, "classes": classifier.classes, "accuracy": classifier.accuracy}
    state = {key: value.contiguous() for key, value in classifier.state_dict().items()}
    write_sealed(path, save(state, {"about": json.dumps(about)}))


def load_reference_classifier(path: Path) -> ConvolutionalClassifier:
    """Read a file that `save_reference_classifier` wrote, without executing code; the classifier lies on the CPU.

    Raises:
        OSError: the file is missing or cannot be read.
        DamagedFile: its content is not what was written.
    """
    check_regular(path)
    content = read_sealed(path)
    try:
        about = json.loads(_metadata(content)["about"])
        with torch.random.fork_rng(devices=[]):  # the initial weights, which are replaced, are drawn
            classifier = ConvolutionalClassifier(tuple(about["input_shape"]), about["classes"])
        classifier.load_state_dict(load(content))
        classifier.accuracy = about["accuracy"]
    except (KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        raise DamagedFile(f"{path} is not a reference classifier: {one_line(error)}") from error
    return classifier.eval().requires_grad_(False)


def _metadata(content: bytes) -> dict[str, str]:
    """The metadata of a safetensors file: its header is JSON, after its length in 8 bytes."""
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    metadata: dict[str, str] = header["__metadata__"]
    return metadata


def _batches(n: int, steps: int) -> Iterator[Tensor]:
    """Indices of `steps` batches, (B,) int64, from one permutation of all images after another."""
    generator = Generator().manual_seed(SEED)
    size = min(BATCH_SIZE, n)
    produced = 0
    while produced < steps:
        for index in torch.randperm(n, generator=generator)[: n // size * size].view(-1, size)[: steps - produced]:
            produced += 1
            yield index


@torch.no_grad()
def _accuracy(classifier: ConvolutionalClassifier, test: Split) -> float:
    assert test.labels is not None
    predicted = torch.cat([classifier(x).argmax(dim=1) for x in test.batches()])
    return float((predicted == test.labels).float().mean())


@contextlib.contextmanager
def _reproducibly() -> Iterator[None]:
    """Inside, initial weights come from SEED and one thread computes, so that the number of cores changes nothing."""
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
