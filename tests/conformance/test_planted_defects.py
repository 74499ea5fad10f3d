"""The kit finds what it is for: each defect is planted once, found by its check, and absent from the correct twin."""

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
    Params,
    RawImages,
    Stage,
    TaskRecord,
    binary_cross_entropy,
    to_unit_interval,
)
from aebench.networks import DenseDecoder, DenseEncoder
from aebench.testing import AutoencoderUnderTest, DatasetUnderTest, TaskUnderTest, autoencoders, datasets, tasks
from aebench.testing.checks import check


class Good(Autoencoder):
    """Noise on the code, and a prior: every part of the contract is in use."""

    def __init__(self, input_shape, latent_dim, params):
        super().__init__(
            input_shape, latent_dim, DenseEncoder(input_shape, latent_dim), DenseDecoder(latent_dim, input_shape)
        )
        self.register_buffer("scale", torch.full((latent_dim,), 0.1))

    def bottleneck(self, h, stochastic=False, generator=None):
        noise = torch.randn(h.shape, device=h.device, generator=generator) if stochastic else 0.0
        return Code(h + self.scale * noise, 1e-3 * h.square().sum(dim=1).mean())

    def sample(self, n, generator):
        z = torch.randn(n, self.latent_dim, device=generator.device, generator=generator)
        return torch.sigmoid(self.decode(z))


class GoodFit(Autoencoder):
    """Learns without gradients."""

    def __init__(self, input_shape, latent_dim, params):
        super().__init__(input_shape, latent_dim)
        self.register_buffer("mean", torch.full(self.input_shape, 0.9))

    def fit(self, images, generator):
        self.mean.copy_(to_unit_interval(images).mean(dim=0))

    def encode(self, x):
        return x.flatten(1)[:, : self.latent_dim]

    def decode(self, z):
        return torch.logit(self.mean, eps=1e-3).expand(len(z), *self.input_shape) + 0 * z.sum()


def record(build, **more):
    more = {"capabilities": frozenset({Capability.SAMPLE} if issubclass(build, Good) else ())} | more
    return AutoencoderRecord(name="mine", title="Mine", summary="on trial", build=build, **more)


class DeadParameter(Good):
    def __init__(self, *given):
        super().__init__(*given)
        self.unused = nn.Parameter(torch.ones(3))


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
    def __init__(self, *given):
        super().__init__(*given)
        self.dropout = nn.Dropout(0.2)

    def encode(self, x):
        return super().encode(self.dropout(x))


class TakesTurns(Good):
    """Adversarial training: encoder and decoder, then a discriminator of codes, an epoch each."""

    def __init__(self, input_shape, latent_dim, params):
        super().__init__(input_shape, latent_dim, params)
        self.discriminator = nn.Linear(latent_dim, 1)

    def bottleneck(self, h, stochastic=False, generator=None):
        return Code(h, functional.softplus(-self.discriminator(h)).mean())

    def tell_apart(self, x, generator):
        with torch.no_grad():
            h = self.encode(x)
        prior = torch.randn(h.shape, device=h.device, generator=generator)
        total = (
            functional.softplus(-self.discriminator(prior)).mean() + functional.softplus(self.discriminator(h)).mean()
        )
        return Loss(total, total.new_zeros(()), total)

    def stages(self, epochs):
        return tuple(
            stage
            for turn in range(epochs // 2)
            for stage in (
                Stage(f"autoencoder {turn}", 1, self.loss, (self.encoder, self.decoder)),
                Stage(f"discriminator {turn}", 1, self.tell_apart, (self.discriminator,)),
            )
        )


class ChangesInput(Good):
    def encode(self, x):
        return super().encode(x.mul_(0.5))


class SamplesNot(Good):
    sample = Autoencoder.sample


class SamplesOnlyOnce(Good):
    def sample(self, n, generator):
        return torch.full((n, *self.input_shape), 0.5)


class WrongLogits(Good):
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
    def __init__(self, *given):
        super().__init__(*given)
        self.shift = torch.randn(self.latent_dim)

    def decode(self, z):
        return super().decode(z + self.shift.to(z.device))


class TensorLeftBehind(Good):
    def __init__(self, *given):
        super().__init__(*given)
        self.ones = torch.ones(self.latent_dim)

    def decode(self, z):
        return super().decode(z * self.ones)


class LooksAtValues(Good):
    def loss(self, x, generator):
        loss = super().loss(x, generator)
        return replace(loss) if loss.total.item() > 0 else loss


class CountsInPython(Good):
    """Anneals its penalty by an attribute."""

    steps = 0

    def loss(self, x, generator):
        self.steps += 1
        loss = super().loss(x, generator)
        penalty = loss.penalty * min(1, self.steps / 100)
        return Loss(loss.reconstruction + penalty, loss.reconstruction, penalty)


class CountsInTensors(Good):
    """The same, where it is saved, moved and recorded with the model."""

    def __init__(self, input_shape, latent_dim, params):
        super().__init__(input_shape, latent_dim, params)
        self.register_buffer("steps", torch.zeros(()))
        self.centre = nn.Parameter(torch.zeros(latent_dim), requires_grad=False)

    def loss(self, x, generator):
        if self.training:
            self.steps += 1
            self.centre.mul_(0.9).add_(self.encode(x).mean(dim=0).detach(), alpha=0.1)
        loss = super().loss(x, generator)
        penalty = loss.penalty * (self.steps / 100).clamp(max=1) + self.centre.square().sum()
        return Loss(loss.reconstruction + penalty, loss.reconstruction, penalty)


class Unlearns(Good):
    def loss(self, x, generator):
        reconstruction = binary_cross_entropy(self.reconstruct_logits(x, True, generator), 1 - x).mean()
        worse = reconstruction - 2 * reconstruction.detach()
        return Loss(-worse, -worse, worse.new_zeros(()))

    def stages(self, epochs):
        return (Stage("backwards", epochs, lambda x, g: replace(self.loss(x, g)), (self,)),)


class GradientUphill(Good):
    """Reports the loss but follows the opposite of its gradient."""

    def loss(self, x, generator):
        loss = super().loss(x, generator)
        total = 2 * loss.total.detach() - loss.total
        return Loss(total, total, total.new_zeros(()))


class CrashesOnFour(Good):
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
    (autoencoders.gradient_reaches_every_parameter, record(DeadParameter), "unused"),
    (autoencoders.gradient_reaches_every_parameter, record(FitsNothing), "nothing there has changed"),
    (autoencoders.batch_independence, record(BatchLeak), "alone it differs"),
    (autoencoders.global_randomness_is_left_alone, record(SeedsInBuild), "torch.manual_seed(0)"),
    (autoencoders.global_randomness_is_left_alone, record(SeedsInLoss), "torch's global generator"),
    (autoencoders.global_randomness_is_left_alone, record(DropsOut), "torch's global generator"),
    (autoencoders.seeded_stochasticity, record(DrawsGlobally), "two calls with one seed differ"),
    (autoencoders.inputs_are_left_alone, record(ChangesInput), "changed it in place"),
    (autoencoders.capabilities_are_true, record(SamplesNot), "no prior"),
    (autoencoders.capabilities_are_true, record(SamplesOnlyOnce), "they are the same"),
    (autoencoders.capabilities_are_true, record(Good, capabilities=frozenset()), "does not declare it"),
    (autoencoders.shapes_and_dtypes, record(WrongLogits), "(6, 64)"),
    (autoencoders.shapes_and_dtypes, record(DoublePrecision), "torch.float64"),
    (autoencoders.large_codes, record(Overflows), "of the logits"),
    (autoencoders.finite_loss, record(LogOfBlack), "black images"),
    (autoencoders.finite_loss, record(PartsDoNotAddUp), "is not"),
    (autoencoders.deterministic_evaluation, record(Dropout), "two calls differ"),
    (autoencoders.saved_models_come_back, record(LearnsOutsideTheState), "gives something else"),
    (autoencoders.follows_its_device, record(TensorLeftBehind), "on 'meta'"),
    (autoencoders.follows_its_device, record(LooksAtValues), "on 'meta'"),
    (autoencoders.a_step_keeps_no_count, record(CountsInPython), "'end to end' gave"),
    (autoencoders.training_lowers_the_loss, record(GradientUphill), "went from"),
    (autoencoders.training_lowers_the_loss, record(FitsBadly), "went from"),
    (autoencoders.parameters_are_checked, record(Good, params=LaxParams), "accepted"),
    (autoencoders.parameters_are_checked, record(Good, params=ParamsWithoutDefault), "width"),
    (autoencoders.runs_through_every_task, record(CrashesOnFour), "too many images"),
]


def _name(value):
    return value.build.__name__ if isinstance(value, AutoencoderRecord) else getattr(value, "name", None)


@pytest.mark.parametrize("check", autoencoders.CHECKS, ids=lambda check: check.name)
def test_training_in_turns_is_no_defect(check):
    assert check(AutoencoderUnderTest(record(TakesTurns))).message == ""


def test_a_count_in_tensors_of_the_model_is_no_defect():
    subject = AutoencoderUnderTest(record(CountsInTensors))
    assert autoencoders.a_step_keeps_no_count(subject).message == ""
    assert autoencoders.saved_models_come_back(subject).message == ""


@pytest.mark.parametrize(("check", "defective", "seen"), MODEL_DEFECTS, ids=_name)
def test_a_defective_model_is_found(check, defective, seen):
    result = check(AutoencoderUnderTest(defective))
    assert not result.ok
    assert seen in result.seen
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
    return TaskRecord(name="mine", title="Mine", summary="on trial", evaluate=evaluate, metrics=METRICS, **more)


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
    (tasks.metrics_are_those_declared, task(one_more), "'more', which is not declared"),
    (tasks.metrics_are_those_declared, task(one_less), "neither returned 'width' nor said why not"),
    (tasks.metrics_are_those_declared, task(not_a_number), "it is nan"),
    (tasks.evaluation_is_deterministic, task(not_deterministic), "error differ"),
    (tasks.evaluation_is_deterministic, task(other_pictures), "noise.png differ"),
    (tasks.nothing_is_left_behind, task(prints), "printed"),
    (tasks.nothing_is_left_behind, task(writes), "wrote result.txt"),
    (tasks.nothing_is_left_behind, task(writes_elsewhere), "wrote cache.bin"),
    (tasks.nothing_is_left_behind, task(leaves_figures), "1 pyplot figures"),
    (tasks.model_and_data_are_left_alone, task(changes_the_model), "changed"),
    (tasks.global_randomness_is_left_alone, task(seeds), "numpy's global generator"),
    (tasks.what_cannot_be_asked_is_skipped, task(good, condition=nothing_skipped), "'no'"),
    (tasks.parameters_are_checked, task(good, params=LaxParams), "accepted"),
]


@pytest.fixture
def _clean():
    """The kit's models are shared between checks, and a defect may change them or leave figures open."""
    tasks._model.cache_clear()
    yield
    tasks._model.cache_clear()
    importlib.import_module("matplotlib.pyplot").close("all")


@pytest.mark.usefixtures("_clean")
@pytest.mark.parametrize(("check", "defective", "seen"), TASK_DEFECTS, ids=lambda value: getattr(value, "name", None))
def test_a_defective_task_is_found(check, defective, seen):
    result = check(TaskUnderTest(defective))
    assert not result.ok
    assert seen in result.seen
    tasks._model.cache_clear()
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
    return DatasetRecord(name="mine", title="Mine", summary="on trial", load=load, **more)


class Another:
    """Other images at every call."""

    def __init__(self):
        self.calls = 0

    def __call__(self, params, data_dir):
        self.calls += 1
        return images(self.calls)


def unlabelled_class(params, data_dir):
    return replace(images(), classes=("a", "b", "c", "never"))


def prints_on_loading(params, data_dir):
    print("loading")
    return images()


DATASET_DEFECTS = [
    (datasets.it_loads, dataset(lambda params, data_dir: images(high=2)), "were they scaled"),
    (datasets.it_loads, dataset(lambda params, data_dir: replace(images(), images=torch.rand(120, 1, 6, 6))), "uint8"),
    (datasets.it_loads, dataset(unlabelled_class), "never"),
    (datasets.it_is_always_the_same, dataset(Another()), "they are"),
    (datasets.nothing_is_left_behind, dataset(prints_on_loading), "printed"),
    (datasets.parameters_are_checked, dataset(lambda params, data_dir: images(), params=LaxParams), "accepted"),
]


@pytest.mark.parametrize(
    ("check", "defective", "seen"), DATASET_DEFECTS, ids=lambda value: getattr(value, "name", None)
)
def test_a_defective_data_set_is_found(check, defective, seen, tmp_path):
    result = check(DatasetUnderTest(defective, tmp_path))
    assert not result.ok
    assert seen in result.seen
    twin = dataset(lambda params, data_dir: images())
    assert check(DatasetUnderTest(twin, tmp_path)).message == ""


def test_a_check_that_finds_nothing_to_check_fails():
    @check("aebench.contracts.Autoencoder")
    def empty(subject):
        """Look at nothing."""
        return 0

    result = empty(None)
    assert (result.ok, result.expected, result.seen) == (False, "something to check", "found nothing")
    assert result.title == "Look at nothing"


def test_every_pointer_into_the_documentation_leads_somewhere():
    for one in (*autoencoders.CHECKS, *tasks.CHECKS, *datasets.CHECKS):
        assert one.title
        module, _, rest = one.read_on.partition(".contracts.")
        if not rest:
            module, _, rest = one.read_on.rpartition(".")
        found = importlib.import_module(f"{module}.contracts" if ".contracts." in one.read_on else module)
        for part in rest.split("."):
            found = getattr(found, part)
        assert found.__doc__
