"""Shared speed: steps of vanilla on one thread: the plugin, a third-party version, and without the fast products.

The third-party version uses only PyTorch: `nn.Linear`, `nn.BatchNorm1d`, and its own loss. The versions take turns, so
that drift cancels.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, replace
from typing import Any
from unittest import mock

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from aebench.contracts import Autoencoder, Bernoulli, ImageDataset, Loss, ModelSpec, Params
from aebench.networks import DENSE
from aebench.registry.loading import create_registry
from aebench.training import fast_products
from aebench.training.fitting import fit
from aebench.training.records import Budget
from benchmarks.baseline import BATCH_SIZE
from benchmarks.measuring import Spread, as_in_a_worker
from benchmarks.runner import Runner

STEPS = 100


class ThirdParty(Autoencoder):
    """The network of vanilla on 32x32 images; of aebench it uses only the base class."""

    def __init__(self) -> None:
        encoder = nn.Sequential(nn.Flatten(), *_hidden(1024, 341), *_hidden(341, 113), nn.Linear(113, 20))
        decoder = nn.Sequential(
            *_hidden(20, 113), *_hidden(113, 341), nn.Linear(341, 1024), nn.Unflatten(1, (1, 32, 32))
        )
        super().__init__(ModelSpec((1, 32, 32), 20, Params(), DENSE, Bernoulli()), encoder, decoder)

    def loss(self, x: Tensor, generator: Generator) -> Loss:
        """Cross-entropy in nats per image of x (B, 1, 32, 32) in [0, 1]."""
        reconstruction = functional.binary_cross_entropy_with_logits(self(x), x, reduction="sum") / len(x)
        return Loss(reconstruction, reconstruction, torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, 1, 32, 32) -> logits of the same shape."""
        logits: Tensor = self.decoder(self.encoder(x))
        return logits


def _hidden(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Linear(inputs, outputs, bias=False), nn.BatchNorm1d(outputs), nn.ReLU()]


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Milliseconds per step of each version, and their ratio to those of the plugin."""
    runner = Runner(create_registry(), options.data_dir, "cpu")
    train = runner.data.train
    data = replace(runner.data, train=train.at(slice(STEPS * BATCH_SIZE)), validation=train.at(slice(1000)))
    cases: dict[str, tuple[Callable[[], Autoencoder], Callable[[], AbstractContextManager[object]]]] = {
        "ours": (runner.model, nullcontext),
        "third-party": (ThirdParty, nullcontext),
        "ours, without fast products": (runner.model, _no_fast_products),
    }
    seconds: dict[str, list[float]] = defaultdict(list)
    for _ in range(max(5, options.repeats)):
        for name, (build, condition) in cases.items():
            with condition():
                seconds[name].append(_seconds(build(), data))
    results = {}
    for name, values in seconds.items():
        ratio = Spread.of([value / ours for value, ours in zip(values, seconds["ours"], strict=True)])
        milliseconds = Spread.of([1000 * value / STEPS for value in values])
        print(f"{name:30} {milliseconds} ms a step, {ratio} times ours")
        results[name] = {"milliseconds_per_step": asdict(milliseconds), "ratio": asdict(ratio)}
    return results


def _no_fast_products() -> AbstractContextManager[object]:
    return mock.patch.object(fast_products, "_has_fast_products", return_value=False)


@as_in_a_worker()
def _seconds(model: Autoencoder, data: ImageDataset) -> float:
    batches, noise = Generator().manual_seed(1), Generator().manual_seed(2)
    return fit(model, data, Budget(1, BATCH_SIZE), batches=batches, noise=noise).seconds
