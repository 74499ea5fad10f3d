"""Logs exported models in MLflow's format, without running them."""

from __future__ import annotations

import platform
import shutil
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import mlflow
import numpy as np
import torch
import yaml
from mlflow import MlflowClient
from mlflow.entities import LoggedModel, LoggedModelOutput, LoggedModelStatus
from mlflow.models import Model, ModelSignature
from mlflow.types import Schema, TensorSpec

from aebench.tracking.updates import ExportedModel

# MLflow's layout of a model that was exported by PyTorch
DATA_FOLDER, PROGRAM_FILE = "data", "model.pt2"
PROGRAM = "program"  # parameter of a logged model: the SHA-256 of its program
REQUIREMENTS_FILE, ENVIRONMENT_FILE, DESCRIPTION_FILE = "requirements.txt", "python_env.yaml", "MLmodel"


def log_exported_model(client: MlflowClient, run_id: str, exported: ExportedModel, program: Path) -> None:
    """Log a model as an output of a run; `mlflow.pytorch.load_model` and MLflow's servers load it.

    Logging it twice leaves one model. A former one of this name, or one that was logged in part, is replaced; MLflow
    goes on listing it among the run's outputs.

    Args:
        client: of the tracking store.
        run_id: the run that trained it.
        exported: its description.
        program: the file of the program.

    Raises:
        Exception: whatever the store raises.
    """
    run = client.get_run(run_id)
    params = {**exported.params, PROGRAM: exported.program.digest}
    same = f"name = '{exported.name}' AND source_run_id = '{run_id}'"
    logged = None
    for former in client.search_logged_models([run.info.experiment_id], filter_string=same):
        if former.status is LoggedModelStatus.READY and former.params == params:
            logged = former
        else:
            client.delete_logged_model(former.model_id)
    if logged is None:
        logged = client.create_logged_model(run.info.experiment_id, exported.name, run_id, params=params)
        with TemporaryDirectory() as folder:
            _write(Path(folder), logged, run_id, exported, program)
            client.log_model_artifacts(logged.model_id, folder)
        client.finalize_logged_model(logged.model_id, LoggedModelStatus.READY)
    outputs = [] if run.outputs is None else run.outputs.model_outputs
    if logged.model_id not in {output.model_id for output in outputs}:
        client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])


def _write(folder: Path, logged: LoggedModel, run_id: str, exported: ExportedModel, program: Path) -> None:
    """Write what MLflow's flavor for PyTorch writes, from a program that is there already."""
    (folder / DATA_FOLDER).mkdir()
    shutil.copyfile(program, folder / DATA_FOLDER / PROGRAM_FILE)
    requirements = [f"{name}=={version(name)}" for name in ("mlflow", "torch", "numpy")]
    (folder / REQUIREMENTS_FILE).write_text("\n".join(requirements))
    environment = {"python": platform.python_version(), "dependencies": [f"-r {REQUIREMENTS_FILE}"]}
    (folder / ENVIRONMENT_FILE).write_text(yaml.safe_dump(environment))

    images = Schema([TensorSpec(np.dtype("float32"), (-1, *exported.input_shape))])
    model = Model(
        artifact_path=logged.artifact_location,
        run_id=run_id,
        signature=ModelSignature(images, images),
        model_uuid=logged.model_id,
        model_id=logged.model_id,
    )
    model.add_flavor("pytorch", model_data=DATA_FOLDER, pytorch_version=str(torch.__version__))
    model.add_flavor(
        "python_function",
        loader_module=mlflow.pytorch.__name__,
        data=DATA_FOLDER,
        python_version=platform.python_version(),
        env={"virtualenv": ENVIRONMENT_FILE},
    )
    model.save(str(folder / DESCRIPTION_FILE))
