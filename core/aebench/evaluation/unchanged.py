"""Notices that what a task was given has changed: the model, the data, the reference classifier."""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from aebench.contracts import ImageDataset

NAMED = 3  # of many changed tensors


def tensor_digest(tensor: Tensor) -> tuple[object, ...]:
    """A value that differs, but for one chance in 2**32, between tensors that differ in shape, type or content."""
    content = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return tuple(tensor.shape), tensor.dtype, zlib.crc32(content.data)


class ModuleState:
    """The weights and buffers of a module, its modes, and which parameters get gradients, as they are now."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._weights, self._modes, self._trainable = self._read()

    def changed(self) -> list[str]:
        """What has changed since, in words."""
        weights, modes, trainable = self._read()
        return [
            *_changed("weights", self._weights, weights),
            *_changed("training mode", self._modes, modes),
            *_changed("requires_grad", self._trainable, trainable),
        ]

    def _read(self) -> tuple[Mapping[str, object], Mapping[str, object], Mapping[str, object]]:
        module = self._module
        return (
            {name: tensor_digest(value) for name, value in module.state_dict().items()},
            {name: child.training for name, child in module.named_modules()},
            {name: parameter.requires_grad for name, parameter in module.named_parameters()},
        )


class DataState:
    """The images and labels of a data set, as they are now."""

    def __init__(self, data: ImageDataset) -> None:
        self._data = data
        self._digests = self._read()

    def changed(self) -> list[str]:
        """What has changed since, in words."""
        now = self._read()
        return [name for name, digest in self._digests.items() if now.get(name) != digest]

    def _read(self) -> dict[str, object]:
        found: dict[str, object] = {}
        for name in ("train", "validation", "test"):
            split = getattr(self._data, name)
            found[f"the {name} images"] = tensor_digest(split.images)
            if split.labels is not None:
                found[f"the {name} labels"] = tensor_digest(split.labels)
        return found


def _changed(what: str, before: Mapping[str, object], now: Mapping[str, object]) -> list[str]:
    names = [name or "the whole" for name in {**before, **now} if before.get(name) != now.get(name)]
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return [f"{what} ({', '.join(names[:NAMED])}{more})"] if names else []
