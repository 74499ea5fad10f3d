"""The baseline: a plain PyTorch loop as most people write it, on the article's vanilla autoencoder."""

from __future__ import annotations

import time
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, random_split
from torchvision import datasets, transforms

from aebench.hardware import cores

BATCH_SIZE = 256
TRAINING_IMAGES = 55_000


class Baseline:
    """MNIST through Pad and ToTensor and a DataLoader with a worker per core, sigmoid and BCE, Adam."""

    def __init__(self, data_dir: Path, device: str) -> None:
        transform = transforms.Compose([transforms.Pad(2), transforms.ToTensor()])
        images = datasets.MNIST(data_dir, train=True, transform=transform, download=True)
        train, _ = random_split(images, [TRAINING_IMAGES, len(images) - TRAINING_IMAGES])
        self._loader = DataLoader(
            train, BATCH_SIZE, shuffle=True, num_workers=cores(), persistent_workers=True, pin_memory=device == "cuda"
        )
        self._device = device
        self._model = nn.Sequential(
            nn.Flatten(), *_hidden(1024, 341), *_hidden(341, 113), nn.Linear(113, 20),
            *_hidden(20, 113), *_hidden(113, 341), nn.Linear(341, 1024), nn.Sigmoid(), nn.Unflatten(1, (1, 32, 32)),
        ).to(device)  # fmt: skip
        self._optimizer = torch.optim.Adam(self._model.parameters(), lr=1e-3)

    def epoch(self) -> float:
        """Train for one epoch; seconds it took."""
        started = time.perf_counter()
        self.loss = 0.0
        for batch, _ in self._loader:
            x = batch.to(self._device)
            loss = functional.binary_cross_entropy(self._model(x), x, reduction="sum") / len(x)
            self._optimizer.zero_grad()
            loss.backward()
            self._optimizer.step()
            self.loss += loss.item() / len(self._loader)
        return time.perf_counter() - started


def _hidden(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Linear(inputs, outputs, bias=False), nn.BatchNorm1d(outputs), nn.ReLU()]
