"""The schema of a configuration: its sections, their fields and their defaults."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag

from aebench.contracts import OptimizerSpec
from aebench.contracts.likelihoods import ChosenLikelihood
from aebench.contracts.names import Name
from aebench.contracts.settings import Settings, by_name

# Far beyond what is useful; a larger number is a mistake that would cost hours or gigabytes before it shows.
MOST_EPOCHS = 1_000_000
LARGEST_BATCH = 1_000_000
LARGEST_CODE = 65_536
MOST_SEEDS = 1000
LARGEST_SEED = 2**32 - 1


class Choice(Settings):
    """A plugin by name, with the parameters that differ from its defaults; a bare string is the name alone."""

    name: str
    params: dict[str, Any] = Field(default_factory=dict)


def _distinct(classes: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(classes)) < len(classes):
        raise ValueError("a class is listed twice")
    return classes


def _kind(held_out: Any) -> str:
    """Which kind of value this is meant to be, so that a mistake has one line and not one for each kind."""
    return "classes" if isinstance(held_out, list | tuple) else "all" if isinstance(held_out, str) else "class"


ClassIndex = Annotated[int, Field(ge=0)]
ClassIndices = Annotated[tuple[ClassIndex, ...], Field(min_length=1), AfterValidator(_distinct)]
HeldOut = Annotated[
    Annotated[ClassIndex, Tag("class")]
    | Annotated[ClassIndices, Tag("classes")]
    | Annotated[Literal["all"], Tag("all")],
    Discriminator(_kind),
]


class Profile(Settings):
    """How a model is trained for some tasks.

    Attributes:
        latent_dim: width of the latent code.
        held_out: classes left out of training, by index: one, several or "all"; each has a training of its own.
    """

    latent_dim: int = Field(gt=0, le=LARGEST_CODE)
    held_out: HeldOut | None = None


class EarlyStopping(Settings):
    """Ends a stage of a training early, and keeps its best weights.

    Attributes:
        patience: epochs without a lower validation loss after which the stage ends.
    """

    patience: int = Field(gt=0, le=MOST_EPOCHS)


class TrainingSettings(Settings):
    """The budget of every model.

    Attributes:
        epochs: passes over the training images.
        batch_size: images in a batch; None for the data set's own.
        optimizer: by name, or with its settings; a model's own optimiser, if it names one, is used instead.
        early_stopping: for all models, or None for the whole budget.
        precision: of the matrix products in training: fp32, bf16, or auto for bf16 where a CPU has it in hardware.
    """

    epochs: int = Field(default=60, gt=0, le=MOST_EPOCHS)
    batch_size: int | None = Field(default=None, gt=1, le=LARGEST_BATCH)
    optimizer: Annotated[OptimizerSpec, BeforeValidator(by_name)] = OptimizerSpec()
    early_stopping: EarlyStopping | None = None
    precision: Literal["fp32", "bf16", "auto"] = "fp32"


class OwnTraining(Settings):
    """What one model's training does differently from all others; None for no difference."""

    epochs: int | None = Field(default=None, gt=0, le=MOST_EPOCHS)
    batch_size: int | None = Field(default=None, gt=1, le=LARGEST_BATCH)
    optimizer: Annotated[OptimizerSpec | None, BeforeValidator(by_name)] = None


class ModelChoice(Choice):
    """A model in the matrix.

    Attributes:
        label: names its row when one model is listed several times.
        training: what its training does differently; the table says so.
    """

    label: Name | None = None
    training: OwnTraining = OwnTraining()


DEFAULT_BACKBONE = "dense"  # the article's; its rows have the models' own names
DEFAULT_PROFILES = {
    "general": Profile(latent_dim=20),
    "anomaly": Profile(latent_dim=2, held_out=1),
}


class BenchmarkConfig(Settings):
    """The whole benchmark; the defaults together are the article's protocol on `digits`.

    Attributes:
        dataset: the data set.
        models: the rows of the matrix; None for all registered.
        backbones: each model that uses them has a row for each.
        tasks: the columns; None for all registered.
        seeds: repetitions, each with its own initialisation, batches and noise on the same splits.
        seed: the suite's seed, from which all others are derived.
        training: the budget.
        likelihood: of the images, by name or with its settings; None for the default of the data, see
            `default_likelihood`.
        profiles: the trainings that tasks can ask for, by name; they add to the default ones or replace them.
    """

    dataset: Annotated[Choice, BeforeValidator(by_name)] = Choice(name="digits")
    models: tuple[Annotated[ModelChoice, BeforeValidator(by_name)], ...] | None = Field(default=None, min_length=1)
    backbones: Annotated[tuple[str, ...], Field(min_length=1)] = (DEFAULT_BACKBONE,)
    tasks: tuple[Annotated[Choice, BeforeValidator(by_name)], ...] | None = Field(default=None, min_length=1)
    seeds: int = Field(default=1, gt=0, le=MOST_SEEDS)
    seed: int = Field(default=42, ge=0, le=LARGEST_SEED)
    training: TrainingSettings = TrainingSettings()
    likelihood: ChosenLikelihood | None = None
    profiles: dict[Name, Profile] = Field(default_factory=dict)

    @property
    def all_profiles(self) -> dict[str, Profile]:
        """The default profiles, with the configured ones added or in their place."""
        return DEFAULT_PROFILES | self.profiles
