"""One step of training, as it is written and as a CUDA graph."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Generator, Tensor, nn

from aebench.contracts import Split
from aebench.contracts.models import StageLoss
from aebench.errors import one_line

# Adam's state, the workspaces of libraries and the allocator's cache have to be there before a step can be captured.
STEPS_BEFORE_CAPTURE = 3


class Step:
    """Takes a batch, changes the weights, and adds its losses to `sums`.

    Args:
        loss: what is minimised.
        train: where batches are taken from.
        parameters: the weights to change.
        learning_rate: Adam's.
        noise: a generator on the device, all randomness inside the loss.

    Attributes:
        sums: (3,) float32 on the device: total, reconstruction, penalty, in nats per image, over all batches so far.
        noise: as above; another one with the same state where a capture has spoilt it.
    """

    def __init__(
        self,
        loss: StageLoss,
        train: Split,
        parameters: Sequence[nn.Parameter],
        learning_rate: float,
        noise: Generator,
    ) -> None:
        self._loss = loss
        self._train = train
        self._optimizer = torch.optim.Adam(parameters, lr=learning_rate, fused=True)
        self.sums = torch.zeros(3, device=train.images.device)
        self.noise = noise

    def __call__(self, index: Tensor) -> None:
        """One step on the images at `index`, (B,) int64 on the device."""
        loss = self._loss(self._train.x(index), self.noise)
        self._optimizer.zero_grad(set_to_none=True)
        loss.total.backward()
        self._optimizer.step()
        self.sums += torch.stack([loss.total.detach(), loss.reconstruction.detach(), loss.penalty.detach()])

    @contextmanager
    def capturable(self) -> Iterator[None]:
        """Inside, Adam lets itself be captured; elsewhere it would warn that it is not."""
        for group in self._optimizer.param_groups:
            group["capturable"] = True
        try:
            yield
        finally:
            for group in self._optimizer.param_groups:
                group["capturable"] = False


@contextmanager
def no_waiting() -> Iterator[None]:
    """Inside, what makes the host wait for the CUDA device, as `.item()` does, is a RuntimeError ("synchronizing")."""
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that this is a prototype
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


def cuda_graph(step: Step, index: Tensor) -> Callable[[], None]:
    """What a step would queue on the current CUDA stream, to be queued at every call; nothing is run now."""
    graph = torch.cuda.CUDAGraph()
    graph.register_generator_state(step.noise)
    with step.capturable(), torch.cuda.graph(graph, stream=torch.cuda.current_stream()):
        step(index)
    return graph.replay


class CapturedStep:
    """A step that is recorded once and then replayed: one launch in place of some hundred, and the same results.

    A step that cannot be recorded, say because its loss looks at values, goes on as it is written.

    Args:
        step: to be recorded after its first calls.
        batch_size: images in every batch.
        record: how; a CUDA graph unless told otherwise.

    Attributes:
        why_not: what kept it from being recorded; empty as long as nothing did.
    """

    def __init__(
        self, step: Step, batch_size: int, record: Callable[[Step, Tensor], Callable[[], None]] = cuda_graph
    ) -> None:
        self.why_not = ""
        self._step = step
        self._index = torch.zeros(batch_size, dtype=torch.int64, device=step.sums.device)
        self._record = record
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
            self.why_not = one_line(error)
            # A capture that breaks off leaves its generator unusable.
            self._step.noise = Generator(self._index.device)
            self._step.noise.set_state(state)
            return None
