"""The adversarial autoencoder: a discriminator tells codes from the prior, and the encoder learns to deceive it."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Generator, Tensor, nn
from torch.nn import functional

from aebench.contracts import (
    Autoencoder,
    AutoencoderRecord,
    Capability,
    Loss,
    ModelSpec,
    Params,
    Stage,
    Update,
    hookimpl,
)
from aebench.networks import sample_standard_normal, standard_normal


class AAEParams(Params):
    """Weight of the generator loss against the squared error of an image; units in each of D's two hidden layers.

    In the paper the generator takes a step of its own, without a weight, and D has 1000 units for MNIST.
    """

    generator_weight: float = Field(default=0.5, ge=0)
    hidden: int = Field(default=256, gt=0)


class AAE(Autoencoder):
    """A deterministic encoder whose codes follow the prior N(0, I) (Makhzani et al. 2015).

    Two updates on every batch: encoder and decoder minimise the reconstruction loss and the generator loss -log D(z);
    then the discriminator D learns to tell codes from the prior.
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec, spec.encoder(spec.latent_dim), spec.decoder())
        self.generator_weight = spec.params.generator_weight * spec.likelihood.nats_per_squared_error
        hidden = spec.params.hidden
        self.discriminator = nn.Sequential(
            *(nn.Linear(spec.latent_dim, hidden), nn.ReLU()),
            *(nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 1)),
        )

    def stages(self, epochs: int) -> tuple[Stage, ...]:
        autoencoder = Update(self.loss, (self.encoder, self.decoder))
        discriminator = Update(self.discriminator_loss, (self.discriminator,))
        return (Stage("adversarial", epochs, (autoencoder, discriminator)),)

    def loss(self, x: Tensor, generator: Generator) -> Loss:
        z = self.encode(x).float()
        reconstruction = self.likelihood.mean_nll(self.decode(z), x)
        penalty = self.generator_weight * self._cross_entropy(z, is_prior=True)
        return Loss(reconstruction + penalty, reconstruction, penalty)

    def discriminator_loss(self, x: Tensor, generator: Generator) -> Loss:
        """-log D(prior) - log(1 - D(z)) in nats, as a penalty; log 4 if codes and prior cannot be told apart."""
        with torch.no_grad():
            z = self.encode(x).float()
        prior = standard_normal(z.shape, z.device, generator)
        penalty = self._cross_entropy(prior, is_prior=True) + self._cross_entropy(z, is_prior=False)
        return Loss(penalty, torch.zeros_like(penalty), penalty)

    def _cross_entropy(self, z: Tensor, is_prior: bool) -> Tensor:
        """The mean of -log D(z), or else of -log(1 - D(z)), over z (B, latent_dim): a scalar in nats."""
        logits = self.discriminator(z).float()
        return functional.softplus(-logits if is_prior else logits).mean()

    def sample(self, n: int, generator: Generator) -> Tensor:
        return sample_standard_normal(self, n, generator)


@hookimpl
def aebench_autoencoders() -> list[AutoencoderRecord]:
    return [
        AutoencoderRecord(
            name="aae",
            title="AAE",
            summary="the encoder deceives a discriminator that tells codes from the prior",
            source="Makhzani, Shlens, Jaitly, Goodfellow & Frey 2015",
            params=AAEParams,
            build=AAE,
            capabilities=frozenset({Capability.SAMPLE}),
        )
    ]
