"""The commands. Everything heavy is imported inside the command that needs it, so that --help answers at once."""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.exceptions import TyperException

from aebench.errors import AebenchError

if TYPE_CHECKING:
    from rich.console import Console

    from aebench.planning.benchmark import Benchmark
    from aebench.registry.records import Registry

app = typer.Typer(
    name="aebench",
    help="Benchmark autoencoders: every model against every task, every result in MLflow.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130

Dataset = Annotated[
    str | None, typer.Option(help="A data set by name, a folder of images, or an .npz file.  [default: digits]")
]
Models = Annotated[str | None, typer.Option(help="Comma-separated models.  [default: all]")]
Tasks = Annotated[str | None, typer.Option(help="Comma-separated tasks.  [default: all]")]
Seeds = Annotated[int | None, typer.Option(help="Repetitions with different seeds.  [default: 1]")]
Epochs = Annotated[int | None, typer.Option(help="Training budget of every model.  [default: 60]")]
Precision = Annotated[
    str | None,
    typer.Option(help="fp32, bf16, or auto: bf16 on a CPU that has it in hardware, else fp32.  [default: fp32]"),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="A YAML file; the options above win over it.")]
DataDir = Annotated[
    Path | None,
    typer.Option(envvar="AEBENCH_DATA_DIR", help="Where data sets are kept.  [default: the user cache directory]"),
]
TrackingUri = Annotated[
    str | None, typer.Option(help="MLflow store.  [default: MLFLOW_TRACKING_URI, else sqlite:///mlflow.db]")
]
Experiment = Annotated[str | None, typer.Option(help="MLflow experiment.  [default: aebench-<dataset>]")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def run(
    dataset: Dataset = None,
    models: Models = None,
    tasks: Tasks = None,
    seeds: Seeds = None,
    epochs: Epochs = None,
    config: ConfigFile = None,
    precision: Precision = None,
    device: Device = "auto",
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Trainings at once.  [default: one per core; several on CUDA]")
    ] = None,
    data_dir: DataDir = None,
    tracking_uri: TrackingUri = None,
    experiment: Experiment = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Run every cell again, whatever the store holds.")] = False,
) -> None:
    """Run every model against every task; what is already in the store is not run again."""
    signal.signal(signal.SIGTERM, _terminate)
    registry = _registry()
    benchmark = _benchmark(registry, config, dataset, models, tasks, seeds, epochs, precision)

    from aebench import runner
    from aebench.report.progress import RunProgress, results_table

    console = _console()
    options = runner.RunOptions(device, jobs, _data_dir(data_dir), tracking_uri, experiment, fresh)
    with RunProgress(console) as progress:
        summary = runner.run(benchmark, registry, options, progress)
    console.print(results_table(summary.results))
    if not summary.trained and not summary.cells:
        console.print(f"nothing to train: all {summary.reused} cells were already there; --fresh runs them again")
    done = ", ".join(f"{count} {status}" for status, count in sorted(summary.cells.items())) or "0"
    console.print(
        f"{summary.trained} trainings, cells run: {done}, reused: {summary.reused}; {summary.seconds:.0f} s. "
        "'aebench ui' shows the pictures.",
        highlight=False,
    )
    if summary.cells["failed"]:
        raise typer.Exit(FAILED)


@app.command()
def plan(
    dataset: Dataset = None,
    models: Models = None,
    tasks: Tasks = None,
    seeds: Seeds = None,
    epochs: Epochs = None,
    config: ConfigFile = None,
    precision: Precision = None,
    device: Device = "auto",
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Print what `run` would train and evaluate, without doing it."""
    registry = _registry()
    benchmark = _benchmark(registry, config, dataset, models, tasks, seeds, epochs, precision)

    from aebench.execution.devices import choose_device
    from aebench.runner import prepare

    _, matrix = prepare(benchmark, _data_dir(data_dir), choose_device(device))
    if as_json:
        from aebench.results.matrix import describe

        _print_json(describe(matrix))
        return
    from rich.table import Table

    table = Table(title=f"matrix {matrix.matrix}: {len(matrix.trainings)} trainings, {len(matrix.cells)} cells")
    for column in ("model", "seed", "profile", "latent_dim", "held out", "epochs", "precision", "training", "tasks"):
        table.add_column(column, overflow="fold" if column == "tasks" else "ellipsis")
    for training in matrix.trainings:
        asked = [cell.task for cell in matrix.cells if cell.training == training and cell.skip is None]
        held_out = "–" if training.held_out is None else str(training.held_out)
        columns = (training.label, training.seed, training.profile, training.latent_dim, held_out, training.epochs)
        table.add_row(*map(str, columns), training.precision, training.hash, ", ".join(asked))
    console = _console()
    console.print(table)
    for cell in matrix.cells:
        if cell.skip is not None:
            console.print(f"skipped  {cell.training.label} × {cell.task}: {cell.skip}", highlight=False)


@app.command("list")
def list_(
    what: Annotated[
        Literal["models", "tasks", "datasets", "studies", "failures"] | None, typer.Argument(help="Only this kind.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List what the installed plugins bring, and the plugins that failed."""
    from aebench.report.listing import as_tables, describe_registry

    registry = _registry(quiet=True)
    description = describe_registry(registry)
    shown = {kind: entries for kind, entries in description.items() if what in (None, kind)}
    if as_json:
        _print_json(shown)
        return
    console = _console()
    for table in as_tables(shown):
        console.print(table)
    if not any(shown.values()):
        console.print(f"no {what or 'plugins'}")


@app.command()
def results(
    experiment: Experiment = None,
    tracking_uri: TrackingUri = None,
    as_json: AsJson = False,
) -> None:
    """Show the newest matrix as a table of models and tasks."""
    from aebench.report.progress import results_table
    from aebench.tracking import Store, newest_experiment

    store = Store(tracking_uri, experiment or newest_experiment(tracking_uri), must_exist=True)
    found = store.results()
    if as_json:
        _print_json(found.to_json())
    else:
        _console().print(results_table(found))


@app.command()
def compare(
    experiment: Experiment = None,
    tracking_uri: TrackingUri = None,
    as_json: AsJson = False,
    out: Annotated[Path | None, typer.Option(help="Write a page in Markdown to this file instead.")] = None,
) -> None:
    """Put published figures and conclusions beside the newest matrix."""
    from aebench.report.pages import as_page, as_tables
    from aebench.results.comparison import compare as compare_with
    from aebench.tracking import Store, newest_experiment

    registry = _registry()
    if not registry.studies:
        raise AebenchError("no studies are installed; see 'aebench list failures'")
    store = Store(tracking_uri, experiment or newest_experiment(tracking_uri), must_exist=True)
    results = store.results()
    comparisons = [compare_with(results, study.record) for study in registry.studies.values()]
    if as_json:
        _print_json([comparison.to_json() for comparison in comparisons])
    elif out is not None:
        _write(out, as_page(results, comparisons))
    else:
        for comparison in comparisons:
            _console().print(as_tables(comparison))


@app.command()
def check(
    name: Annotated[str, typer.Argument(help="A registered model, task or data set.")],
    data_dir: DataDir = None,
) -> None:
    """See whether a plugin does what the contract asks."""
    from aebench.testing import checks_of

    checks = checks_of(name, _registry(), data_dir=_data_dir(data_dir))
    failed = 0
    for one in checks:
        result = one()
        typer.echo(f"{'ok    ' if result.ok else 'FAILED'}  {result.name}: {result.title}")
        for line in result.message.splitlines():
            typer.echo(f"        {line}")
        failed += not result.ok
    typer.echo(f"{name}: {len(checks)} checks, {failed or 'none'} failed")
    if failed:
        raise typer.Exit(FAILED)


@app.command()
def new(
    kind: Annotated[Literal["autoencoder", "task", "dataset"], typer.Argument(help="What it brings.")],
    name: Annotated[str, typer.Argument(help="Its name: lower-case letters, digits and '_'.")],
) -> None:
    """Write a plugin package into a new folder NAME: ready to install, and to be made yours."""
    from aebench.scaffold import write_package

    folder = write_package(kind, name, Path(), _registry())
    typer.echo(f"{folder.name}/ holds a plugin that works as it stands. Go on with:")
    for command in (f"pip install -e {folder.name}", f"aebench check {name}", f"pytest {folder.name}"):
        typer.echo(f"    {command}")


@app.command()
def ui(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on 127.0.0.1.")] = 5000,
    tracking_uri: TrackingUri = None,
) -> None:
    """Open the MLflow UI over the same store, on 127.0.0.1."""
    from aebench.tracking import store_uri

    uri = store_uri(tracking_uri)
    if uri.startswith(("http://", "https://")):
        typer.echo(f"the store has its own UI: {uri}")
        return
    typer.echo(f"MLflow UI over {uri}: http://127.0.0.1:{port} (stop with Ctrl-C)")
    sys.stdout.flush()
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri, "--host", "127.0.0.1"]
    os.execv(sys.executable, [*command, "--port", str(port)])


def _version(wanted: bool) -> None:
    if wanted:
        import aebench

        typer.echo(f"aebench {aebench.__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Entry point: known errors on one line each with exit code 2, bugs with a traceback."""
    try:
        code = app(standalone_mode=False)
    except TyperException as error:
        _complain(error.format_message())
        sys.exit(BAD_INPUT)
    except AebenchError as error:
        _complain(str(error))
        sys.exit(BAD_INPUT)
    except (KeyboardInterrupt, typer.Abort):
        _complain("interrupted; what was done is kept, and the same command goes on from there")
        sys.exit(INTERRUPTED)
    finally:
        gc.freeze()  # Python would look through all that PyTorch has made once more at exit, for half a second
    sys.exit(code if isinstance(code, int) else 0)


def _complain(message: str) -> None:
    for line in message.splitlines():
        print(f"aebench: {line}", file=sys.stderr)


def _terminate(signum: int, frame: Any) -> None:
    """SIGTERM unwinds the program like an exception, so that runs are closed and workers ended."""
    sys.exit(128 + signum)


def _registry(quiet: bool = False) -> Registry:
    from aebench.registry.loading import create_registry

    registry = create_registry()
    if not quiet:
        for failure in registry.failures:
            _complain(
                f"plugin {failure.distribution} {failure.version} is not available ({failure.stage}: "
                f"{failure.message.splitlines()[0]}); see 'aebench list failures'"
            )
    return registry


def _benchmark(
    registry: Registry,
    config: Path | None,
    dataset: str | None,
    models: str | None,
    tasks: str | None,
    seeds: int | None,
    epochs: int | None,
    precision: str | None,
) -> Benchmark:
    from aebench.planning.benchmark import load_benchmark

    given: dict[tuple[str, ...], Any] = {
        ("dataset",): _dataset_choice(dataset, registry),
        ("models",): _names(models),
        ("tasks",): _names(tasks),
        ("seeds",): seeds,
        ("training", "epochs"): epochs,
        ("training", "precision"): precision,
    }
    return load_benchmark(registry, config, {path: value for path, value in given.items() if value is not None})


def _names(text: str | None) -> list[str] | None:
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def _dataset_choice(text: str | None, registry: Registry) -> Any:
    """A registered name, or the path of a user's own images."""
    if text is None:
        return None
    if text.endswith(".npz"):
        return {"name": "npz", "params": {"path": text}}
    if os.sep in text or text.startswith(".") or (text not in registry.datasets and os.path.isdir(text)):
        return {"name": "folder", "params": {"path": text}}
    return text


def _data_dir(given: Path | None) -> Path:
    if given is not None:
        return given.expanduser()
    from platformdirs import user_cache_path

    return user_cache_path("aebench", appauthor=False)


def _console() -> Console:
    from rich.console import Console

    # Without a terminal there is no width to respect: a table must not lose columns in a log file.
    return Console() if sys.stdout.isatty() else Console(width=160)


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise AebenchError(f"{path}: cannot be written: {error.strerror}") from error
    typer.echo(f"wrote {path}")


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2))
