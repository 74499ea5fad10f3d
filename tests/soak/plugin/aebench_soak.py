"""The plugin of the soak: two quick models, and two tasks that write a line to a file at every evaluation."""

from __future__ import annotations

import os

import torch
from torch import Generator, Tensor

from aebench.contracts import (
    Autoencoder,
    AutoencoderRecord,
    Context,
    Evaluation,
    ImageDataset,
    Metric,
    TaskRecord,
    hookimpl,
)

LOG_VARIABLE = "AEBENCH_SOAK_LOG"  # the file to which every evaluation appends `<model> <cell>`


class Plain(Autoencoder):
    """The deep autoencoder."""

    row = "plain"


class Noisy(Autoencoder):
    """An autoencoder whose training draws noise, so that a wrongly resumed training has other weights."""

    row = "noisy"

    def corrupt(self, x: Tensor, generator: Generator) -> Tensor:
        return x + 0.1 * torch.randn(x.shape, generator=generator, device=x.device)


def _build(kind: type[Autoencoder]):
    return lambda spec: kind(spec, spec.encoder(spec.latent_dim), spec.decoder())


@hookimpl
def aebench_autoencoders() -> list[AutoencoderRecord]:
    return [
        AutoencoderRecord(name=kind.row, title=kind.row, summary="of the soak", build=_build(kind))
        for kind in (Plain, Noisy)
    ]


def _evaluate(name: str):
    def evaluate(model: Autoencoder, data: ImageDataset, context: Context) -> Evaluation:
        rotation = "" if context.held_out is None else f".without_{context.held_out}"
        line = f"{model.row} {name}{rotation}\n"
        file = os.open(os.environ[LOG_VARIABLE], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(file, line.encode())
        os.close(file)
        x = data.test.x()
        error = (model.reconstruct(x) - x).square().sum().item()
        return Evaluation({"error": error, "first_weight": next(model.parameters()).flatten()[0].item()})

    return evaluate


@hookimpl
def aebench_tasks() -> list[TaskRecord]:
    metrics = (
        Metric("error", "Error", higher_is_better=False, primary=True),
        Metric("first_weight", "First weight", higher_is_better=True),
    )
    return [
        TaskRecord(
            name=name, title=name, summary="of the soak", evaluate=_evaluate(name), metrics=metrics, profile=profile
        )
        for name, profile in (("count", "general"), ("again", "general"), ("rotated", "anomaly"))
    ]
