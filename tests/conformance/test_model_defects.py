"""The kit finds defective models: each defect is absent from the correct twin."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from aebench.contracts import Autoencoder, Params
from aebench.networks import DenseDecoder
from aebench.testing import AutoencoderUnderTest
from aebench.testing.autoencoder_checks import evaluation, randomness, registration, state
from aebench.testing.tiny_matrix import runs_through_every_task
from tests.conformance.correct_models import GOOD, AnnealsByEpoch, Good, name_of, record
from tests.conformance.lax_params import LaxParams


class IgnoresItsBackbone(Good):
    def __init__(self, spec):
        super().__init__(spec)
        self.decoder = DenseDecoder(spec.latent_dim, spec.input_shape)


class BatchLeak(Good):
    def encode(self, x):
        h = super().encode(x)
        return h - h.mean(dim=0)


class SeedsInBuild(Good):
    def __init__(self, *given):
        torch.manual_seed(0)
        super().__init__(*given)


class SeedsInLoss(Good):
    def loss(self, x, generator):
        torch.manual_seed(0)
        return super().loss(x, generator)


class DrawsGlobally(Good):
    def bottleneck(self, h, stochastic=False, generator=None):
        return super().bottleneck(h + 0.1 * torch.randn_like(h) if stochastic else h)


class DropsOut(Good):
    def __init__(self, spec):
        super().__init__(spec)
        self.dropout = nn.Dropout(0.2)

    def encode(self, x):
        return super().encode(self.dropout(x))


class DrawsInOnEpoch(AnnealsByEpoch):
    def on_epoch(self, epoch, epochs):
        self.weight.copy_(torch.rand(()))


class ChangesInput(Good):
    def encode(self, x):
        return super().encode(x.mul_(0.5))


class DeclaresSamplingOnly(Good):
    sample = Autoencoder.sample


class SamplesAConstant(Good):
    def sample(self, n, generator):
        return torch.full((n, *self.input_shape), 0.5)


class WrongShape(Good):
    def decode(self, z):
        return super().decode(z).flatten(1)


class DoublePrecision(Good):
    def decode(self, z):
        return super().decode(z).double()


class Overflows(Good):
    def decode(self, z):
        return super().decode(torch.log(1 + torch.exp(z)))


class Dropout(Good):
    def encode(self, x):
        return nn.functional.dropout(super().encode(x), 0.2, training=True)


class LearnsOutsideTheState(Good):
    def __init__(self, spec):
        super().__init__(spec)
        self.shift = torch.randn(self.latent_dim)

    def decode(self, z):
        return super().decode(z + self.shift.to(z.device))


class TensorLeftBehind(Good):
    def __init__(self, spec):
        super().__init__(spec)
        self.ones = torch.ones(self.latent_dim)

    def decode(self, z):
        return super().decode(z * self.ones)


class LooksAtValues(Good):
    def loss(self, x, generator):
        loss = super().loss(x, generator)
        return replace(loss) if loss.total.item() > 0 else loss


class CrashesOnLargeBatches(Good):
    def embed(self, x, stochastic=False, generator=None):
        if len(x) > 100:
            raise RuntimeError("too many images")
        return super().embed(x, stochastic, generator)


class ParamsWithoutDefault(Params):
    width: int


MODEL_DEFECTS = [
    (evaluation.batch_independence, record(BatchLeak), "differ by"),
    (randomness.no_global_generators, record(SeedsInBuild), "torch.manual_seed(0)"),
    (randomness.no_global_generators, record(SeedsInLoss), "torch's global generator"),
    (randomness.no_global_generators, record(DropsOut), "torch's global generator"),
    (randomness.seeded_stochasticity, record(DrawsGlobally), "two calls with the same seed"),
    (state.unmodified_inputs, record(ChangesInput), "changed it in place"),
    (registration.declared_capabilities, record(DeclaresSamplingOnly), "no prior"),
    (registration.declared_capabilities, record(SamplesAConstant), "they are the same"),
    (registration.declared_capabilities, record(Good, capabilities=frozenset()), "does not declare it"),
    (evaluation.shapes_and_dtypes, record(WrongShape), "(6, 64)"),
    (evaluation.shapes_and_dtypes, record(DoublePrecision), "torch.float64"),
    (evaluation.large_codes, record(Overflows), "of the values"),
    (evaluation.deterministic_evaluation, record(Dropout), "two calls give different values"),
    (state.loading_restores_the_model, record(LearnsOutsideTheState), "gives different values"),
    (state.runs_on_other_devices, record(TensorLeftBehind), "on 'meta'"),
    (state.runs_on_other_devices, record(LooksAtValues), "on 'meta'"),
    (randomness.no_global_generators, record(DrawsInOnEpoch), "torch's global generator"),
    (registration.reconstructs_through_its_backbone, record(IgnoresItsBackbone), "does not use the decoder"),
    (registration.reconstructs_through_its_backbone, record(Good, own_networks="no reason"), "own_networks"),
    (registration.strict_parameters, record(Good, params=LaxParams), "accepted"),
    (registration.strict_parameters, record(Good, params=ParamsWithoutDefault), "width"),
    (runs_through_every_task, record(CrashesOnLargeBatches), "too many images"),
]


@pytest.mark.parametrize(("check", "defective", "actual"), MODEL_DEFECTS, ids=name_of)
def test_a_defective_model_is_found(check, defective, actual):
    result = check(AutoencoderUnderTest(defective))
    assert not result.ok
    assert actual in result.actual
    assert check(AutoencoderUnderTest(GOOD)).message == ""
