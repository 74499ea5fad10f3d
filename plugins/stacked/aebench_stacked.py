"""The stacked autoencoder: the vanilla network, trained greedily, one pair of layers at a time."""

from __future__ import annotations

from functools import partial
from typing import Literal

from torch import Generator, Tensor

from aebench.contracts import (
    Autoencoder,
    AutoencoderRecord,
    Loss,
    ModelSpec,
    Params,
    Stage,
    Update,
    hookimpl,
)
from aebench.networks import DenseDecoder, DenseEncoder


class StackedParams(Params):
    """What an inner pair of layers reconstructs.

    Attributes:
        objective: "codes" for the data as encoded by the outer layers, with squared errors summed over units (the
            article's text); "pixels" for the images, through the frozen outer decoder layers (the article's code).
    """

    objective: Literal["codes", "pixels"] = "codes"


class Stacked(Autoencoder):
    """Trains pairs of layers as shallow autoencoders, from the outermost inwards; trained pairs are frozen.

    It needs the blocks of the dense networks, and so builds them itself.
    """

    encoder: DenseEncoder
    decoder: DenseDecoder

    def __init__(self, spec: ModelSpec) -> None:
        encoder = DenseEncoder(spec.input_shape, spec.latent_dim)
        decoder = DenseDecoder(spec.latent_dim, spec.input_shape)
        super().__init__(spec, encoder, decoder)
        self.objective = spec.params.objective
        self.depth = len(encoder.blocks)

    def stages(self, epochs: int) -> tuple[Stage, ...]:
        """One stage per pair, from the outside in; epochs are divided evenly, the first stages get the remainder."""
        each, remainder = divmod(epochs, self.depth)
        return tuple(
            Stage(
                name=f"pair {pair + 1} of {self.depth}",
                epochs=each + (pair < remainder),
                updates=(self._update(pair),),
            )
            for pair in range(self.depth)
        )

    def _update(self, pair: int) -> Update:
        layers = self.encoder.blocks[pair], self.decoder.blocks[self.depth - 1 - pair]
        return Update(partial(self._pair_loss, pair), layers)

    def _pair_loss(self, pair: int, x: Tensor, generator: Generator) -> Loss:
        """Loss of one pair of layers, counted from the outside; the outer pairs are frozen."""
        inner = self.depth - 1 - pair
        encoded = self.encoder.blocks[:pair](x.flatten(1))
        decoded = self.decoder.blocks[inner](self.encoder.blocks[pair](encoded))
        if pair == 0 or self.objective == "pixels":
            decoded = self.decoder.blocks[inner + 1 :](decoded).unflatten(1, self.input_shape)
            reconstruction = self.likelihood.mean_nll(decoded, x)
        else:
            reconstruction = (decoded.float() - encoded.float()).square().sum(dim=1).mean()
        return Loss(reconstruction, reconstruction, reconstruction.new_zeros(()))


@hookimpl
def aebench_autoencoders() -> list[AutoencoderRecord]:
    return [
        AutoencoderRecord(
            name="stacked",
            title="Stacked",
            summary="the vanilla network, trained greedily from the outside in",
            source="Bengio, Lamblin, Popovici & Larochelle 2007",
            params=StackedParams,
            own_networks="it trains dense layers greedily, one pair at a time",
            build=Stacked,
        )
    ]
