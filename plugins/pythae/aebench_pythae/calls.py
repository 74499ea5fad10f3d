"""What pythae calls while it computes a loss, and what it gets instead: our noise and the benchmark's likelihood."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from aebench.contracts import Likelihood

Constants = dict[tuple[object, ...], Tensor]


class RedirectedCalls(TorchFunctionMode):
    """A context in which pythae's forward pass computes the benchmark's loss.

    - `randn_like` and `randperm` draw from `generator`.
    - An `mse_loss` without a reduction is pythae's reconstruction error: it becomes the negative log-likelihood of x
      given what was decoded last. It gets the shape (..., 1), since pythae then sums over the last dimension.
    - A constant that pythae makes on the CPU in every step is sent to a CUDA device once: steps can then be recorded.
    - `binary_cross_entropy`, which a discriminator uses, is computed outside autocast, which forbids it on CUDA.

    Args:
        likelihood: the benchmark's.
        factor: of the reconstruction error; 2 for models that halve it.
        generator: on the device of the model.
        constants: those sent before, by value; new ones are added.

    Attributes:
        reconstruction: the mean of the last negative log-likelihood, a scalar in nats per image; None without one.
    """

    def __init__(self, likelihood: Likelihood, factor: float, generator: Generator, constants: Constants) -> None:
        super().__init__()
        self.reconstruction: Tensor | None = None
        self._likelihood = likelihood
        self._factor = factor
        self._generator = generator
        self._constants = constants
        self._decoded = torch.zeros(0)
        self._replacements: dict[Callable[..., Any], Callable[..., Any]] = {
            torch.randn_like: self._randn_like,
            torch.randperm: self._randperm,
            functional.mse_loss: self._mse_loss,
            functional.binary_cross_entropy: self._binary_cross_entropy,
            Tensor.to: self._to,
        }

    def remember(self, module: nn.Module, inputs: tuple[Any, ...], decoded: Tensor) -> None:
        """A forward hook of the decoder: what it returned last is what the reconstruction error is of."""
        self._decoded = decoded

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        return self._replacements.get(func, func)(*args, **(kwargs or {}))

    def _randn_like(self, like: Tensor, **_: Any) -> Tensor:
        return torch.randn(like.shape, dtype=like.dtype, device=like.device, generator=self._generator)

    def _randperm(self, n: int) -> Tensor:
        return torch.rand(n, device=self._generator.device, generator=self._generator).argsort()

    def _mse_loss(self, input: Tensor, target: Tensor, reduction: str = "mean", **_: Any) -> Tensor:
        if reduction != "none":
            return functional.mse_loss(input, target, reduction=reduction)
        nll = self._likelihood.nll(self._decoded, target.reshape(self._decoded.shape))
        self.reconstruction = nll.mean()
        return self._factor * nll.reshape(*input.shape[:-1], 1)

    def _binary_cross_entropy(self, input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if input.device.type != "cuda":
            return functional.binary_cross_entropy(input, *args, **kwargs)
        with torch.autocast("cuda", enabled=False):
            return functional.binary_cross_entropy(input.float(), *args, **kwargs)

    def _to(self, tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if tensor.device.type != "cpu" or self._generator.device.type != "cuda":
            return tensor.to(*args, **kwargs)
        key = (tensor.numpy().tobytes(), tensor.dtype, tensor.shape, args, *kwargs.items())
        if key not in self._constants:
            self._constants[key] = tensor.to(*args, **kwargs)
        return self._constants[key].clone()  # pythae changes some of them in place
