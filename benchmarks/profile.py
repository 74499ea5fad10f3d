"""Profile: the time of a training step on the CPU by kind of operator, vanilla on MNIST, on one thread."""

from __future__ import annotations

import argparse
import copy
from dataclasses import replace

from torch import Generator
from torch.profiler import ProfilerActivity, profile

from aebench.contracts import Autoencoder, ImageDataset
from aebench.registry.loading import create_registry
from aebench.training.fitting import fit
from aebench.training.records import Budget
from benchmarks.baseline import BATCH_SIZE
from benchmarks.ceiling import training_flops
from benchmarks.measuring import as_in_a_worker
from benchmarks.runner import Runner

STEPS = 100
PRODUCTS = "matrix products"
GROUPS = {  # by the prefixes of operator names
    PRODUCTS: ("mkldnn::_linear_pointwise", "aten::mm", "aten::addmm"),
    "copies, conversions": ("aten::copy_", "aten::index_select", "aten::div_"),
    "Adam": ("aten::_fused_adam_",),
    "batch norm, ReLU": ("aten::native_batch_norm", "aten::clamp_min", "aten::threshold_backward"),
    "cross-entropy": (
        "aten::binary_cross_entropy_with_logits",
        "aten::log_sigmoid",
        "aten::sum",
        "aten::sub",
        "aten::mul",
    ),
}
REST = "all others"


def measure(options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Milliseconds per step of each group of operators, by precision."""
    runner = Runner(create_registry(), options.data_dir, "cpu")
    train = runner.data.train.at(slice(STEPS * BATCH_SIZE))
    data = replace(runner.data, train=train, validation=train.at(slice(1)))
    model = runner.model()
    flops = training_flops(copy.deepcopy(model)) * BATCH_SIZE
    results = {}
    for precision in ("fp32", "bf16"):
        milliseconds = _milliseconds_per_step(copy.deepcopy(model), data, precision)
        total = sum(milliseconds.values())
        shares = ", ".join(f"{name} {value / total:.0%}" for name, value in milliseconds.items())
        rate = flops / milliseconds[PRODUCTS] / 1e6
        print(f"{precision}: {total:.1f} ms a step: {shares}; the products at {rate:.0f} GFLOP/s")
        results[precision] = milliseconds
    return results


@as_in_a_worker()
def _milliseconds_per_step(model: Autoencoder, data: ImageDataset, precision: str) -> dict[str, float]:
    """Milliseconds by group of operators, including the overhead of the profiler."""
    budget, batches, noise = Budget(1, BATCH_SIZE, precision=precision), Generator().manual_seed(1), Generator()
    with profile(activities=[ProfilerActivity.CPU], acc_events=True) as profiler:
        fit(model, data, budget, batches=batches, noise=noise)
    sums = dict.fromkeys([*GROUPS, REST], 0.0)
    for event in profiler.key_averages():
        group = next((group for group, names in GROUPS.items() if event.key.startswith(names)), REST)
        sums[group] += event.self_cpu_time_total / 1000 / (STEPS + 1)  # the additional step is the warm-up
    return sums
