"""Products: linear layers with their gradients by oneDNN, and by PyTorch's default, on one thread.

`aebench.training.fast_products` leaves products below its `SMALLEST` to PyTorch: there the overhead exceeds the gain.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from aebench.training import fast_products
from benchmarks.measuring import Spread, as_in_a_worker

SHAPES = ((64, 64, 64), (256, 64, 256), (256, 113, 341), (64, 512, 512), (256, 1024, 341), (1024, 1024, 341))
SECONDS = 0.1  # of one measurement


@as_in_a_worker()
def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Microseconds of each layer: images, inputs and outputs; and the ratio of oneDNN to the default."""
    if not fast_products._has_fast_products():
        print("not used on this processor")
        return {}
    return {"x".join(map(str, shape)): _compare(*shape, max(5, options.repeats)) for shape in SHAPES}


def _compare(images: int, inputs: int, outputs: int, repeats: int) -> dict[str, Any]:
    layer, x = nn.Linear(inputs, outputs), torch.randn(images, inputs, requires_grad=True)
    gradient = torch.randn(images, outputs)
    cases: dict[str, Callable[[], Tensor]] = {
        "default": lambda: layer(x),
        "oneDNN": lambda: fast_products._Product.apply(x, layer.weight, layer.bias),
    }
    found: dict[str, list[float]] = defaultdict(list)
    for _ in range(repeats):
        for name, call in cases.items():
            found[name].append(_microseconds(call, gradient))
    ratio = Spread.of([a / b for a, b in zip(found["oneDNN"], found["default"], strict=True)])
    spreads = {name: Spread.of(values) for name, values in found.items()}
    shape, size = f"{images} x {inputs} x {outputs}", images * inputs * outputs / 1e6
    print(f"{shape:20} {size:7.1f} million: default {spreads['default']} us, oneDNN {spreads['oneDNN']} us, {ratio}")
    return {"microseconds": {name: asdict(spread) for name, spread in spreads.items()}, "ratio": asdict(ratio)}


def _microseconds(call: Callable[[], Tensor], gradient: Tensor) -> float:
    call().backward(gradient)
    count, started = 0, time.perf_counter()
    while time.perf_counter() - started < SECONDS:
        call().backward(gradient)
        count += 1
    return (time.perf_counter() - started) / count * 1e6
