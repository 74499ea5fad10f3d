"""Short trainings with fixed seeds on a small data set, and comparisons of their weights."""

from __future__ import annotations

import torch
from torch import Generator

from aebench.contracts import Bernoulli, ModelSpec, Params
from aebench.networks import DENSE
from aebench.training.fitting import fit
from aebench.training.records import Budget
from aebench.training.trainer import Trainer


def small_spec(latent_dim):
    return ModelSpec((1, 8, 8), latent_dim, Params(), DENSE, Bernoulli())


def fit_briefly(model, data, epochs=2, **more):
    noise = Generator(data.train.images.device).manual_seed(2)
    return fit(model, data, Budget(epochs, 64, **more), batches=Generator().manual_seed(1), noise=noise)


def new_trainer(model, data, epochs=6):
    generators = Generator().manual_seed(1), Generator(data.train.images.device).manual_seed(2)
    return Trainer(model, data, Budget(epochs, 64), *generators)


def weights_of(model):
    return [value.clone() for value in model.state_dict().values()]


def assert_equal(one, other):
    for a, b in zip(one, other, strict=True):
        assert torch.equal(a, b)
