"""Which optimiser takes the steps, and how its learning rate changes from epoch to epoch."""

from __future__ import annotations

from math import cos, pi
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from aebench.contracts.settings import Settings, by_name


class Constant(Settings):
    """The learning rate does not change."""

    name: Literal["constant"] = "constant"

    def multiplier(self, epoch: int, epochs: int) -> float:
        return 1.0


class Cosine(Settings):
    """Half a period of a cosine (Loshchilov & Hutter 2017, eq. 5), from 1 towards `final`, times the learning rate.

    It would reach `final` after the last epoch.
    """

    name: Literal["cosine"] = "cosine"
    final: float = Field(default=0.0, ge=0, le=1)

    def multiplier(self, epoch: int, epochs: int) -> float:
        return self.final + (1 - self.final) * (1 + cos(pi * epoch / epochs)) / 2


class StepDecay(Settings):
    """The learning rate is multiplied by `factor` after every `every` epochs."""

    name: Literal["step"] = "step"
    every: int = Field(gt=0, le=1_000_000)
    factor: float = Field(default=0.1, gt=0, le=1)

    def multiplier(self, epoch: int, epochs: int) -> float:
        return self.factor ** (epoch // self.every)


Schedule = Annotated[
    Annotated[Constant | Cosine | StepDecay, Field(discriminator="name")],
    BeforeValidator(by_name),
]


class OptimizerSpec(Settings):
    """An optimiser of PyTorch with its settings; a schedule may be given by its name alone.

    Attributes:
        name: "adam", "adamw" or "sgd".
        learning_rate: the largest one.
        weight_decay: L2 penalty; decoupled from the gradient for "adamw".
        momentum: of "sgd".
        warm_up: epochs at the beginning of each stage during which the learning rate grows linearly.
        schedule: how it changes after the warm-up, from epoch to epoch of a stage.
    """

    name: Literal["adam", "adamw", "sgd"] = "adam"
    learning_rate: float = Field(default=1e-3, gt=0, le=1000)
    weight_decay: float = Field(default=0.0, ge=0, le=1000)
    momentum: float = Field(default=0.0, ge=0, lt=1)
    warm_up: int = Field(default=0, ge=0, le=1_000_000)
    schedule: Schedule = Constant()

    @model_validator(mode="after")
    def _momentum_is_used(self) -> OptimizerSpec:
        if self.momentum and self.name != "sgd":
            raise ValueError(f"{self.name} has no momentum; sgd has")
        return self

    @property
    def varies(self) -> bool:
        """Whether the learning rate changes in the course of a stage."""
        return self.warm_up > 0 or not isinstance(self.schedule, Constant)

    def learning_rate_in(self, epoch: int, epochs: int) -> float:
        """The learning rate in epoch 0, 1, ... of a stage of `epochs`."""
        if epoch < self.warm_up:
            return self.learning_rate * (epoch + 1) / (self.warm_up + 1)
        return self.learning_rate * self.schedule.multiplier(epoch - self.warm_up, epochs - self.warm_up)
