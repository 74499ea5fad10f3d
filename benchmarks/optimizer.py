"""Optimiser: microseconds of a step of Adam on the CPU, ours and PyTorch's, on one thread."""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from dataclasses import asdict
from typing import Any

import torch
from torch.optim import Adam

from aebench.registry.loading import create_registry
from aebench.training.building import build_model
from aebench.training.optimizers import AnyOptimizer, CpuAdam
from benchmarks.measuring import Spread, as_in_a_worker
from benchmarks.runner import Runner

MODELS = ("shallow", "vanilla", "masked")
SHAPES = ((1, 8, 8), (1, 32, 32))  # of digits and MNIST
STEPS = 200


@as_in_a_worker()
def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Microseconds by model and image size; both optimisers take turns on the same parameters."""
    runner = Runner(create_registry(), options.data_dir, "cpu")
    results: dict[str, Any] = {}
    for name in MODELS:
        for shape in SHAPES:
            (spec,) = runner.plan(1, 1, model=name).trainings
            parameters = list(build_model(runner.registry, spec, shape).parameters())
            for parameter in parameters:
                parameter.grad = torch.randn_like(parameter)
            optimizers: dict[str, AnyOptimizer] = {
                "ours": CpuAdam(parameters, 1e-3, 0.0, decoupled=False),
                "PyTorch's": Adam(parameters, fused=True),
            }
            microseconds: dict[str, list[float]] = defaultdict(list)
            for _ in range(max(5, options.repeats)):
                for kind, optimizer in optimizers.items():
                    microseconds[kind].append(_microseconds_per_step(optimizer))
            spreads = {kind: Spread.of(values) for kind, values in microseconds.items()}
            case = f"{name} on {shape[1]}x{shape[2]}, {len(parameters)} tensors"
            print(f"{case:28}" + ", ".join(f"{kind} {spread} us" for kind, spread in spreads.items()))
            results[case] = {kind: asdict(spread) for kind, spread in spreads.items()}
    return results


def _microseconds_per_step(optimizer: AnyOptimizer) -> float:
    optimizer.step()
    started = time.perf_counter()
    for _ in range(STEPS):
        optimizer.step()
    return 1e6 * (time.perf_counter() - started) / STEPS
