"""Records of a training: its budget, the losses of an epoch, and its result."""

from __future__ import annotations

from dataclasses import dataclass, field

from aebench.contracts import OptimizerSpec


@dataclass(frozen=True)
class Budget:
    """The budget of every model: passes over the training images, images per step, optimiser, precision.

    `optimizer` is for every update that does not name its own. `precision` is "fp32", or "bf16" for matrix products in
    bfloat16; weights, losses and the optimiser's state stay float32. With a `patience`, a stage ends when its
    validation loss has not fallen for so many epochs, and keeps the weights with the lowest.
    """

    epochs: int
    batch_size: int
    optimizer: OptimizerSpec = field(default_factory=OptimizerSpec)
    precision: str = "fp32"
    patience: int | None = None


@dataclass(frozen=True)
class EpochLosses:
    """Mean losses of one epoch in nats per image; `epoch` counts from 1 across all stages.

    `total`, `reconstruction` and `penalty` are means over the epoch's batches, in training mode, of the stage's first
    update; `validation` is its total loss on the validation split after the epoch, in evaluation mode.
    """

    epoch: int
    stage: str
    total: float
    reconstruction: float
    penalty: float
    validation: float


@dataclass(frozen=True)
class TrainingResult:
    """What a training used, and its learning curves.

    Attributes:
        epochs: the learning curves; empty for a model that is fitted in closed form.
        seconds: wall-clock time of the training alone: after warm-up, synchronised, without data loading. Concurrent
            trainings share cores or device, so each takes longer than it would alone.
        images_seen: training images that the model was fitted on, each counted every time.
        optimizer_steps: updates of the weights.
        parameters: number of parameters of the model.
        graph_fallback: why steps were not recorded as CUDA graphs; empty if they were, and on the CPU.
    """

    epochs: tuple[EpochLosses, ...]
    seconds: float
    images_seen: int
    optimizer_steps: int
    parameters: int
    graph_fallback: str = ""

    @property
    def epochs_used(self) -> int:
        """Epochs that were trained: fewer than the budget if a stage ended early."""
        return len(self.epochs)
