"""Everything that makes a training faster on CUDA: a stream of its own, and steps recorded as a CUDA graph.

A replayed graph is one launch instead of about a hundred.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Generator, Tensor

from aebench.errors import one_line
from aebench.training.optimizers import AnyOptimizer
from aebench.training.step import Step
from aebench.training.step_runner import StepRunner

# Adam's state, the workspaces of libraries and the allocator's cache must exist before a step is captured.
STEPS_BEFORE_CAPTURE = 3


class CudaStepRunner(StepRunner):
    """Queues the work of a training on its own stream, after the work already queued, and records its steps.

    If a step of one stage cannot be recorded, no later stage is recorded either.
    """

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device)
        self._stream.wait_stream(torch.cuda.current_stream(device))
        self._fallback = ""
        self._graphed: GraphedStep | None = None

    @property
    def only_queues(self) -> bool:
        return True

    @property
    def fallback(self) -> str:
        return self._fallback or (self._graphed.fallback if self._graphed else "")

    def context(self) -> AbstractContextManager[object]:
        return torch.cuda.stream(self._stream)

    def synchronize(self) -> None:
        self._stream.synchronize()

    def warm_up(self, step: Step, index: Tensor) -> None:
        """Take the step, and find out whether it can be recorded."""
        step(index)
        if not self._fallback:
            self._fallback = why_not_recordable(step, index)

    def prepare(self, step: Step, batch_size: int) -> Callable[[Tensor], None]:
        self._fallback = self.fallback
        self._graphed = None if self._fallback else GraphedStep(step, batch_size)
        return self._graphed or step


class GraphedStep:
    """Records a step after its first calls and then replays it, with the same results.

    A step that cannot be recorded, for example because its loss reads values on the host, runs without a graph.

    Args:
        step: the step to record.
        batch_size: number of images in every batch.
        record: records the step and returns its replay; `cuda_graph` by default.

    Attributes:
        fallback: why the step could not be recorded; empty unless recording has failed.
    """

    def __init__(
        self, step: Step, batch_size: int, record: Callable[[Step, Tensor], Callable[[], None]] | None = None
    ) -> None:
        self.fallback = ""
        self._step = step
        self._index = torch.zeros(batch_size, dtype=torch.int64, device=step.sums.device)
        self._record = record or cuda_graph
        self._calls = 0
        self._replay: Callable[[], None] | None = None

    def __call__(self, index: Tensor) -> None:
        """One step on the images at `index`, (batch_size,) int64 on the device."""
        self._index.copy_(index)
        if self._calls == STEPS_BEFORE_CAPTURE:
            self._replay = self._recorded()
        self._calls += 1
        if self._replay is None:
            self._step(self._index)
        else:
            self._replay()

    def _recorded(self) -> Callable[[], None] | None:
        state = self._step.noise.get_state()
        try:
            return self._record(self._step, self._index)
        except Exception as error:
            self.fallback = one_line(error)
            # A failed capture leaves its generator unusable.
            self._step.noise = Generator(self._index.device)
            self._step.noise.set_state(state)
            return None


def cuda_graph(step: Step, index: Tensor) -> Callable[[], None]:
    """Capture the work that a step queues on the current CUDA stream; each call of the result queues that work.

    The capture itself runs nothing.
    """
    graph = torch.cuda.CUDAGraph()
    graph.register_generator_state(step.noise)
    with capturable(step.optimizers), torch.cuda.graph(graph, stream=torch.cuda.current_stream()):
        step(index)
    return graph.replay


@contextmanager
def capturable(optimizers: Iterable[AnyOptimizer]) -> Iterator[None]:
    """Inside, optimisers that can be captured only when told so are; outside a capture that would cause a warning."""
    groups = [group for optimizer in optimizers for group in optimizer.param_groups if "capturable" in group]
    for group in groups:
        group["capturable"] = True
    try:
        yield
    finally:
        for group in groups:
            group["capturable"] = False


def why_not_recordable(step: Step, index: Tensor) -> str:
    """Take a step and return the reason why it cannot be recorded; empty if none is known.

    The check comes before the recording because PyTorch before 2.12 does not clean up after a failed capture.
    """
    try:
        with synchronisation_forbidden():
            step(index)
    except RuntimeError as error:
        if "synchronizing" not in str(error):
            raise
        return one_line(error)
    return ""


@contextmanager
def synchronisation_forbidden() -> Iterator[None]:
    """Inside, an operation that makes the host wait for the CUDA device raises RuntimeError ("synchronizing")."""
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch calls the mode a prototype
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)
