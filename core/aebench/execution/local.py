"""Worker processes on this machine, fed by a thread so that they never wait for whoever reads their results.

Trainers train. Evaluators take the tasks that are slow to start (their records have a `warm_up`), and on CUDA all: they
pay for imports and compilation once, while the first models train, and then get each trained model as it comes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Generator, Sequence
from pathlib import Path

import torch

from aebench.contracts import ImageDataset
from aebench.evaluation.reference_classifier import ConvolutionalClassifier, save_reference_classifier
from aebench.execution.crew import Crew
from aebench.execution.pool import Pool
from aebench.execution.work import Message, Unit
from aebench.execution.worker import Orders
from aebench.registry.records import Registry


class LocalExecutor:
    """Runs units in worker processes.

    Args:
        registry: the plugins; says which tasks are slow to start.
        device: where the workers train and evaluate.
        crew: how many there are of them.
    """

    def __init__(self, registry: Registry, device: torch.device, crew: Crew) -> None:
        self._slow = {name for name, task in registry.tasks.items() if task.record.warm_up is not None}
        self._broken = registry.broken
        self._device = device
        self._crew = crew

    def run(
        self, units: Sequence[Unit], data: ImageDataset, reference_classifier: ConvolutionalClassifier | None
    ) -> Generator[Message, None, None]:
        """Work on all units; yields what happens as it happens. Closing the iterator ends the workers at once."""
        with tempfile.TemporaryDirectory(prefix="aebench-") as name:
            folder = Path(name)
            data.save(folder / "data.safetensors")
            if reference_classifier is not None:
                save_reference_classifier(reference_classifier, folder / "reference_classifier.safetensors")
            orders = Orders(
                data=folder / "data.safetensors",
                reference_classifier=None
                if reference_classifier is None
                else folder / "reference_classifier.safetensors",
                device=str(self._device),
                without=self._broken,
            )
            pool = Pool(units, self._crew, self._slow, orders)
            try:
                yield from pool.messages()
            finally:
                pool.stop()
