"""The layout of results in MLflow: all tags, keys, file names and limits are written and read here, nowhere else.

A matrix is a parent run with one child run for each model and seed. A child holds, for each training
(`general`, `anomaly_without_3`) and each cell (`reconstruction`, `anomaly_detection.without_3`):

    params   model.*  train.*  likelihood.*  task.<task>.*
    metrics  <cell>.<metric>  time.<cell>  time.<cell>.pictures  train.<training>.<curve or total>
    tags     cell.<cell>.{status, hash, reason, from_run, notes, absent.<metric>}  <cell>.<metric> if it is not finite
             training.<training>.{hash, weights, graph_fallback, model, notes}
    files    <cell with / for .>/<picture or table>  <cell with / for .>/{error.txt, output.txt}
             weights/<training>.safetensors  weights/<training>.output.txt
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from mlflow.entities import Dataset, DatasetInput, Metric, Run
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NOTE, MLFLOW_SOURCE_NAME

from aebench.contracts import AutoencoderRecord, DatasetInfo
from aebench.contracts.names import NAME_PATTERN
from aebench.planning.benchmark import Selected
from aebench.planning.cells import CellResult, Status
from aebench.planning.planner import Plan
from aebench.planning.specs import EvaluationSpec, TrainingSpec, parse_cell_key
from aebench.training.records import TrainingResult

KIND = "aebench.kind"
PROCESS = "aebench.process"
MATRIX = "matrix"
NOTE = MLFLOW_RUN_NOTE  # shown in the UI as the description of a run
TRAINING_EXPERIMENT = {"mlflow.experimentKind": "custom_model_development"}  # the UI then opens with runs, not traces

DESCRIPTION_FILE = "matrix.json"
ERROR_FILE = "error.txt"
RANKINGS_FOLDER = "rankings"
WEIGHTS_FOLDER = "weights"

METRICS_PER_BATCH, PARAMS_PER_BATCH, TAGS_PER_BATCH = 1000, 100, 100  # MLflow's limits
LONGEST_TAG = 5000  # characters; some MLflow servers refuse more

REFERENCE_CLASSIFIER_ACCURACY = "reference_classifier.accuracy"
CURVES = ("total", "reconstruction", "penalty", "validation")
TOTALS = ("seconds", "epochs_used", "images_seen", "optimizer_steps", "parameters")

RUNNING = "attributes.status = 'RUNNING'"  # a filter, as are the results of `of_kind` and `children_of`

_CELL_STATUS = re.compile(rf"cell\.(?P<key>{NAME_PATTERN}(?:\.without_\d+)?)\.status")
_TRAINING_HASH = re.compile(rf"training\.(?P<key>{NAME_PATTERN})\.hash")  # the key becomes a file name
MODEL_LOGGED = "logged"


class Kind(StrEnum):
    """What a run stands for: a whole matrix, or one of its models with one seed."""

    MATRIX = "matrix"
    MODEL = "model"


@dataclass(frozen=True)
class StoredCell:
    """A cell's result in the store.

    Attributes:
        hash: of the `EvaluationSpec` that was evaluated.
        result: without traceback and times.
        run_id: the run that holds it.
        origin: the run that computed it and has its pictures.
    """

    hash: str
    result: CellResult
    run_id: str
    origin: str


def of_kind(kind: Kind) -> str:
    """The filter for runs of one kind."""
    return f"tags.`{KIND}` = '{kind}'"


def children_of(parent_id: str) -> str:
    """The filter for the runs of a matrix's models."""
    return f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{parent_id}'"


def run_tags(process: str) -> dict[str, str]:
    """Tags of every run; `process` identifies the process that writes it."""
    return {PROCESS: process, MLFLOW_SOURCE_NAME: "aebench"}


def matrix_tags(plan: Plan) -> dict[str, str]:
    return {KIND: Kind.MATRIX, MATRIX: plan.matrix, "dataset": plan.dataset.name}


def matrix_params(plan: Plan) -> dict[str, Any]:
    return {"dataset": plan.dataset.name, "seeds": plan.seeds, "suite_seed": plan.suite_seed}


def matrix_name(plan: Plan) -> str:
    return f"{plan.dataset.title}: {len(plan.models)} models, {len(plan.tasks)} tasks, {plan.seeds} seeds"


def model_tags(plan: Plan, label: str, seed: int, record: AutoencoderRecord, parent_id: str) -> dict[str, str]:
    source = f" ({record.source})" if record.source else ""
    return {
        KIND: Kind.MODEL,
        MLFLOW_PARENT_RUN_ID: parent_id,
        MATRIX: plan.matrix,
        "dataset": plan.dataset.name,
        "model": label,
        "seed": str(seed),
        NOTE: f"**{record.title}**: {record.summary}{source}"[:LONGEST_TAG],
    }


def model_params(model: Selected[AutoencoderRecord], cells: Iterable[EvaluationSpec]) -> dict[str, Any]:
    """Parameters of a model's run, whose cells are `cells`: of the model, its trainings and its tasks."""
    params: dict[str, Any] = {"model.version": model.plugin.version}
    for cell in cells:
        training = cell.training
        params["model.name"] = training.model
        params["model.backbone"] = training.backbone
        params |= {f"model.{name}": value for name, value in training.params.items()}
        for name in ("epochs", "batch_size", "patience", "precision", "seed"):
            params[f"train.{name}"] = getattr(training, name)
        settings = training.optimizer.model_dump()
        schedule = settings.pop("schedule")
        params |= {f"train.optimizer.{name}": value for name, value in settings.items()}
        params |= {f"train.optimizer.schedule.{name}": value for name, value in schedule.items()}
        params |= {f"likelihood.{name}": value for name, value in training.likelihood.model_dump().items()}
        params[f"train.{training.training_key}.latent_dim"] = training.latent_dim
        params[f"train.{training.training_key}.held_out"] = training.held_out
        params |= {f"task.{cell.task}.{name}": value for name, value in cell.params.items()}
    return params


def model_name(plan: Plan, label: str, seed: int) -> str:
    return f"{label}, seed {seed}" if plan.seeds > 1 else label


def dataset_input(info: DatasetInfo) -> DatasetInput:
    """The data set as MLflow shows it beside a run."""
    source = json.dumps({"dataset": info.name})
    schema = json.dumps({"input_shape": info.input_shape, "classes": info.classes})
    profile = json.dumps(dict(zip(("train", "validation", "test"), info.sizes, strict=True)))
    return DatasetInput(Dataset(info.name, info.fingerprint[:8], "aebench", source, schema, profile))


def row_of(run: Run) -> tuple[str, int]:
    """Label and seed of a model's run."""
    return run.data.tags["model"], int(run.data.tags["seed"])


def training_metrics(spec: TrainingSpec, result: TrainingResult, now: int) -> list[Metric]:
    """Curves and totals of a training, at `now` in milliseconds; what is not finite is left out."""
    prefix = f"train.{spec.training_key}"
    metrics = [Metric(f"{prefix}.{name}", float(getattr(result, name)), now, 0) for name in TOTALS]
    metrics += [
        Metric(f"{prefix}.{name}", getattr(losses, name), now, losses.epoch)
        for losses in result.epochs
        for name in CURVES
    ]
    return [metric for metric in metrics if math.isfinite(metric.value)]


def training_tags(spec: TrainingSpec, result: TrainingResult, device: str, weights: str) -> dict[str, str]:
    """Tags of a training with its weights' SHA-256; its model is not logged yet."""
    prefix = f"training.{spec.training_key}"
    tags = {"device": device, model_tag(spec): "the run ended before it could be logged"}
    if result.graph_fallback:
        tags[f"{prefix}.graph_fallback"] = result.graph_fallback[:LONGEST_TAG]
    return tags | {f"{prefix}.weights": weights, f"{prefix}.hash": spec.hash}


def model_tag(spec: TrainingSpec) -> str:
    """The tag that says that a trained model is logged, or why not."""
    return f"training.{spec.training_key}.model"


def training_hashes(run: Run) -> dict[str, str]:
    """The hashes of the trainings that a model's run holds, by training key."""
    matches = ((_TRAINING_HASH.fullmatch(tag), value) for tag, value in run.data.tags.items())
    return {match["key"]: value for match, value in matches if match is not None}


def weights_digest(run: Run, training_key: str) -> str | None:
    """The SHA-256 of the weights of a training that a model's run holds; None where an old aebench wrote none."""
    return run.data.tags.get(f"training.{training_key}.weights")


def training_seconds(run: Run) -> float:
    """What all trainings of a model's run took together, in seconds."""
    keys = (f"train.{key}.seconds" for key in training_hashes(run))
    return sum(run.data.metrics.get(key, 0.0) for key in keys)


def cell_seconds(run: Run) -> dict[str, tuple[float, float]]:
    """What the evaluation of each cell of a model's run took in seconds, and its pictures thereof, by key of the cell.

    A cell that another run has computed is left out.
    """
    metrics = run.data.metrics
    times = {key: (f"time.{key}", f"time.{key}.pictures") for key in read_cells(run)}
    return {key: (metrics[all], metrics[own]) for key, (all, own) in times.items() if all in metrics}


def weights_name(training_key: str) -> str:
    """File name of a training's weights in `WEIGHTS_FOLDER`."""
    return f"{training_key}.safetensors"


def output_name(job: str) -> str:
    """Name in `WEIGHTS_FOLDER` of the file with what a training or an export printed."""
    return f"{job}.output.txt"


def cell_folder(key: str) -> str:
    """The folder of a cell's pictures and tables."""
    return key.replace(".", "/")


def cell_metrics(result: CellResult) -> dict[str, float]:
    """The finite metrics of a cell that is ok, and its times in seconds if it ran now; nothing for any other cell."""
    if result.status is not Status.OK:
        return {}
    metrics, _ = _by_finiteness(result.key, result.metrics)
    times = {f"time.{result.key}": result.seconds, f"time.{result.key}.pictures": result.drawing_seconds}
    return metrics | (times if result.seconds else {})


def cell_tags(hash: str, result: CellResult, from_run: str = "") -> dict[str, str]:
    """Everything about a cell that is no finite number; `from_run` is the run that computed it, if it is another.

    The hash and the status come last, so that a cell that the store calls ok is complete.
    """
    prefix = f"cell.{result.key}"
    tags: dict[str, str] = {}
    if result.status is Status.OK:
        _, tags = _by_finiteness(result.key, result.metrics)
        tags |= {f"{prefix}.absent.{name}": reason for name, reason in result.absent.items()}
    elif result.reason:
        tags[f"{prefix}.reason"] = result.reason
    if from_run:
        tags[f"{prefix}.from_run"] = from_run
    tags = {tag: value[:LONGEST_TAG] for tag, value in tags.items()}
    return tags | {f"{prefix}.hash": hash, f"{prefix}.status": result.status.value}


def notes_tags(spec: TrainingSpec | EvaluationSpec, notes: Sequence[str]) -> dict[str, str]:
    """The tag with what a user should know about a training or an evaluation; nothing without notes."""
    prefix = f"training.{spec.training_key}" if isinstance(spec, TrainingSpec) else f"cell.{spec.key}"
    return {f"{prefix}.notes": "\n".join(notes)[:LONGEST_TAG]} if notes else {}


def mean_metrics(task: str, means: Mapping[str, float]) -> tuple[dict[str, float], dict[str, str]]:
    """Metrics and tags for a task's means over the held-out classes."""
    return _by_finiteness(task, means)


def read_cells(run: Run) -> dict[str, StoredCell]:
    """The cells that a model's run holds, by key of the cell."""
    matches = ((_CELL_STATUS.fullmatch(tag), value) for tag, value in run.data.tags.items())
    return {match["key"]: _read_cell(run, match, Status(status)) for match, status in matches if match is not None}


def _read_cell(run: Run, match: re.Match[str], status: Status) -> StoredCell:
    tags, prefix = run.data.tags, f"cell.{match['key']}"
    model, seed = row_of(run)
    task, held_out = parse_cell_key(match["key"])
    if status is Status.OK:  # then a reason is that of an earlier failure
        values = _below(match["key"], {**tags, **run.data.metrics})
        metrics = {name: float(value) for name, value in values.items()}
        absent = _below(f"{prefix}.absent", tags)
        result = CellResult(model, task, seed, held_out, status, metrics=metrics, absent=absent)
    else:
        reason = tags.get(f"{prefix}.reason", "")
        result = CellResult(model, task, seed, held_out, status, reason)
    run_id = run.info.run_id
    return StoredCell(tags.get(f"{prefix}.hash", ""), result, run_id, tags.get(f"{prefix}.from_run", run_id))


def _below(prefix: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values whose key is `prefix`, a dot and a name, by that name."""
    start = f"{prefix}."
    return {key.removeprefix(start): value for key, value in values.items() if key.startswith(start)}


def _by_finiteness(prefix: str, metrics: Mapping[str, float]) -> tuple[dict[str, float], dict[str, str]]:
    """Metrics for the finite values; tags for the others, which not every store takes as metrics."""
    finite = {f"{prefix}.{name}": value for name, value in metrics.items() if math.isfinite(value)}
    others = {f"{prefix}.{name}": str(value) for name, value in metrics.items() if not math.isfinite(value)}
    return finite, others
