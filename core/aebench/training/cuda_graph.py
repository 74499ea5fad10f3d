"""A training step recorded once as a CUDA graph and then replayed: one launch in place of some hundred."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Generator, Tensor

from aebench.errors import one_line
from aebench.training.step import Step

# Adam's state, the workspaces of libraries and the allocator's cache have to be there before a step can be captured.
STEPS_BEFORE_CAPTURE = 3


class GraphedStep:
    """A step that is recorded after its first calls and then replayed, with the same results.

    A step that cannot be recorded, for example because its loss reads values, goes on as it is written.

    Args:
        step: to be recorded.
        batch_size: images in every batch.
        record: makes the replay; a CUDA graph unless told otherwise.

    Attributes:
        fallback: why it could not be recorded; empty as long as nothing kept it from that.
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
            # A capture that breaks off leaves its generator unusable.
            self._step.noise = Generator(self._index.device)
            self._step.noise.set_state(state)
            return None


def cuda_graph(step: Step, index: Tensor) -> Callable[[], None]:
    """What a step would queue on the current CUDA stream, to be queued at every call; nothing is run now."""
    graph = torch.cuda.CUDAGraph()
    graph.register_generator_state(step.noise)
    with step.capturable(), torch.cuda.graph(graph, stream=torch.cuda.current_stream()):
        step(index)
    return graph.replay


def why_not_recordable(step: Step, index: Tensor) -> str:
    """Take a step and return why it cannot be recorded; empty if it might.

    It is better known before a recording than from its failure, after which PyTorch before 2.12 does not clean up.
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
    """Inside, an operation that makes the host wait for the CUDA device raises a RuntimeError ("synchronizing")."""
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch calls the mode a prototype
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)
