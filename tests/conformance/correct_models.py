"""Models without a defect: the correct twins of the planted defects, and models that train in unusual ways."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from aebench.contracts import (
    Autoencoder,
    AutoencoderRecord,
    Capability,
    Code,
    Loss,
    OptimizerSpec,
    Stage,
    Update,
    to_unit_interval,
)


class Good(Autoencoder):
    """Correct: noise on the code, and a prior, so that every part of the contract is used."""

    def __init__(self, spec):
        super().__init__(spec, spec.encoder(spec.latent_dim), spec.decoder())
        self.register_buffer("scale", torch.full((spec.latent_dim,), 0.1))

    def bottleneck(self, h, stochastic=False, generator=None):
        noise = torch.randn(h.shape, device=h.device, generator=generator) if stochastic else 0.0
        return Code(h + self.scale * noise, 1e-3 * h.square().sum(dim=1).mean())

    def sample(self, n, generator):
        z = torch.randn(n, self.latent_dim, device=generator.device, generator=generator)
        return self.decode_images(z)


class GoodFit(Autoencoder):
    """Correct: fits itself without gradients."""

    def __init__(self, spec):
        super().__init__(spec)
        self.register_buffer("mean", torch.full(self.input_shape, 0.9))

    def stages(self, epochs):
        return (Stage("closed form", fit=self.fit),)

    def fit(self, images, generator):
        self.mean.copy_(to_unit_interval(images).mean(dim=0))

    def encode(self, x):
        return x.flatten(1)[:, : self.latent_dim]

    def decode(self, z):
        return self.likelihood.from_mean(self.mean, 1e-3).expand(len(z), *self.input_shape) + 0 * z.sum()


class CountsInBuffers(Good):
    """Correct: anneals its penalty with a counter in a buffer, which is saved, moved and recorded with the model."""

    def __init__(self, spec):
        super().__init__(spec)
        self.register_buffer("steps", torch.zeros(()))
        self.centre = nn.Parameter(torch.zeros(spec.latent_dim), requires_grad=False)

    def loss(self, x, generator):
        if self.training:
            self.steps += 1
            self.centre.mul_(0.9).add_(self.encode(x).mean(dim=0).detach(), alpha=0.1)
        loss = super().loss(x, generator)
        penalty = loss.penalty * (self.steps / 100).clamp(max=1) + self.centre.square().sum()
        return Loss(loss.reconstruction + penalty, loss.reconstruction, penalty)


class AnnealsByEpoch(Good):
    """Correct: anneals its penalty by a schedule in a buffer, which `on_epoch` changes in place."""

    def __init__(self, spec):
        super().__init__(spec)
        self.register_buffer("weight", torch.zeros(()))

    def on_epoch(self, epoch, epochs):
        self.weight.fill_((epoch + 1) / epochs)

    def loss(self, x, generator):
        loss = super().loss(x, generator)
        penalty = loss.penalty * self.weight
        return Loss(loss.reconstruction + penalty, loss.reconstruction, penalty)


class RaisesItsTarget(AnnealsByEpoch):
    """Correct: its loss rises during a short training, because its schedule is faster than its weights."""

    def loss(self, x, generator):
        loss = Good.loss(self, x, generator)
        penalty = loss.penalty + 100 * self.weight
        return Loss(loss.reconstruction + penalty, loss.reconstruction, penalty)


class Adversarial(Good):
    """Correct: every batch updates encoder and decoder, then a discriminator of codes."""

    def __init__(self, spec):
        super().__init__(spec)
        self.discriminator = nn.Linear(spec.latent_dim, 1)

    def bottleneck(self, h, stochastic=False, generator=None):
        return Code(h, functional.softplus(-self.discriminator(h)).mean())

    def discriminator_loss(self, x, generator):
        with torch.no_grad():
            h = self.encode(x)
        prior = torch.randn(h.shape, device=h.device, generator=generator)
        total = (
            functional.softplus(-self.discriminator(prior)).mean() + functional.softplus(self.discriminator(h)).mean()
        )
        return Loss(total, total.new_zeros(()), total)

    def stages(self, epochs):
        updates = (
            Update(self.loss, (self.encoder, self.decoder)),
            Update(self.discriminator_loss, (self.discriminator,), OptimizerSpec(learning_rate=1e-4)),
        )
        return (Stage("end to end", epochs, updates),)


class DecodesByGradient(Good):
    """Correct: moves the code against the gradient of an energy before it decodes, in training and in evaluation."""

    def __init__(self, spec):
        super().__init__(spec)
        self.energy = nn.Sequential(nn.Linear(spec.latent_dim, 8), nn.Tanh(), nn.Linear(8, 1, bias=False))

    def decode(self, z):
        trains = torch.is_grad_enabled()
        with torch.enable_grad():
            start = z if z.requires_grad else z.detach().requires_grad_()
            (slope,) = torch.autograd.grad(self.energy(start).sum(), start, create_graph=trains)
        return super().decode(z - slope)


class FitsAParameter(Good):
    """Correct: a fit writes a parameter that no update trains; another one is frozen for good."""

    def __init__(self, spec):
        super().__init__(spec)
        self.centre = nn.Parameter(torch.zeros(spec.latent_dim))
        self.frozen = nn.Parameter(torch.ones(()), requires_grad=False)

    def _fit(self, images, generator):
        self.centre.copy_(self.encode(to_unit_interval(images)).mean(dim=0) + 1e-3)

    def encode(self, x):
        return super().encode(x) * self.frozen

    def decode(self, z):
        return super().decode(z + self.centre.detach())

    def stages(self, epochs):
        update = Update(self.loss, (self.encoder, self.decoder))
        return Stage("centre", fit=self._fit), Stage("end to end", epochs, (update,))


def record(build, **more):
    if issubclass(build, Good):
        more = {"capabilities": frozenset({Capability.SAMPLE})} | more
    else:
        more = {"own_networks": "it has no networks"} | more
    return AutoencoderRecord(name="mine", title="Mine", summary="under test", build=build, **more)


GOOD, GOOD_FIT = record(Good), record(GoodFit)


def name_of(value):
    value = value.build if isinstance(value, AutoencoderRecord) else value
    return getattr(value, "__name__", None) or getattr(value, "name", None)
