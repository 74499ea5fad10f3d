"""Logs a trained model in a form that loads without its plugin."""

from __future__ import annotations

from importlib.metadata import version as installed_version
from typing import Any

import mlflow
import numpy as np
from mlflow.models import Model, ModelSignature
from mlflow.types import Schema, TensorSpec

from aebench.contracts import Autoencoder
from aebench.errors import one_line
from aebench.planning.specs import TrainingSpec
from aebench.registry.records import Registered


def log_model(
    run_id: str, spec: TrainingSpec, model: Autoencoder, input_shape: tuple[int, int, int], plugin: Registered[Any]
) -> str:
    """Log a model as an exported program, named after its training.

    Args:
        run_id: the run it belongs to.
        spec: how it was trained.
        model: in evaluation mode, on the CPU.
        input_shape: (C, H, W) of one image.
        plugin: where it comes from, for its requirements.

    Returns:
        Why it could not be logged; empty if it was.
    """
    images = Schema([TensorSpec(np.dtype("float32"), (-1, *input_shape))])
    try:
        Model.log(
            artifact_path=None,
            flavor=mlflow.pytorch,
            name=spec.training_key,
            run_id=run_id,
            pytorch_model=model,
            signature=ModelSignature(images, images),
            serialization_format="pt2",
            # Two images: with one, the export would fix the batch size at one.
            input_example=np.zeros((2, *input_shape), np.float32),
            pip_requirements=_requirements(plugin.distribution, plugin.version),
            params={"model": spec.label, "latent_dim": spec.latent_dim},
        )
    except Exception as error:  # a model that cannot be exported must not cost its results
        return one_line(error)
    return ""


def _requirements(distribution: str, version: str) -> list[str]:
    core = [f"{name}=={installed_version(name)}" for name in ("aebench", "torch", "numpy")]
    return [f"{distribution}=={version}", *core]
