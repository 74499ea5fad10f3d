"""The jobs of a matrix: trainings and their evaluations, each with its seeds and its content hash."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aebench.contracts import Likelihood, OptimizerSpec
from aebench.planning.seeds import derive_seed


@dataclass(frozen=True)
class TrainingSpec:
    """One model to be trained once, for all tasks that share its profile.

    Attributes:
        label: the row of the matrix.
        model: registered name of the model, with its parameters as JSON values.
        backbone: registered name of what it is built on; None for networks of its own.
        profile: name of the profile; `latent_dim` and `held_out` are its content.
        in_rotation: the profile holds out several classes, each in a training of its own such as this one.
        seed: which repetition, from 0.
        epochs, batch_size, optimizer: the budget.
        likelihood: of the images.
        patience: epochs without a lower validation loss after which a stage ends early; None for never.
        precision: "fp32" or "bf16", of the matrix products.
        device_kind: "cpu" or "cuda"; their results differ.
        suite_seed: what all seeds are derived from.
        hash: over everything that can change the trained weights.
    """

    label: str
    model: str
    params: Mapping[str, Any] = field(hash=False)
    backbone: str | None
    profile: str
    latent_dim: int
    held_out: int | None
    in_rotation: bool
    seed: int
    epochs: int
    batch_size: int
    optimizer: OptimizerSpec
    likelihood: Likelihood
    patience: int | None
    precision: str
    device_kind: str
    suite_seed: int
    hash: str

    @property
    def training_key(self) -> str:
        """Identifies this training among those of its row and seed: `general`, `anomaly`, `anomaly_without_3`."""
        return f"{self.profile}_without_{self.held_out}" if self.in_rotation else self.profile

    @property
    def initialisation_seed(self) -> int:
        """Seed of the initial weights: 42, 43, ..., the first one being the article's.

        It is the same for all models, so that networks of one shape start from the same weights.
        """
        return self.suite_seed + self.seed

    def derived_seed(self, use: str) -> int:
        """Seed for any other random choice of this training alone, such as its noise."""
        return derive_seed(self.suite_seed, use=use, model=self.model, profile=self.profile, seed=self.seed)

    @property
    def batches_seed(self) -> int:
        """Seed of the order of the images: the same for all models, so that repetitions are paired."""
        return derive_seed(self.suite_seed, use="batches", profile=self.profile, seed=self.seed)


@dataclass(frozen=True)
class EvaluationSpec:
    """One task on one trained model: a cell of the matrix for one seed and held-out class.

    Attributes:
        training: what is evaluated.
        task: registered name of the task, with its parameters as JSON values.
        seed: of all random choices of the task.
        hash: over everything that can change the result.
        skip: why the task does not support this model; None when it does.
    """

    training: TrainingSpec
    task: str
    params: Mapping[str, Any] = field(hash=False)
    seed: int
    hash: str
    skip: str | None = None

    @property
    def held_out_in_rotation(self) -> int | None:
        """The held-out class where several are held out in rotation, else None."""
        return self.training.held_out if self.training.in_rotation else None

    @property
    def key(self) -> str:
        """Identifies the cell among those of its row and seed, see `cell_key`."""
        return cell_key(self.task, self.held_out_in_rotation)


@dataclass(frozen=True)
class ExportSpec:
    """A trained model to be exported as a program that runs without its plugin.

    Attributes:
        training: the training whose model it is.
        input_shape: (C, H, W) of one image.
    """

    training: TrainingSpec
    input_shape: tuple[int, int, int]


def cell_key(task: str, held_out: int | None) -> str:
    """The task, or `anomaly_detection.without_3` where several classes are held out in rotation."""
    return task if held_out is None else f"{task}.without_{held_out}"


def parse_cell_key(key: str) -> tuple[str, int | None]:
    """Task and held-out class of a key that `cell_key` made."""
    task, _, held_out = key.partition(".without_")
    return task, int(held_out) if held_out else None
