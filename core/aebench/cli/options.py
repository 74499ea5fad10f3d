"""The options that commands share, and what their values mean. Imports nothing that is slow to import."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aebench.errors import AebenchError

if TYPE_CHECKING:
    from aebench.planning.benchmark import Benchmark
    from aebench.registry.records import Registry

Dataset = Annotated[
    str | None, typer.Option(help="A data set by name, a folder of images, or an .npz file.  [default: digits]")
]
Models = Annotated[str | None, typer.Option(help="Comma-separated models.  [default: all]")]
Backbones = Annotated[
    str | None, typer.Option(help="Comma-separated backbones; a row for each model and backbone.  [default: dense]")
]
Tasks = Annotated[str | None, typer.Option(help="Comma-separated tasks.  [default: all]")]
Seeds = Annotated[int | None, typer.Option(help="Repetitions with different seeds.  [default: 1]")]
Epochs = Annotated[int | None, typer.Option(help="Training budget of every model.  [default: 60]")]
Precision = Annotated[
    str | None,
    typer.Option(help="fp32, bf16, or auto: bf16 on a CPU that has it in hardware, else fp32.  [default: fp32]"),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="A YAML file; options on the command line override it.")
]
DataDir = Annotated[
    Path | None,
    typer.Option(envvar="AEBENCH_DATA_DIR", help="Where data sets are kept.  [default: the user cache directory]"),
]
WorkDir = Annotated[
    Path | None,
    typer.Option(
        envvar="AEBENCH_WORK_DIR",
        help="Where a run keeps what must survive its death.  [default: the user state directory]",
    ),
]
TrackingUri = Annotated[
    str | None, typer.Option(help="MLflow store.  [default: MLFLOW_TRACKING_URI, else sqlite:///mlflow.db]")
]
LONGEST_EXPERIMENT = 200  # characters


def _check_experiment(name: str | None) -> str | None:
    if name is not None and not (name.strip() and name.isprintable() and len(name) <= LONGEST_EXPERIMENT):
        raise typer.BadParameter(
            f"must be printable and of 1 to {LONGEST_EXPERIMENT} characters, got {name[:LONGEST_EXPERIMENT]!r}"
        )
    return name


Experiment = Annotated[
    str | None,
    typer.Option(help="MLflow experiment.  [default: aebench-<dataset>]", callback=_check_experiment),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def load_benchmark(
    registry: Registry,
    config: Path | None,
    dataset: str | None,
    models: str | None,
    backbones: str | None,
    tasks: str | None,
    seeds: int | None,
    epochs: int | None,
    precision: str | None,
) -> Benchmark:
    """The benchmark that a configuration file and the options describe; options override the file.

    Raises:
        AebenchError: the file cannot be read, or a value is wrong.
    """
    from aebench.planning import benchmark

    given: dict[tuple[str, ...], Any] = {
        ("dataset",): dataset_choice(dataset, registry),
        ("models",): names(models),
        ("backbones",): names(backbones),
        ("tasks",): names(tasks),
        ("seeds",): seeds,
        ("training", "epochs"): epochs,
        ("training", "precision"): precision,
    }
    return benchmark.load_benchmark(
        registry, config, {path: value for path, value in given.items() if value is not None}
    )


def names(text: str | None) -> list[str] | None:
    """The names in a comma-separated list."""
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def dataset_choice(text: str | None, registry: Registry) -> Any:
    """A registered name, or the path of a user's own images."""
    if text is None:
        return None
    if text.endswith(".npz"):
        return {"name": "npz", "params": {"path": text}}
    if os.sep in text or text.startswith(".") or (text not in registry.datasets and os.path.isdir(text)):
        return {"name": "folder", "params": {"path": text}}
    return text


def data_folder(given: Path | None) -> Path:
    """The folder in which data sets are kept: the given one, else the user's cache directory."""
    if given is not None:
        try:
            return given.expanduser()
        except RuntimeError as error:
            raise AebenchError(f"--data-dir: {given} is not a path: {error}") from error
    from platformdirs import user_cache_path

    return user_cache_path("aebench", appauthor=False)


def work_folder(given: Path | None) -> Path:
    """The folder in which runs keep what must survive them: the given one, else the user's state directory."""
    if given is not None:
        return given.expanduser()
    from platformdirs import user_state_path

    return user_state_path("aebench", appauthor=False)
