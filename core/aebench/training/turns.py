"""Work in turns, so that one process can train several models at once on a device that none of them fills alone."""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import wraps
from typing import ParamSpec, TypeAlias, TypeVar

import torch

P = ParamSpec("P")
T = TypeVar("T")
Turns: TypeAlias = Generator[None, None, T]  # does a part of the work whenever it is resumed, and returns a T


def all_at_once(turns: Turns[T]) -> T:
    """Take every turn, one after another."""
    while True:
        try:
            next(turns)
        except StopIteration as end:
            result: T = end.value
            return result


def at_once(work: Callable[P, Turns[T]]) -> Callable[P, T]:
    """The same function, without turns."""

    @wraps(work)
    def whole(*args: P.args, **kwargs: P.kwargs) -> T:
        return all_at_once(work(*args, **kwargs))

    return whole


def on_own_stream(device: torch.device, turns: Turns[T]) -> Turns[T]:
    """The same turns; on CUDA all they do is queued on a stream of their own, so that kernels of others run beside it.

    They see what was queued on the current stream before the first turn. They have to wait for their own work before
    they return what others will read.
    """
    if device.type != "cuda":
        return (yield from turns)
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    while True:
        with torch.cuda.stream(stream):
            try:
                next(turns)
            except StopIteration as end:
                result: T = end.value
                return result
        yield
