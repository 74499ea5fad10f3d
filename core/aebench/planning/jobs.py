"""What a matrix is made of: trainings, and cells that ask a task of one; each with its seeds and its content hash."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aebench.planning.seeds import derive_seed


@dataclass(frozen=True)
class Training:
    """One model to be trained once, for all tasks that share its profile.

    Attributes:
        label: the row of the matrix.
        model: registered name of the model, with its parameters as JSON values.
        profile: name of the profile; `latent_dim` and `held_out` are its content.
        rotated: the profile holds out several classes, one after another, and this is one of its trainings.
        seed: which repetition, from 0.
        epochs, batch_size, learning_rate: the budget.
        precision: "fp32" or "bf16", of the matrix products.
        suite_seed: what all seeds are derived from.
        hash: over everything that can change the trained weights.
    """

    label: str
    model: str
    params: Mapping[str, Any] = field(hash=False)
    profile: str
    latent_dim: int
    held_out: int | None
    rotated: bool
    seed: int
    epochs: int
    batch_size: int
    learning_rate: float
    precision: str
    suite_seed: int
    hash: str

    @property
    def slot(self) -> str:
        """Names this training among those of its model and seed: `general`, `anomaly`, `anomaly_without_3`."""
        return f"{self.profile}_without_{self.held_out}" if self.rotated else self.profile

    @property
    def initialisation_seed(self) -> int:
        """Seed of the initial weights: 42, 43, ..., the first one being the article's.

        It is the same for all models, so that networks of one shape start from the same weights.
        """
        return self.suite_seed + self.seed

    def derived_seed(self, use: str) -> int:
        """Seed for any other randomness of this training alone, such as its noise."""
        return derive_seed(self.suite_seed, use=use, model=self.model, profile=self.profile, seed=self.seed)

    @property
    def batches_seed(self) -> int:
        """Seed of the order of the images: the same for all models, so that repetitions are paired."""
        return derive_seed(self.suite_seed, use="batches", profile=self.profile, seed=self.seed)


@dataclass(frozen=True)
class Cell:
    """One task asked of one training; `skip` says why it will not be, `hash` covers all that can change its result."""

    training: Training
    task: str
    params: Mapping[str, Any] = field(hash=False)
    seed: int
    hash: str
    skip: str | None = None

    @property
    def key(self) -> str:
        """Names this cell among those of its model and seed: the task, or `anomaly_detection.without_3`."""
        return f"{self.task}.without_{self.training.held_out}" if self.training.rotated else self.task
