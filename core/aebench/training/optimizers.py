"""Optimisers, made from their specs: PyTorch's, and on the CPU a faster Adam with the same results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from aebench.contracts import OptimizerSpec


@dataclass
class _Moments:
    """A parameter, the moving averages of its gradients and of their squares, and the number of its steps."""

    parameter: nn.Parameter
    mean: Tensor
    square: Tensor
    steps: int = 0


class CpuAdam:
    """Adam (Kingma & Ba 2015) or AdamW (Loshchilov & Hutter 2019) for float32 on the CPU, by PyTorch's fused kernel.

    The results are those of `torch.optim.Adam(fused=True)`, whose bookkeeping takes longer than the kernel for a small
    network, and which imports PyTorch's compiler into every worker.

    Args:
        parameters: what to update; a parameter without a gradient is left as it is.
        learning_rate: of the first step.
        weight_decay: L2 penalty.
        decoupled: whether the penalty is not a part of the gradient (AdamW).

    Attributes:
        param_groups: as in `torch.optim`; "lr" is the learning rate of the next step.
    """

    def __init__(
        self, parameters: Sequence[nn.Parameter], learning_rate: float, weight_decay: float, decoupled: bool
    ) -> None:
        self.param_groups: list[dict[str, Any]] = [{"lr": learning_rate}]
        self._moments = [_Moments(p, torch.zeros_like(p), torch.zeros_like(p)) for p in parameters]
        self._weight_decay = weight_decay
        self._kernel = torch._fused_adamw_ if decoupled else torch._fused_adam_

    def zero_grad(self) -> None:
        """Remove the gradients of all parameters."""
        for moments in self._moments:
            moments.parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Update every parameter that has a gradient."""
        updated = [moments for moments in self._moments if moments.parameter.grad is not None]
        if not updated:
            return
        for moments in updated:
            moments.steps += 1
        steps = {number: torch.tensor(float(number)) for number in {moments.steps for moments in updated}}
        self._kernel(
            [moments.parameter for moments in updated],
            [moments.parameter.grad for moments in updated],  # type: ignore[misc]
            [moments.mean for moments in updated],
            [moments.square for moments in updated],
            [],
            [steps[moments.steps] for moments in updated],
            lr=self.param_groups[0]["lr"],
            beta1=0.9,
            beta2=0.999,
            weight_decay=self._weight_decay,
            eps=1e-8,
            amsgrad=False,
            maximize=False,
        )

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` restores; it shares memory with the optimiser."""
        return {
            "learning rate": self.param_groups[0]["lr"],
            "means": [moments.mean for moments in self._moments],
            "squares": [moments.square for moments in self._moments],
            "steps": [moments.steps for moments in self._moments],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned for an optimiser of as many parameters of the same shapes."""
        self.param_groups[0]["lr"] = state["learning rate"]
        saved = zip(self._moments, state["means"], state["squares"], state["steps"], strict=True)
        for moments, mean, square, steps in saved:
            moments.mean.copy_(mean)
            moments.square.copy_(square)
            moments.steps = steps


AnyOptimizer = Optimizer | CpuAdam


def build_optimizer(spec: OptimizerSpec, parameters: Sequence[nn.Parameter]) -> AnyOptimizer:
    """An optimiser of these parameters, at the largest learning rate of its schedule.

    Raises:
        ValueError: there are no parameters.
    """
    if not parameters:
        raise ValueError("an optimiser needs at least one parameter")
    rate = _learning_rate(spec, parameters)
    if spec.name == "sgd":
        return SGD(parameters, lr=rate, weight_decay=spec.weight_decay, momentum=spec.momentum, fused=True)
    if isinstance(rate, float) and all(p.dtype == torch.float32 and p.device.type == "cpu" for p in parameters):
        return CpuAdam(parameters, rate, spec.weight_decay, decoupled=spec.name == "adamw")
    kind = AdamW if spec.name == "adamw" else Adam
    return kind(parameters, lr=rate, weight_decay=spec.weight_decay, fused=True)


def adam(parameters: Sequence[nn.Parameter], learning_rate: float) -> AnyOptimizer:
    """Adam with a constant learning rate; it raises what `build_optimizer` raises."""
    return build_optimizer(OptimizerSpec(learning_rate=learning_rate), parameters)


def set_learning_rate(optimizer: AnyOptimizer, rate: float) -> None:
    """Change the learning rate, in place where a recorded step reads it."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def _learning_rate(spec: OptimizerSpec, parameters: Sequence[nn.Parameter]) -> float | Tensor:
    """A number; a tensor if it changes on CUDA, where a recorded step would keep the number."""
    if spec.varies and parameters[0].device.type == "cuda":
        return torch.tensor(spec.learning_rate, device=parameters[0].device)
    return spec.learning_rate
