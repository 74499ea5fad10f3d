"""A sampler: a normalizing flow is fitted to the codes of a trained model, and its samples are decoded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn
from zuko.flows import NSF

from aebench.contracts import AebenchError, Autoencoder, SamplerRecord, hookimpl

WIDEST = 64  # principal directions that the flow transforms; the rest is Gaussian
TRANSFORMS = 3
GROUPS = 4  # of directions; a transform of one group depends on the groups before it
HIDDEN = (64, 64)  # units of the network in each transform
STEPS = 400  # at most
BATCH = 256
LEARNING_RATE = 5e-3  # falls to 0 along a cosine
HELD_OUT = 0.1  # of the codes, to choose the step with the highest likelihood
LARGEST_HELD_OUT = 2000
CHECK_EVERY = 50  # steps
PATIENCE = 2  # checks without a higher likelihood, after which the fit ends
FLAT = 1e-6  # of the largest value in a code; a direction with a smaller standard deviation is constant


@dataclass(frozen=True)
class Whitening:
    """An affine map from codes to their principal directions, each with mean 0 and variance 1.

    Attributes:
        mean: of the codes, (D,) float32.
        factor: F with covariance F F^T, (D, R) float32, for the R directions in which the codes vary, largest first.
        inverse: of the factor, (R, D) float32.
    """

    mean: Tensor
    factor: Tensor
    inverse: Tensor

    @classmethod
    def of(cls, codes: Tensor) -> Whitening:
        """From codes (N, D) with N > 0; R is 0 if they are all equal."""
        values = codes.double()
        mean = values.mean(dim=0)
        centred = values - mean
        variances, directions = torch.linalg.eigh(centred.T @ centred / len(values))
        deviations = variances.clamp_min(0).sqrt()
        varies = deviations > FLAT * values.abs().max()
        scale, directions = deviations[varies].flip(0), directions[:, varies].flip(1)
        return cls(mean.float(), (directions * scale).float(), (directions / scale).T.float())

    def whiten(self, codes: Tensor) -> Tensor:
        """(N, D) -> (N, R)."""
        return (codes - self.mean) @ self.inverse.T

    def restore(self, white: Tensor) -> Tensor:
        """(N, R) -> (N, D)."""
        return self.mean + white @ self.factor.T


def fit(model: Autoencoder, codes: Tensor, generator: Generator) -> Callable[[int, Generator], Tensor]:
    """A neural spline flow by maximum likelihood on whitened codes, after training (Ghosh et al. 2020, sec. 4).

    The flow transforms at most the 64 principal directions of largest variance.

    Raises:
        AebenchError: a code is not finite.
    """
    if not torch.isfinite(codes).all():
        raise AebenchError("the codes of the training images are not finite")
    whitening = Whitening.of(codes)
    white = whitening.whiten(codes)
    rank = white.shape[1]
    flow = fit_flow(white[:, :WIDEST], generator) if rank else None

    def draw(n: int, generator: Generator) -> Tensor:
        noise = torch.randn(n, rank, generator=generator, device=generator.device)
        if flow is not None:
            noise[:, :WIDEST] = flow().transform.inv(noise[:, :WIDEST])
        return model.decode_in_batches(whitening.restore(noise))

    return draw


def fit_flow(white: Tensor, generator: Generator) -> NSF:
    """Three autoregressive rational-quadratic splines, whose base is N(0, I) (Durkan et al. 2019).

    It starts as the identity, and keeps the weights with the highest likelihood of held-out codes: by that likelihood
    it is never worse than a Gaussian.

    Args:
        white: codes with means near 0 and variances near 1, (N, D) float32, N > 1.
        generator: of the initial weights and the batches.
    """
    flow = _identity_flow(white.shape[1], generator).to(white.device)
    white = white[torch.randperm(len(white), generator=generator, device=white.device)]
    held_out, train = white.split([n := _held_out(len(white)), len(white) - n])
    optimizer = torch.optim.Adam(flow.parameters(), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    best, best_nll, best_step = _weights(flow), _nll(flow, held_out), 0
    for step in range(1, STEPS + 1):
        batch = train[torch.randint(len(train), (BATCH,), generator=generator, device=train.device)]
        with torch.enable_grad():
            loss = -flow().log_prob(batch).mean()
            optimizer.zero_grad()
            loss.backward()
        optimizer.step()
        schedule.step()
        if step % CHECK_EVERY == 0:
            if (nll := _nll(flow, held_out)) < best_nll:
                best, best_nll, best_step = _weights(flow), nll, step
            elif step - best_step >= PATIENCE * CHECK_EVERY:
                break
    flow.load_state_dict(best)
    return flow.requires_grad_(False)


def _held_out(n: int) -> int:
    return max(1, min(int(HELD_OUT * n), LARGEST_HELD_OUT))


def _identity_flow(width: int, generator: Generator) -> NSF:
    """A flow whose splines are the identity until it is trained, with random hidden layers."""
    seed = int(torch.randint(2**31, (), generator=generator, device=generator.device))
    with torch.random.fork_rng(devices=[]):  # zuko draws from torch's global generator
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed CUDA's generators too
        flow = NSF(width, transforms=TRANSFORMS, passes=GROUPS, hidden_features=HIDDEN)
    for transform in flow.transform.transforms:
        last = transform if width == 1 else transform.hyper[-1]  # of one dimension zuko learns the spline itself
        for parameter in last.parameters():
            nn.init.zeros_(parameter)
    return flow


@torch.no_grad()
def _nll(flow: NSF, white: Tensor) -> float:
    """Negative log-likelihood of whitened codes in nats per code."""
    return -float(flow().log_prob(white).mean())


def _weights(flow: NSF) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in flow.state_dict().items()}


@hookimpl
def aebench_samplers() -> list[SamplerRecord]:
    return [
        SamplerRecord(
            name="flow",
            title="Normalizing flow",
            summary="a neural spline flow, fitted to the codes by maximum likelihood",
            source="Durkan et al. 2019; Xiao, Yan & Amit 2019; Ghosh et al. 2020",
            fit=fit,
        )
    ]
