"""The commands. Each one imports what is slow to import when it runs, so that --help stays fast."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from aebench.cli.options import (
    AsJson,
    Backbones,
    ConfigFile,
    DataDir,
    Dataset,
    Device,
    Epochs,
    Experiment,
    Models,
    Precision,
    Seeds,
    Tasks,
    TrackingUri,
    WorkDir,
    data_folder,
    load_benchmark,
    work_folder,
)
from aebench.cli.output import console, print_error, print_json, write_text
from aebench.cli.plugins import load_plugins
from aebench.errors import AebenchError

app = typer.Typer(
    name="aebench",
    help="Benchmark autoencoders: every model against every task, every result in MLflow.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

FAILED = 1  # exit code


@app.command()
def run(
    dataset: Dataset = None,
    models: Models = None,
    backbones: Backbones = None,
    tasks: Tasks = None,
    seeds: Seeds = None,
    epochs: Epochs = None,
    config: ConfigFile = None,
    precision: Precision = None,
    device: Device = "auto",
    jobs: Annotated[
        int | None,
        typer.Option(min=1, max=1024, help="Concurrent trainings.  [default: one per core; several on CUDA]"),
    ] = None,
    data_dir: DataDir = None,
    work_dir: WorkDir = None,
    tracking_uri: TrackingUri = None,
    experiment: Experiment = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Run every cell again, also those in the store.")] = False,
    cell_timeout: Annotated[
        int,
        typer.Option(min=1, max=10_000_000, help="Seconds that an evaluation, or one epoch of a training, may take."),
    ] = 3600,
    checkpoint_every: Annotated[
        int,
        typer.Option(min=1, metavar="SECONDS", help="Time after which a training saves its state again."),
    ] = 60,
    worker_memory: Annotated[
        float | None,
        typer.Option(min=0.1, help="GB of memory that a worker process may use.  [default: an equal share]"),
    ] = None,
) -> None:
    """Run every model against every task; results that are in the store are not computed again."""
    registry = load_plugins()
    benchmark = load_benchmark(registry, config, dataset, models, backbones, tasks, seeds, epochs, precision)

    from aebench import runner
    from aebench.planning.cells import Status
    from aebench.report.progress import RunProgress
    from aebench.report.tables import results_table
    from aebench.runner.options import RunOptions

    terminal = console()
    options = RunOptions(
        device,
        jobs,
        data_folder(data_dir),
        work_folder(work_dir),
        tracking_uri,
        experiment,
        fresh,
        cell_timeout,
        checkpoint_every,
        worker_memory,
    )
    with RunProgress(terminal) as progress:
        summary = runner.run(benchmark, registry, options, progress)
    terminal.print(results_table(summary.results))
    if not summary.trained and not summary.cells:
        terminal.print(f"nothing to train: all {summary.reused} cells are in the store; --fresh runs them again")
    done = ", ".join(f"{count} {status}" for status, count in sorted(summary.cells.items())) or "0"
    terminal.print(
        f"{summary.trained} trainings, cells run: {done}, reused: {summary.reused}; {summary.seconds:.0f} s. "
        "'aebench ui' shows the pictures.",
        highlight=False,
    )
    if summary.cells[Status.FAILED]:
        raise typer.Exit(FAILED)


@app.command()
def plan(
    dataset: Dataset = None,
    models: Models = None,
    backbones: Backbones = None,
    tasks: Tasks = None,
    seeds: Seeds = None,
    epochs: Epochs = None,
    config: ConfigFile = None,
    precision: Precision = None,
    device: Device = "auto",
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Print what `run` would train and evaluate; run nothing."""
    registry = load_plugins()
    benchmark = load_benchmark(registry, config, dataset, models, backbones, tasks, seeds, epochs, precision)

    from aebench.execution.devices import choose_device
    from aebench.runner import prepare

    _, matrix = prepare(benchmark, data_folder(data_dir), choose_device(device))
    if as_json:
        from aebench.results.description import describe

        print_json(describe(matrix))
        return
    from aebench.report.plan import plan_table

    console().print(plan_table(matrix))


@app.command("list")
def list_(
    what: Annotated[
        Literal["models", "tasks", "datasets", "backbones", "samplers", "studies", "unavailable", "failures"] | None,
        typer.Argument(help="Only this kind."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List models, tasks, data sets, backbones, samplers, studies, unavailable models and failed plugins."""
    from aebench.report.listing import as_tables, describe_registry

    registry = load_plugins(quiet=True)
    description = describe_registry(registry)
    shown = {kind: entries for kind, entries in description.items() if what in (None, kind)}
    if as_json:
        print_json(shown)
        return
    terminal = console()
    for table in as_tables(shown):
        terminal.print(table)
    if not any(shown.values()):
        terminal.print(f"no {what or 'plugins'}")


@app.command()
def results(
    experiment: Experiment = None,
    tracking_uri: TrackingUri = None,
    as_json: AsJson = False,
) -> None:
    """Show the newest matrix as a table of models and tasks."""
    from aebench.report.tables import results_table
    from aebench.tracking.store import Store, newest_experiment

    store = Store(tracking_uri, experiment or newest_experiment(tracking_uri), print_error)
    found = store.results()
    if as_json:
        print_json(found.to_json())
    else:
        console().print(results_table(found))


@app.command()
def compare(
    experiment: Experiment = None,
    tracking_uri: TrackingUri = None,
    as_json: AsJson = False,
    out: Annotated[Path | None, typer.Option(help="Write a Markdown page to this file instead.")] = None,
) -> None:
    """Compare the published figures and claims of each study with the newest matrix."""
    from aebench.report.pages import as_page, as_tables
    from aebench.results.comparison import compare as compare_with
    from aebench.tracking.store import Store, newest_experiment

    registry = load_plugins()
    if not registry.studies:
        raise AebenchError("no studies are installed; see 'aebench list failures'")
    store = Store(tracking_uri, experiment or newest_experiment(tracking_uri), print_error)
    results = store.results()
    comparisons = [compare_with(results, study.record) for study in registry.studies.values()]
    if as_json:
        print_json([comparison.to_json() for comparison in comparisons])
    elif out is not None:
        write_text(out, as_page(results, comparisons))
    else:
        for comparison in comparisons:
            console().print(as_tables(comparison))


@app.command()
def check(
    name: Annotated[str, typer.Argument(help="A registered model, task, data set, backbone or sampler.")],
    data_dir: DataDir = None,
) -> None:
    """Check that a plugin does what the contract requires."""
    from aebench.testing import checks_of

    checks = checks_of(name, load_plugins(), data_dir=data_folder(data_dir))
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
    kind: Annotated[Literal["autoencoder", "task", "dataset"], typer.Argument(help="What the plugin adds.")],
    name: Annotated[str, typer.Argument(help="Its name: lower-case letters, digits and '_'.")],
) -> None:
    """Write the package of a new plugin, ready to install, into a new folder NAME."""
    from aebench.scaffold import write_package

    folder = write_package(kind, name, Path(), load_plugins())
    typer.echo(f"{folder.name}/ contains a working plugin. Next:")
    for command in (f"pip install -e {folder.name}", f"aebench check {name}", f"pytest {folder.name}"):
        typer.echo(f"    {command}")


@app.command()
def ui(
    host: Annotated[
        str, typer.Option(help="Address to listen on; by default only this machine reaches it.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 5000,
    tracking_uri: TrackingUri = None,
) -> None:
    """Open the MLflow UI of the store."""
    from aebench.tracking.connection import store_uri
    from aebench.tracking.ui import serve_ui

    uri = store_uri(tracking_uri)
    if uri.startswith(("http://", "https://")):
        typer.echo(f"the store has its own UI: {uri}")
        return
    serve_ui(uri, host, port, say=typer.echo, warn=print_error)


def _version(requested: bool) -> None:
    if requested:
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
