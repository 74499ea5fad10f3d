"""The baseline: a usual PyTorch training loop, on the article's vanilla autoencoder.

An epoch has the same work as in aebench: it trains on 55,000 images, then computes the loss on the other 5,000.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, random_split
from torchvision import datasets, transforms

from aebench.execution.devices import cores

BATCH_SIZE = 256
TRAINING_IMAGES = 55_000


class Baseline:
    """MNIST with Pad and ToTensor, a DataLoader with one worker per core, sigmoid and BCE, and Adam."""

    def __init__(self, data_dir: Path, device: str) -> None:
        transform = transforms.Compose([transforms.Pad(2), transforms.ToTensor()])
        images = datasets.MNIST(data_dir, train=True, transform=transform, download=True)
        train, validation = random_split(images, [TRAINING_IMAGES, len(images) - TRAINING_IMAGES])
        settings: dict[str, Any] = {"num_workers": cores(), "persistent_workers": True, "pin_memory": device == "cuda"}
        self._train = DataLoader(train, BATCH_SIZE, shuffle=True, **settings)
        self._validation = DataLoader(validation, BATCH_SIZE, **settings)
        self._device = device
        self._model = nn.Sequential(
            nn.Flatten(), *_hidden(1024, 341), *_hidden(341, 113), nn.Linear(113, 20),
            *_hidden(20, 113), *_hidden(113, 341), nn.Linear(341, 1024), nn.Sigmoid(), nn.Unflatten(1, (1, 32, 32)),
        ).to(device)  # fmt: skip
        self._optimizer = torch.optim.Adam(self._model.parameters(), lr=1e-3)

    def epoch(self) -> float:
        """Train for one epoch and validate; return the seconds of both."""
        started = time.perf_counter()
        self.loss = self.validation_loss = 0.0
        self._model.train()
        for batch, _ in self._train:
            loss = self._loss(batch)
            self._optimizer.zero_grad()
            loss.backward()
            self._optimizer.step()
            self.loss += loss.item() / len(self._train)
        self._model.eval()
        with torch.no_grad():
            for batch, _ in self._validation:
                self.validation_loss += self._loss(batch).item() / len(self._validation)
        return time.perf_counter() - started

    def _loss(self, batch: Tensor) -> Tensor:
        x = batch.to(self._device)
        return functional.binary_cross_entropy(self._model(x), x, reduction="sum") / len(x)


def _hidden(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Linear(inputs, outputs, bias=False), nn.BatchNorm1d(outputs), nn.ReLU()]
