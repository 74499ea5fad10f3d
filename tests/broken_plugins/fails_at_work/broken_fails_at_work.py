"""Registers correctly; each model fails in a different phase, and the task fails for every model."""

import time

import torch

from aebench.contracts import Autoencoder, AutoencoderRecord, Loss, Metric, Stage, TaskRecord, Update, hookimpl


class Sound(Autoencoder):
    def __init__(self, spec):
        super().__init__(spec, spec.encoder(spec.latent_dim), spec.decoder())


class FailsInBuild(Sound):
    def __init__(self, *given):
        super().__init__(*given)
        raise ValueError("cannot be built")


class FailsInTraining(Sound):
    def loss(self, x, generator):
        raise ValueError("cannot be trained")


class BecomesNan(Sound):
    def loss(self, x, generator):
        loss = super().loss(x, generator)
        return Loss(loss.total * float("nan"), loss.reconstruction, loss.penalty)


class RunsOutOfMemory(Sound):
    def loss(self, x, generator):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 80.00 GiB")


class ExitsInTraining(Sound):
    def loss(self, x, generator):
        raise SystemExit(3)


class HangsInTraining(Sound):
    def loss(self, x, generator):
        while True:
            time.sleep(1)


class TrainsTooLong(Sound):
    def stages(self, epochs):
        return (Stage("end to end", 10 * epochs, (Update(self.loss, (self,)),)),)


class FailsInEvaluation(Sound):
    def embed(self, x, stochastic=False, generator=None):
        raise ValueError("cannot be evaluated")


def fails_always(model, data, context):
    raise ValueError("cannot evaluate")


def hangs_always(model, data, context):
    while True:
        time.sleep(1)


@hookimpl
def aebench_autoencoders():
    return [
        AutoencoderRecord(name=name, title="T", summary="fails", build=build)
        for name, build in {
            "fails_in_build": FailsInBuild,
            "fails_in_training": FailsInTraining,
            "becomes_nan": BecomesNan,
            "runs_out_of_memory": RunsOutOfMemory,
            "exits_in_training": ExitsInTraining,
            "hangs_in_training": HangsInTraining,
            "trains_too_long": TrainsTooLong,
            "fails_in_evaluation": FailsInEvaluation,
        }.items()
    ]


@hookimpl
def aebench_tasks():
    metric = Metric("value", "Value", higher_is_better=False, primary=True)
    return [
        TaskRecord(name=evaluate.__name__, title="T", summary="fails", evaluate=evaluate, metrics=(metric,))
        for evaluate in (fails_always, hangs_always)
    ]
