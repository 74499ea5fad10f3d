"""A model of pythae as an autoencoder of aebench: the benchmark's networks and likelihood, pythae's loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from math import inf
from typing import Any

import torch
from pydantic import create_model
from pythae import models
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from torch import Generator, Tensor, nn

from aebench.contracts import (
    Autoencoder,
    AutoencoderRecord,
    Capability,
    Code,
    Loss,
    ModelSpec,
    Params,
    Stage,
    Update,
)
from aebench.networks import sample_standard_normal, standard_normal
from aebench_pythae.calls import Constants, RedirectedCalls

END_TO_END = (("loss", ("",)),)
CRITIC = "discriminator_loss"


def unchanged(model: nn.Module, z: Tensor) -> Tensor:
    """The code itself, for a model that transforms it no further."""
    return z


def posterior_deviation(log_variance: Tensor) -> Tensor:
    """The standard deviation of a Gaussian posterior, of the same shape."""
    return torch.exp(0.5 * log_variance)


class PythaeModel(Autoencoder):
    """Trains the benchmark's networks with the loss of a pythae model, whose reconstruction error is the benchmark's.

    Codes are deterministic unless asked otherwise: posterior means, flows of them, or nearest codewords.
    """

    def __init__(self, spec: ModelSpec, row: Row) -> None:
        super().__init__(spec, spec.encoder(spec.latent_dim * (2 if row.is_gaussian else 1)), spec.decoder())
        self.row = row
        self.constants: Constants = {}
        config = row.config(input_dim=spec.input_shape, latent_dim=spec.latent_dim, **spec.params.model_dump())
        self.eval()  # pythae may encode noise to find a width, which batch norm must not see
        self.pythae: Any = row.model(config, Encoder(self.encode, row.is_gaussian), Decoder(self.decode_images))
        self.train()

    def bottleneck(self, h: Tensor, stochastic: bool = False, generator: Generator | None = None) -> Code:
        """Without a penalty, because pythae's loss contains it."""
        z = h
        if self.row.is_gaussian:
            z, log_variance = h.chunk(2, dim=1)
            if stochastic:
                z = z + self.row.deviation(log_variance) * standard_normal(z.shape, z.device, generator)
        return Code(self.row.transform(self.pythae, z), h.new_zeros(()))

    def loss(self, x: Tensor, generator: Generator) -> Loss:
        """The loss of the first update."""
        return self.part(self.row.updates[0][0], x, generator)

    def part(self, name: str, x: Tensor, generator: Generator) -> Loss:
        """One of the losses that pythae returns, by its name in pythae's output.

        The reconstruction error is that of the last decoded batch, averaged over samples of the code; the penalty is
        the rest of the loss.
        """
        # A halved squared error is a negative log-likelihood; pythae halves it in variational models only.
        calls = RedirectedCalls(self.likelihood, 2.0 if self.row.is_gaussian else 1.0, generator, self.constants)
        if self.row.differentiates:
            x = x.detach().requires_grad_()
        with (
            torch.set_grad_enabled(x.requires_grad or torch.is_grad_enabled()),
            self.decoder.register_forward_hook(calls.remember),
            calls,
        ):
            output = self.pythae({"data": x}, epoch=inf)
        total = output[name]
        if name == CRITIC:
            return Loss(total, torch.zeros_like(total), total)
        reconstruction = output["recon_loss"] if calls.reconstruction is None else calls.reconstruction
        penalty = total - reconstruction
        if not self.row.is_gaussian:  # pythae weighs it against squared errors
            penalty = self.likelihood.nats_per_squared_error * penalty
        return Loss(reconstruction + penalty, reconstruction, penalty)

    def stages(self, epochs: int) -> tuple[Stage, ...]:
        updates = (
            Update(partial(self.part, loss), tuple(self.get_submodule(name) for name in trains))
            for loss, trains in self.row.updates
        )
        return (Stage("end to end", epochs, tuple(updates)),)


class WithPrior(PythaeModel):
    """A model whose codes follow N(0, I)."""

    def sample(self, n: int, generator: Generator) -> Tensor:
        return sample_standard_normal(self, n, generator)


class Vamp(WithPrior):
    """The prior is a mixture of the posteriors of learned images (Tomczak & Welling 2018, eq. 9)."""

    def sample(self, n: int, generator: Generator) -> Tensor:
        components = self.pythae.number_components
        choice = torch.randint(components, (n,), device=generator.device, generator=generator)
        images = self.pythae.pseudo_inputs(torch.eye(components, device=generator.device)[choice])
        h = self.encode(images.reshape(n, *self.input_shape))
        return self.decode_images(self.bottleneck(h, stochastic=True, generator=generator).z)


class Disentangled(WithPrior):
    """The KL divergence approaches a target that rises with the epochs (Burgess et al. 2018, eq. 8)."""

    def __init__(self, spec: ModelSpec, row: Row) -> None:
        super().__init__(spec, row)
        self.final_target: float = self.pythae.C
        del self.pythae.C
        self.pythae.register_buffer("C", torch.tensor(self.final_target))

    def on_epoch(self, epoch: int, epochs: int) -> None:
        # pythae counts epochs from 1 and reaches the target one epoch after its warm-up.
        self.pythae.C.fill_(self.final_target * min((epoch + 1) / (self.pythae.warmup_epoch + 1), 1))


class DecayedDecoder(PythaeModel):
    """The weights of the decoder decay, for which pythae has an optimiser of its own; here it is a term of the loss."""

    def part(self, name: str, x: Tensor, generator: Generator) -> Loss:
        loss = super().part(name, x, generator)
        squares = torch.stack([weight.square().sum() for weight in self.decoder.parameters()]).sum()
        decay = 0.5 * self.likelihood.nats_per_squared_error * self.pythae.model_config.reg_weight * squares
        return Loss(loss.total + decay, loss.reconstruction, loss.penalty + decay)


class Encoder(BaseEncoder):  # type: ignore[misc]
    """The model's `encode` in pythae's form: its output is the code, or a mean and a log variance."""

    def __init__(self, encode: Callable[[Tensor], Tensor], is_gaussian: bool) -> None:
        super().__init__()
        self.encode = encode
        self.is_gaussian = is_gaussian

    def forward(self, x: Tensor) -> ModelOutput:
        h = self.encode(x).float()
        if not self.is_gaussian:
            return ModelOutput(embedding=h)
        mean, log_variance = h.chunk(2, dim=1)
        return ModelOutput(embedding=mean, log_covariance=log_variance)


class Decoder(BaseDecoder):  # type: ignore[misc]
    """The model's `decode_images` in pythae's form: pythae sees images in [0, 1], as it expects."""

    def __init__(self, decode_images: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.decode_images = decode_images

    def forward(self, z: Tensor) -> ModelOutput:
        return ModelOutput(reconstruction=self.decode_images(z).float())


@dataclass(frozen=True)
class Row:
    """A model of pythae and how it is registered.

    Attributes:
        name, title, summary, source: as for a record; the name gets the prefix "pythae_".
        model: pythae's class.
        params: the fields of pythae's configuration that users can set: their types and pydantic fields.
        fixed: fields of pythae's configuration that differ from its defaults and that users cannot set.
        adapter: `PythaeModel`, or a subclass for a model with a prior or a schedule.
        transform: (pythae's model, z (B, latent_dim)) -> the decoder's input, same shape: a flow or a quantisation.
        deviation: log variance of the posterior -> its standard deviation.
        updates: the losses that pythae returns, each with the names of the submodules that it trains.
        differentiates: whether its loss contains gradients with respect to images or codes.
    """

    name: str
    title: str
    summary: str
    source: str
    model: type[nn.Module]
    params: dict[str, Any] = field(default_factory=dict)
    fixed: dict[str, Any] = field(default_factory=dict)
    adapter: type[PythaeModel] = PythaeModel
    transform: Callable[[Any, Tensor], Tensor] = unchanged
    deviation: Callable[[Tensor], Tensor] = posterior_deviation
    updates: tuple[tuple[str, tuple[str, ...]], ...] = END_TO_END
    differentiates: bool = False

    @property
    def is_gaussian(self) -> bool:
        """Whether the encoder gives the mean and the log variance of a Gaussian posterior."""
        return issubclass(self.model, models.VAE)

    def config(self, **settings: Any) -> Any:
        """pythae's configuration of this model."""
        name = self.model.__name__
        config = getattr(models, f"{name}Config", None) or getattr(models, f"{name}_Config")
        return config(**self.fixed, **settings)

    def record(self) -> AutoencoderRecord:
        """What is registered."""
        return AutoencoderRecord(
            name=f"pythae_{self.name}",
            title=f"{self.title} (pythae)",
            summary=self.summary,
            source=self.source,
            params=create_model(f"{self.model.__name__}Params", __base__=Params, **self.params),
            build=partial(self.adapter, row=self),
            capabilities=frozenset({Capability.SAMPLE} if issubclass(self.adapter, WithPrior) else ()),
        )
