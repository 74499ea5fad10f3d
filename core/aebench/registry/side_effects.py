"""Notices and undoes what the code of a plugin changes for the whole process, such as PyTorch's default dtype."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import torch

# Libraries set these for themselves when they are first imported or used: scikit-learn for OpenMP, PyTorch for its
# compiler. They are left as they are, because a library may set them only once.
OWN_VARIABLES_OF_LIBRARIES = ("KMP_", "TORCHINDUCTOR_", "TRITON_")  # beginnings of names

# Modules that draw from a global generator when they are first imported, by the generator's library. The generator is
# restored, and the plugin that imports them is not blamed.
MODULES_THAT_DRAW = {"random": ("rich.style",)}

_SUBNORMAL = [5e-324]  # a list, so that Python does not compute the product below in advance
_MISSING = object()


@dataclass(frozen=True)
class _Setting:
    """A setting of the process: its name in messages, how to read it, and how to set it to what was read."""

    name: str
    read: Callable[[], Any]
    write: Callable[[Any], object]


def _working_directory() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:
        return ""  # it was removed


def _enter(folder: str) -> None:
    if folder:
        os.chdir(folder)


def _matmul_precision() -> str | None:
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:  # it was set in two ways that contradict each other
        return None


def _set_matmul_precision(precision: str | None) -> None:
    if precision is not None:
        torch.set_float32_matmul_precision(precision)


def _fp32_precision(*path: str) -> _Setting:
    owner: Any = reduce(getattr, path, torch.backends)
    return _Setting(
        "the precision of PyTorch's float32 products",
        lambda: owner.fp32_precision,
        lambda value: setattr(owner, "fp32_precision", value),
    )


def _cudnn(flag: str) -> _Setting:
    cudnn: Any = torch.backends.cudnn
    return _Setting(
        f"torch.backends.cudnn.{flag}", lambda: getattr(cudnn, flag), lambda value: setattr(cudnn, flag, value)
    )


def _flushes_subnormal_numbers() -> bool:
    return _SUBNORMAL[0] * 1.0 == 0


def _set_default_device(device: torch.device) -> None:
    torch.set_default_device(None if device.type == "cpu" else device)


SETTINGS = (
    _Setting("the working directory", _working_directory, _enter),
    _Setting("torch's default dtype", torch.get_default_dtype, torch.set_default_dtype),
    _Setting("torch's default device", torch.get_default_device, _set_default_device),
    _Setting("torch's number of threads", torch.get_num_threads, torch.set_num_threads),
    _Setting("whether torch records gradients", torch.is_grad_enabled, torch.set_grad_enabled),
    _Setting(
        "whether torch uses deterministic algorithms",
        torch.get_deterministic_debug_mode,
        torch.set_deterministic_debug_mode,
    ),
    _Setting("torch's anomaly detection", torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
    _Setting("the precision of PyTorch's float32 products", _matmul_precision, _set_matmul_precision),
    _fp32_precision(),
    _fp32_precision("cuda", "matmul"),
    _fp32_precision("cudnn", "conv"),
    _fp32_precision("mkldnn", "matmul"),
    *map(_cudnn, ("enabled", "benchmark", "deterministic")),
    _Setting("whether torch flushes subnormal numbers to zero", _flushes_subnormal_numbers, torch.set_flush_denormal),
    _Setting("NumPy's handling of numerical errors", np.geterr, lambda handling: np.seterr(**handling)),
    _Setting("sys.stdout", lambda: sys.stdout, lambda stream: setattr(sys, "stdout", stream)),
    _Setting("sys.stderr", lambda: sys.stderr, lambda stream: setattr(sys, "stderr", stream)),
)


def random_states() -> dict[str, Any]:
    """The states of the global random generators by library, as values that can be compared."""
    states: dict[str, Any] = {"torch": torch.get_rng_state().numpy().tobytes()}
    name, keys, *rest = np.random.get_state(legacy=True)  # noqa: NPY002
    states["numpy"] = (name, np.asarray(keys).tobytes(), *rest)
    states["random"] = random.getstate()
    if torch.cuda.is_initialized():
        states["CUDA"] = tuple(state.numpy().tobytes() for state in torch.cuda.get_rng_state_all())
    return states


def restore_random_states(states: Mapping[str, Any]) -> None:
    """Set the global random generators to what `random_states` returned."""
    torch.set_rng_state(_state_tensor(states["torch"]))
    name, keys, *rest = states["numpy"]
    np.random.set_state((name, np.frombuffer(keys, np.uint32), *rest))  # noqa: NPY002
    random.setstate(states["random"])
    if "CUDA" in states:
        torch.cuda.set_rng_state_all([_state_tensor(state) for state in states["CUDA"]])


def _state_tensor(state: bytes) -> torch.Tensor:
    return torch.from_numpy(np.frombuffer(state, np.uint8).copy())


class ProcessState:
    """What plugin code may not change for the rest of the process, as it is when the object is made.

    It covers the settings in `SETTINGS`, the environment variables, and the global random generators of PyTorch, NumPy
    and Python. Some settings belong to a thread: call `restore` in the thread that made the object.
    """

    def __init__(self) -> None:
        self._settings = [setting.read() for setting in SETTINGS]
        self._environment = dict(os.environ)
        self._random_states = random_states()
        self._modules_that_drew = _imported_modules_that_draw()

    def restore(self) -> tuple[str, ...]:
        """Undo what has changed since; return the names of what had changed, each once."""
        changed = [*self._restore_settings(), *self._restore_environment(), *self._restore_random_states()]
        return tuple(dict.fromkeys(changed))

    def _restore_settings(self) -> list[str]:
        changed = []
        for setting, before in zip(SETTINGS, self._settings, strict=True):
            if setting.read() != before:
                setting.write(before)
                changed.append(setting.name)
        return changed

    def _restore_environment(self) -> list[str]:
        before, changed = self._environment, []
        if os.environ == before:
            return []
        for name in sorted({*before, *os.environ}):
            if os.environ.get(name, _MISSING) == before.get(name, _MISSING):
                continue
            if name not in before and name.startswith(OWN_VARIABLES_OF_LIBRARIES):
                continue
            changed.append(f"the environment variable {name}")
            if name in before:
                os.environ[name] = before[name]
            else:
                del os.environ[name]
        return changed

    def _restore_random_states(self) -> list[str]:
        before, now = self._random_states, random_states()
        changed = [library for library in before if before[library] != now[library]]
        if changed:
            restore_random_states(before)
        excused = _imported_modules_that_draw() - self._modules_that_drew
        return [
            f"the state of {library}'s global random generator"
            for library in changed
            if not excused.intersection(MODULES_THAT_DRAW.get(library, ()))
        ]


def _imported_modules_that_draw() -> set[str]:
    return {module for modules in MODULES_THAT_DRAW.values() for module in modules if module in sys.modules}
