"""Pythae: the test loss of its models on digits after its own trainer and after ours, over several seeds.

Both start from the same weights and take the same number of Adam steps on batches of the same size; the order of the
images and the noise differ. pythae trains its model as its users do: its own loss, on networks that end in a sigmoid.
Needs the extra: `pip install -e plugins/pythae`.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import tempfile
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import torch
from torch import Generator, nn

from aebench.contracts import Autoencoder, Bernoulli, ImageDataset, ModelSpec, OptimizerSpec
from aebench.datasets import load_dataset
from aebench.networks import DENSE
from aebench.planning.seeds import splits_seed
from aebench.registry.loading import create_registry
from aebench.results.statistics import paired_t_test
from aebench.training.fitting import fit
from aebench.training.records import Budget

NAMES = ("vae", "iwae", "vamp", "vae_iaf")  # with pythae's cross-entropy, which is the Bernoulli likelihood
SEEDS = 5  # at least
BATCH_SIZE = 64
LATENT_DIM = 8
LEARNING_RATE = OptimizerSpec().learning_rate


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """The test losses of both trainers, their means and standard errors, and a paired t-test."""
    from aebench_pythae.table import MODELS

    data, seeds = digits(), range(max(SEEDS, options.repeats))
    print(f"{options.epochs} epochs, batches of {BATCH_SIZE}, {len(seeds)} seeds; nats per test image, standard errors")
    rows = {}
    for row in (row for row in MODELS if row.name in NAMES):
        ours = [loss_on_test(trained_by_us(row, data, options.epochs, seed), data) for seed in seeds]
        theirs = [loss_on_test(trained_by_pythae(row, data, options.epochs, seed), data) for seed in seeds]
        p = paired_t_test(ours, theirs)
        untrained = fmean(loss_on_test(build(row, data, seed), data) for seed in seeds)
        difference = [one - other for one, other in zip(ours, theirs, strict=True)]
        print(
            f"{row.name:8} untrained {untrained:.2f}  ours {describe(ours)}  pythae's {describe(theirs)}  "
            f"difference {describe(difference)}  p = {p:.2g}"
        )
        rows[row.name] = {"ours": ours, "pythae": theirs, "untrained": untrained, "p": p}
    return rows


def digits() -> ImageDataset:
    """The data set, cut to whole batches: our trainer drops the last incomplete one, pythae's does not."""
    record = create_registry().dataset("digits").record
    data = load_dataset(record, record.params(), Path(), splits_seed(0))
    whole = len(data.train) // BATCH_SIZE * BATCH_SIZE
    return replace(data, train=data.train.at(slice(whole)))


def build(row: Any, data: ImageDataset, seed: int) -> Autoencoder:
    """An untrained model of our plugin."""
    torch.manual_seed(seed)
    record = row.record()
    return record.build(ModelSpec(data.info.input_shape, LATENT_DIM, record.params(), DENSE, Bernoulli()))


def trained_by_us(row: Any, data: ImageDataset, epochs: int, seed: int) -> Autoencoder:
    """A model of our plugin after our trainer."""
    model = build(row, data, seed)
    batches, noise = Generator().manual_seed(seed), Generator().manual_seed(seed + 1000)
    fit(model, data, Budget(epochs, BATCH_SIZE), batches=batches, noise=noise)
    return model


def trained_by_pythae(row: Any, data: ImageDataset, epochs: int, seed: int) -> Autoencoder:
    """A model of our plugin with the weights of pythae's own model after pythae's own trainer."""
    from pythae.data.datasets import BaseDataset
    from pythae.trainers import BaseTrainer, BaseTrainerConfig

    from aebench_pythae.adapter import Decoder, Encoder

    shape = data.info.input_shape
    model = build(row, data, seed)
    torch.manual_seed(seed)
    networks = DENSE.encoder(shape, 2 * LATENT_DIM), DENSE.decoder(LATENT_DIM, shape)
    settings = row.record().params().model_dump()
    config = row.config(input_dim=shape, latent_dim=LATENT_DIM, reconstruction_loss="bce", **settings)
    theirs = row.model(config, Encoder(networks[0], True), Decoder(nn.Sequential(networks[1], nn.Sigmoid())))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), theirs.parameters(), strict=True))
    x = data.train.x()
    with tempfile.TemporaryDirectory() as folder, quiet():
        trainer = BaseTrainer(
            theirs,
            BaseDataset(x, torch.zeros(len(x))),
            training_config=BaseTrainerConfig(
                output_dir=folder,
                num_epochs=epochs,
                per_device_train_batch_size=BATCH_SIZE,
                learning_rate=LEARNING_RATE,
                no_cuda=True,
                seed=seed,
            ),
        )
        trainer.train()
    model.encoder.load_state_dict(networks[0].state_dict())
    model.decoder.load_state_dict(networks[1].state_dict())
    own = {key: value for key, value in theirs.state_dict().items() if not key.startswith(("encoder.", "decoder."))}
    model.get_submodule("pythae").load_state_dict(own)
    return model


@torch.no_grad()
def loss_on_test(model: Autoencoder, data: ImageDataset) -> float:
    """The model's loss on the test images with always the same noise, in nats per image."""
    return float(model.eval().loss(data.test.x(), Generator().manual_seed(0)).total)


def describe(values: list[float]) -> str:
    """Mean and standard error."""
    return f"{fmean(values):.3f} ± {stdev(values) / len(values) ** 0.5:.3f}"


@contextlib.contextmanager
def quiet() -> Any:
    """Without pythae's logs and progress bars."""
    logging.disable(logging.INFO)
    try:
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(logging.NOTSET)
