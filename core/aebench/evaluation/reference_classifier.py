"""The reference classifier: one small convolutional network per data set, trained once and kept.

Distances between generated and real images are taken between its features, as Heusel et al. (2017) take them between
those of a network trained on photographs, which have little to say about small grey images.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Generator, Tensor, nn
from torch.nn import functional

from aebench.contracts import ImageDataset, Split
from aebench.planning.seeds import content_hash

CHANNELS = (16, 32, 64)  # of the convolutions; deeper ones for larger images have the last
FEATURES = 64
SMALLEST_MAP = 4  # pixels across after the last convolution
STEPS = 1200
BATCH_SIZE = 128
PEAK_LEARNING_RATE = 5e-3
SEED = 1


class ConvolutionalClassifier(nn.Module):
    """Strided convolutions down to a few pixels, one hidden layer, one output per class.

    Args:
        input_shape: (C, H, W).
        classes: how many.
    """

    def __init__(self, input_shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        self.input_shape, self.classes = input_shape, classes
        self.accuracy = float("nan")
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
        """Images (N, C, H, W) in [0, 1] -> logits (N, classes)."""
        logits: Tensor = self.head(self.body(x))
        return logits

    @torch.no_grad()
    def features(self, x: Tensor) -> Tensor:
        """Images (N, C, H, W) in [0, 1] -> (N, FEATURES) float32, not negative."""
        return torch.cat([self.body(images) for images in x.split(1000)])

    @torch.no_grad()
    def probabilities(self, x: Tensor) -> Tensor:
        """Images (N, C, H, W) in [0, 1] -> (N, classes) float32."""
        return torch.cat([self(images).softmax(dim=1) for images in x.split(1000)])


def obtain_reference_classifier(
    data: ImageDataset,
    device: torch.device,
    data_dir: Path,
    provenance: str,
    on_training: Callable[[], None] = lambda: None,
) -> ConvolutionalClassifier:
    """The reference classifier of a labelled data set, loaded from `data_dir` or trained and kept there.

    Args:
        data: with labels, on any device.
        device: where it is trained if it must be, and where it is left.
        data_dir: the folder `reference_classifiers` in it keeps them; a folder that cannot be written keeps none.
        provenance: what it depends on besides the data: the sources it is made by.
        on_training: called before a new one is trained.
    """
    name = content_hash({"fingerprint": data.info.fingerprint, "provenance": provenance})
    path = data_dir / "reference_classifiers" / f"{data.name}-{name}.safetensors"
    with contextlib.suppress(OSError, SafetensorError, KeyError, RuntimeError):  # none, or a damaged one
        return load_reference_classifier(path).to(device)
    on_training()
    classifier = train_reference_classifier(data.to(device))
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as part:
            pass
        save_reference_classifier(classifier, Path(part.name))
        os.replace(part.name, path)
    return classifier


def train_reference_classifier(data: ImageDataset, steps: int = STEPS) -> ConvolutionalClassifier:
    """Train a reference classifier on the device of the data: AdamW, one cycle, always from the same seed."""
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
    """Write a classifier with all that `load_reference_classifier` needs."""
    about = {"input_shape": classifier.input_shape, "classes": classifier.classes, "accuracy": classifier.accuracy}
    state = {key: value.contiguous() for key, value in classifier.state_dict().items()}
    save_file(state, path, {"about": json.dumps(about)})


def load_reference_classifier(path: Path) -> ConvolutionalClassifier:
    """Read what `save_reference_classifier` wrote, on the CPU.

    Raises:
        OSError, SafetensorError, KeyError, RuntimeError: there is no such file, or it is damaged.
    """
    with safe_open(path, framework="pt") as file:
        about = json.loads(file.metadata()["about"])
        state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  it is no mapping
    classifier = ConvolutionalClassifier(tuple(about["input_shape"]), about["classes"])
    classifier.load_state_dict(state)
    classifier.accuracy = about["accuracy"]
    return classifier.eval().requires_grad_(False)


def _batches(n: int, steps: int) -> Iterator[Tensor]:
    """Indices of `steps` batches: one permutation of all images after another."""
    generator = Generator().manual_seed(SEED)
    size = min(BATCH_SIZE, n)
    given = 0
    while given < steps:
        for index in torch.randperm(n, generator=generator)[: n // size * size].view(-1, size)[: steps - given]:
            given += 1
            yield index


@torch.no_grad()
def _accuracy(classifier: ConvolutionalClassifier, test: Split) -> float:
    assert test.labels is not None
    predicted = torch.cat([classifier(x).argmax(dim=1) for x in test.batches()])
    return float((predicted == test.labels).float().mean())


@contextlib.contextmanager
def _reproducibly() -> Iterator[None]:
    """Inside, initial weights come from SEED and sums are taken in one thread: the same on any number of cores."""
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
