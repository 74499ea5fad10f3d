"""How a training runs its steps on its device."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from torch import Tensor

from aebench.training.step import Step


class StepRunner:
    """Runs every step as it is written; `CudaStepRunner` overrides what can be faster on CUDA."""

    @property
    def only_queues(self) -> bool:
        """Whether a step is only queued when it is taken, and runs later."""
        return False

    @property
    def fallback(self) -> str:
        """Why steps are not replayed from a recording; empty if they are, and where nothing is recorded."""
        return ""

    def context(self) -> AbstractContextManager[object]:
        """The context in which all work of the training is queued."""
        return nullcontext()

    def synchronize(self) -> None:
        """Wait for all queued work of the training."""

    def warm_up(self, step: Step, index: Tensor) -> None:
        """Take a step whose result does not matter, so that no later one includes lazy initialisation."""
        step(index)

    def prepare(self, step: Step, batch_size: int) -> Callable[[Tensor], None]:
        """What to call with the indices of each batch, (batch_size,) int64 on the device, to take `step`."""
        return step
