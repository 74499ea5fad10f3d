"""PyTorch's optimisers, made from their specs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from aebench.contracts import OptimizerSpec


def build_optimizer(spec: OptimizerSpec, parameters: Sequence[nn.Parameter]) -> Optimizer:
    """An optimiser of these parameters, at the largest learning rate of its schedule."""
    rate = _learning_rate(spec, parameters)
    if spec.name == "adam":
        return Adam(parameters, lr=rate, weight_decay=spec.weight_decay, fused=True)
    if spec.name == "adamw":
        return AdamW(parameters, lr=rate, weight_decay=spec.weight_decay, fused=True)
    return SGD(parameters, lr=rate, weight_decay=spec.weight_decay, momentum=spec.momentum, fused=True)


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    """Change the learning rate, in place where a recorded step reads it."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def _learning_rate(spec: OptimizerSpec, parameters: Sequence[nn.Parameter]) -> float | Tensor:
    """A number; a tensor if it changes on CUDA, where a recorded step would keep the number."""
    if spec.varies and parameters and parameters[0].device.type == "cuda":
        return torch.tensor(spec.learning_rate, device=parameters[0].device)
    return spec.learning_rate
