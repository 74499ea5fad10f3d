"""The kit finds defects: each is planted once, found by its check, and absent from the correct twin."""

from __future__ import annotations

import importlib
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import BaseModel
from torch import Generator, nn
from torch.nn import functional

from aebench.contracts import (
    Autoencoder,
    AutoencoderRecord,
    Capability,
    Code,
    DatasetRecord,
    Evaluation,
    Loss,
    Metric,
    OptimizerSpec,
    Params,
    RawImages,
    SamplerRecord,
    Stage,
    TaskRecord,
    Update,
    to_unit_interval,
)
from aebench.networks import CONV, ConvEncoder, DenseDecoder
from aebench.testing import (
    AutoencoderUnderTest,
    BackboneUnderTest,
    DatasetUnderTest,
    SamplerUnderTest,
    TaskUnderTest,
    autoencoders,
    backbones,
    datasets,
    samplers,
    tasks,
)
from aebench.testing.autoencoder_checks import evaluation, randomness, registration, state, training
from aebench.testing.checks import check
from aebench.testing.small_digits import small_digits
from aebench.testing.tiny_matrix import runs_through_every_task


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


def record(build, **more):
    if issubclass(build, Good):
        more = {"capabilities": frozenset({Capability.SAMPLE})} | more
    else:
        more = {"own_networks": "it has no networks"} | more
    return AutoencoderRecord(name="mine", title="Mine", summary="under test", build=build, **more)


class DeadParameter(Good):
    def __init__(self, spec):
        super().__init__(spec)
        self.unused = nn.Parameter(torch.ones(3))


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


class LogOfBlack(Good):
    def loss(self, x, generator):
        loss = super().loss(x, generator)
        penalty = loss.penalty - x.mean().log()
        return Loss(loss.reconstruction + penalty, loss.reconstruction, penalty)


class PartsDoNotAddUp(Good):
    def loss(self, x, generator):
        loss = super().loss(x, generator)
        return replace(loss, total=2 * loss.total)


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


class CountsInPython(Good):
    """Anneals its penalty with a counter in an attribute."""

    steps = 0

    def loss(self, x, generator):
        self.steps += 1
        loss = super().loss(x, generator)
        penalty = loss.penalty * min(1, self.steps / 100)
        return Loss(loss.reconstruction + penalty, loss.reconstruction, penalty)


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


class UphillUnderASchedule(RaisesItsTarget):
    """As `GradientUphill`, with a schedule."""

    def loss(self, x, generator):
        return uphill(super().loss(x, generator))


class AnnealsInPython(Good):
    """Anneals its penalty in an attribute, which a recorded step would not see."""

    weight = 0.0

    def on_epoch(self, epoch, epochs):
        self.weight = (epoch + 1) / epochs

    def loss(self, x, generator):
        loss = super().loss(x, generator)
        penalty = loss.penalty * self.weight
        return Loss(loss.reconstruction + penalty, loss.reconstruction, penalty)


class DrawsInOnEpoch(AnnealsByEpoch):
    def on_epoch(self, epoch, epochs):
        self.weight.copy_(torch.rand(()))


class FitsNothingFirst(Good):
    def stages(self, epochs):
        return Stage("first", fit=lambda images, generator: None), *super().stages(epochs)


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


class ReplacesItsWeight(AnnealsByEpoch):
    def on_epoch(self, epoch, epochs):
        self.weight = torch.full((), (epoch + 1) / epochs)


class GrowsItsWeight(AnnealsByEpoch):
    def on_epoch(self, epoch, epochs):
        self.weight = torch.ones(epoch + 1)


class TrainsWhatItDoesNotName(Good):
    """Its update names the encoder, but its loss pulls the decoder's weights towards zero."""

    def loss(self, x, generator):
        with torch.no_grad():
            for parameter in self.decoder.parameters():
                parameter.mul_(0.99)
        return super().loss(x, generator)

    def stages(self, epochs):
        first, second = (Update(self.loss, (module,)) for module in (self.encoder, self.decoder))
        return Stage("encoder", epochs - epochs // 2, (first,)), Stage("decoder", epochs // 2, (second,))


class TrainsTenTimesLonger(Good):
    def stages(self, epochs):
        return (Stage("end to end", 10 * epochs, (Update(self.loss, (self,)),)),)


class RoundsUp(Good):
    """Three stages of a third of the budget each, rounded up: one epoch becomes three."""

    def stages(self, epochs):
        return tuple(Stage(f"part {part}", -(-epochs // 3), (Update(self.loss, (self,)),)) for part in range(3))


class GradientUphill(Good):
    """Reports the loss, but trains with the negative of its gradient."""

    def loss(self, x, generator):
        return uphill(super().loss(x, generator))


def uphill(loss):
    """A loss of the same value, with the negative of its gradient."""
    total = 2 * loss.total.detach() - loss.total
    return Loss(total, total, total.new_zeros(()))


class CrashesOnLargeBatches(Good):
    def embed(self, x, stochastic=False, generator=None):
        if len(x) > 100:
            raise RuntimeError("too many images")
        return super().embed(x, stochastic, generator)


class LaxParams(BaseModel):
    width: int = 1


class ParamsWithoutDefault(Params):
    width: int


class FitsNothing(GoodFit):
    def fit(self, images, generator):
        pass


class FitsBadly(GoodFit):
    def fit(self, images, generator):
        self.mean.copy_(1 - to_unit_interval(images).mean(dim=0))


GOOD, GOOD_FIT = record(Good), record(GoodFit)

MODEL_DEFECTS = [
    (training.gradient_reaches_every_parameter, record(DeadParameter), "unused"),
    (training.gradient_reaches_every_parameter, record(FitsNothing), "the state dict did not change"),
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
    (training.finite_loss, record(LogOfBlack), "black images"),
    (training.finite_loss, record(PartsDoNotAddUp), "is not"),
    (evaluation.deterministic_evaluation, record(Dropout), "two calls give different values"),
    (state.loading_restores_the_model, record(LearnsOutsideTheState), "gives different values"),
    (state.runs_on_other_devices, record(TensorLeftBehind), "on 'meta'"),
    (state.runs_on_other_devices, record(LooksAtValues), "on 'meta'"),
    (training.stateless_training_step, record(CountsInPython), "'end to end' gave"),
    (training.stateless_training_step, record(AnnealsInPython), "'end to end' gave"),
    (randomness.no_global_generators, record(DrawsInOnEpoch), "torch's global generator"),
    (training.gradient_reaches_every_parameter, record(FitsNothingFirst), "the state dict did not change"),
    (training.updates_train_only_what_they_name, record(TrainsWhatItDoesNotName), "of stage 'encoder' changed decoder"),
    (training.on_epoch_keeps_shapes, record(ReplacesItsWeight), "epoch 0 replaced weight"),
    (training.on_epoch_keeps_shapes, record(GrowsItsWeight), "epoch 0 replaced weight"),
    (training.stages_keep_to_the_budget, record(TrainsTenTimesLonger), "they have 10"),
    (training.stages_keep_to_the_budget, record(RoundsUp), "they have 3"),
    (training.training_lowers_the_loss, record(GradientUphill), "went from"),
    (training.training_lowers_the_loss, record(UphillUnderASchedule), "went from"),
    (training.training_lowers_the_loss, record(FitsBadly), "went from"),
    (registration.reconstructs_through_its_backbone, record(IgnoresItsBackbone), "does not use the decoder"),
    (registration.reconstructs_through_its_backbone, record(Good, own_networks="no reason"), "own_networks"),
    (registration.strict_parameters, record(Good, params=LaxParams), "accepted"),
    (registration.strict_parameters, record(Good, params=ParamsWithoutDefault), "width"),
    (runs_through_every_task, record(CrashesOnLargeBatches), "too many images"),
]


def _name(value):
    value = value.build if isinstance(value, AutoencoderRecord) else value
    return getattr(value, "__name__", None) or getattr(value, "name", None)


@pytest.mark.parametrize("check", autoencoders.CHECKS, ids=lambda check: check.name)
@pytest.mark.parametrize("build", [Adversarial, AnnealsByEpoch, DecodesByGradient, FitsAParameter], ids=_name)
def test_unusual_training_passes_every_check(build, check):
    assert check(AutoencoderUnderTest(record(build))).message == ""


def test_a_schedule_may_raise_the_loss():
    assert training.training_lowers_the_loss(AutoencoderUnderTest(record(RaisesItsTarget))).message == ""


def test_a_counter_in_a_buffer_passes():
    subject = AutoencoderUnderTest(record(CountsInBuffers))
    assert training.stateless_training_step(subject).message == ""
    assert state.loading_restores_the_model(subject).message == ""


@pytest.mark.parametrize(("check", "defective", "actual"), MODEL_DEFECTS, ids=_name)
def test_a_defective_model_is_found(check, defective, actual):
    result = check(AutoencoderUnderTest(defective))
    assert not result.ok
    assert actual in result.actual
    twin = GOOD_FIT if issubclass(defective.build, GoodFit) else GOOD
    assert check(AutoencoderUnderTest(twin)).message == ""


@pytest.mark.parametrize("twin", [GOOD, GOOD_FIT], ids=_name)
def test_the_correct_twin_passes_everything(twin):
    subject = AutoencoderUnderTest(twin)
    assert [result.message for check in autoencoders.CHECKS if not (result := check(subject)).ok] == []


METRICS = (
    Metric("error", "Mean squared error", "squared intensity", higher_is_better=False, primary=True),
    Metric("width", "Width of the code", higher_is_better=True),
)


def good(model, data, context):
    x = data.test.x()
    return Evaluation({"error": float((model.reconstruct(x) - x).square().mean()), "width": float(model.latent_dim)})


def task(evaluate, **more):
    return TaskRecord(name="mine", title="Mine", summary="under test", evaluate=evaluate, metrics=METRICS, **more)


def one_more(model, data, context):
    found = good(model, data, context)
    return Evaluation({**found.metrics, "more": 1.0})


def one_less(model, data, context):
    return Evaluation({"error": 1.0})


def not_a_number(model, data, context):
    return Evaluation({"error": float("nan"), "width": 1.0})


def not_deterministic(model, data, context):
    return Evaluation({"error": float(torch.rand(())), "width": 1.0})


def other_pictures(model, data, context):
    noise = np.random.randint(256, size=(4, 4), dtype=np.uint8)  # noqa: NPY002
    return Evaluation(good(model, data, context).metrics, images={"noise": noise})


def prints(model, data, context):
    print("found it")
    return good(model, data, context)


def writes(model, data, context):
    Path("result.txt").write_text("here")
    return good(model, data, context)


def writes_elsewhere(model, data, context):
    Path(tempfile.gettempdir(), "cache.bin").write_text("here")
    return good(model, data, context)


def leaves_figures(model, data, context):
    import matplotlib as mpl

    mpl.use("agg")
    importlib.import_module("matplotlib.pyplot").figure()
    return good(model, data, context)


def changes_the_model(model, data, context):
    next(model.parameters()).data.mul_(1.01)
    return good(model, data, context)


def seeds(model, data, context):
    np.random.seed(0)  # noqa: NPY002
    return good(model, data, context)


def nothing_skipped(model, dataset):
    return "no"


TASK_DEFECTS = [
    (tasks.declared_metrics, task(one_more), "'more', which is not declared"),
    (tasks.declared_metrics, task(one_less), "returned neither 'width' nor a reason"),
    (tasks.declared_metrics, task(not_a_number), "it is nan"),
    (tasks.deterministic_evaluation, task(not_deterministic), "error differ"),
    (tasks.deterministic_evaluation, task(other_pictures), "noise.png differ"),
    (tasks.no_side_effects, task(prints), "printed"),
    (tasks.no_side_effects, task(writes), "wrote result.txt"),
    (tasks.no_side_effects, task(writes_elsewhere), "wrote cache.bin"),
    (tasks.no_side_effects, task(leaves_figures), "1 pyplot figures"),
    (tasks.unmodified_model_and_data, task(changes_the_model), "changed"),
    (tasks.no_global_generators, task(seeds), "numpy's global generator"),
    (tasks.skipped_or_evaluated, task(good, condition=nothing_skipped), "'no'"),
    (tasks.strict_parameters, task(good, params=LaxParams), "accepted"),
]


@pytest.fixture
def _close_figures():
    yield
    importlib.import_module("matplotlib.pyplot").close("all")


@pytest.mark.usefixtures("_close_figures")
@pytest.mark.parametrize(("check", "defective", "actual"), TASK_DEFECTS, ids=lambda value: getattr(value, "name", None))
def test_a_defective_task_is_found(check, defective, actual):
    result = check(TaskUnderTest(defective))
    assert not result.ok
    assert actual in result.actual
    assert check(TaskUnderTest(task(good))).message == ""


def test_the_correct_task_passes_everything():
    subject = TaskUnderTest(task(good))
    assert [result.message for check in tasks.CHECKS if not (result := check(subject)).ok] == []


def images(seed=0, high=256):
    generator = Generator().manual_seed(seed)
    labels = torch.arange(120) % 3
    return RawImages(
        torch.randint(high, (120, 1, 6, 6), generator=generator, dtype=torch.uint8), labels, classes=("a", "b", "c")
    )


def dataset(load, **more):
    return DatasetRecord(name="mine", title="Mine", summary="under test", load=load, **more)


class ChangingImages:
    """Different images at every call."""

    def __init__(self):
        self.calls = 0

    def __call__(self, params, data_dir):
        self.calls += 1
        return images(self.calls)


def floats(params, data_dir):
    return replace(images(), images=torch.rand(120, 1, 6, 6))


def unlabelled_class(params, data_dir):
    return replace(images(), classes=("a", "b", "c", "never"))


def prints_on_loading(params, data_dir):
    print("loading")
    return images()


DATASET_DEFECTS = [
    (datasets.images_load, dataset(lambda params, data_dir: images(high=2)), "were they scaled"),
    (
        datasets.images_load,
        dataset(floats),
        "uint8",
    ),
    (datasets.images_load, dataset(unlabelled_class), "never"),
    (datasets.deterministic_loading, dataset(ChangingImages()), "they are"),
    (datasets.no_side_effects, dataset(prints_on_loading), "printed"),
    (datasets.strict_parameters, dataset(lambda params, data_dir: images(), params=LaxParams), "accepted"),
]


@pytest.mark.parametrize(
    ("check", "defective", "actual"), DATASET_DEFECTS, ids=lambda value: getattr(value, "name", None)
)
def test_a_defective_data_set_is_found(check, defective, actual, tmp_path):
    result = check(DatasetUnderTest(defective, tmp_path))
    assert not result.ok
    assert actual in result.actual
    twin = dataset(lambda params, data_dir: images())
    assert check(DatasetUnderTest(twin, tmp_path)).message == ""


class OnlyEvenSizes(nn.Module):
    """Half the image's size, doubled."""

    def __init__(self, latent_dim, output_shape):
        super().__init__()
        channels, height, width = output_shape
        self.layers = nn.Sequential(
            nn.Linear(latent_dim, channels * (height // 2) * (width // 2)),
            nn.Unflatten(1, (channels, height // 2, width // 2)),
            nn.Upsample(scale_factor=2),
        )

    def forward(self, z):
        return self.layers(z)


class LeavesAParameter(ConvEncoder):
    def __init__(self, input_shape, code_width):
        super().__init__(input_shape, code_width)
        self.unused = nn.Parameter(torch.ones(1))


class NormalisesTheBatch(ConvEncoder):
    def forward(self, x):
        return super().forward(x - x.mean(dim=0))


class DropsOutAlways(ConvEncoder):
    def forward(self, x):
        return super().forward(functional.dropout(x))


BACKBONE_DEFECTS = [
    (backbones.shapes_and_dtypes, {"decoder": OnlyEvenSizes}, "(1, 9, 13) images"),
    (backbones.gradient_reaches_every_parameter, {"encoder": LeavesAParameter}, "unused"),
    (backbones.deterministic_evaluation, {"encoder": NormalisesTheBatch}, "the batch changes its output"),
    (backbones.deterministic_evaluation, {"encoder": DropsOutAlways}, "global generator"),
]


@pytest.mark.parametrize(("check", "parts", "actual"), BACKBONE_DEFECTS, ids=lambda value: getattr(value, "name", None))
def test_a_defective_backbone_is_found(check, parts, actual):
    result = check(BackboneUnderTest(CONV.model_copy(update=parts)))
    assert not result.ok
    assert actual in result.actual
    assert check(BackboneUnderTest(CONV)).message == ""


def sampler(draw_codes, prepare=lambda codes: None):
    """A sampler that decodes draw_codes(codes, n, generator)."""

    def fit(model, codes, generator):
        prepare(codes)
        return lambda n, generator: model.decode_images(draw_codes(codes, n, generator))

    return SamplerRecord(name="mine", title="Mine", summary="under test", fit=fit)


def memorised(codes, n, generator):
    return codes[torch.randint(len(codes), (n,), generator=generator)]


def from_test_images(codes, n, generator):
    test = small_digits().test.x().flatten(1)[:, : codes.shape[1]]
    return memorised(test, n, generator)


def standard_normal_codes(codes, n, generator):
    return torch.randn(n, codes.shape[1], generator=generator)


def first_codes(codes, n, generator):
    return codes[:n]


def unseeded(codes, n, generator):
    return codes[torch.randperm(len(codes))[:n]]


def standardised(codes, n, generator):
    return codes.mean(dim=0) + (memorised(codes, n, generator) - codes.mean(dim=0)) / codes.std(dim=0) * codes.std(
        dim=0
    )


SAMPLER_DEFECTS = [
    (samplers.follows_the_codes, sampler(from_test_images), "off by"),
    (samplers.follows_the_codes, sampler(standard_normal_codes), "off by"),
    (samplers.seeded_sampling, sampler(first_codes), "they are the same"),
    (samplers.seeded_sampling, sampler(unseeded), "global generator"),
    (samplers.seeded_sampling, sampler(memorised, lambda codes: codes.mul_(0.9)), "in place"),
    (samplers.shapes_and_ranges, sampler(lambda codes, n, generator: codes[:5]), "(5, 1, 2, 2)"),
    (samplers.unusual_codes, sampler(standardised), "codes: equal"),
]


@pytest.mark.parametrize(("check", "defective", "actual"), SAMPLER_DEFECTS)
def test_a_defective_sampler_is_found(check, defective, actual):
    result = check(SamplerUnderTest(defective))
    assert not result.ok
    assert actual in result.actual
    assert check(SamplerUnderTest(sampler(memorised))).message == ""


def test_a_check_that_finds_nothing_to_check_fails():
    @check("aebench.contracts.Autoencoder")
    def empty(subject):
        """Check nothing."""
        return 0

    result = empty(None)
    assert (result.ok, result.expected, result.actual) == (False, "something to check", "found nothing")
    assert result.title == "Check nothing"


def test_every_check_names_an_object_that_has_a_docstring():
    for one in (*autoencoders.CHECKS, *tasks.CHECKS, *datasets.CHECKS, *backbones.CHECKS, *samplers.CHECKS):
        assert one.title
        module, _, rest = one.docs.partition(".contracts.")
        if not rest:
            module, _, rest = one.docs.rpartition(".")
        found = importlib.import_module(f"{module}.contracts" if ".contracts." in one.docs else module)
        for part in rest.split("."):
            found = getattr(found, part)
        assert found.__doc__
