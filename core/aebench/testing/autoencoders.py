"""What the contract asks of every model, whoever wrote it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from safetensors.torch import load
from torch import Generator, Tensor

from aebench.contracts import AebenchError, Autoencoder, AutoencoderRecord, Capability, Loss, SelfFitting, Stage
from aebench.contracts.models import binary_cross_entropy
from aebench.execution.work import CellDone, NotTrained, Report, Unit, Workplace
from aebench.planning.benchmark import load_benchmark
from aebench.planning.planner import plan
from aebench.registry.loading import create_registry
from aebench.registry.records import Registered, Registry
from aebench.testing.checks import Nonconformance, check, expect
from aebench.testing.parameters import reject_unknown_keys
from aebench.testing.surroundings import (
    scrambled_randomness,
    small_digits,
    small_reference_classifier,
    unchanged_randomness,
)
from aebench.training.building import weights_of
from aebench.training.trainer import TrainingResult, fit
from aebench.training.turns import all_at_once

Shape = tuple[int, int, int]

CASES: tuple[tuple[Shape, int], ...] = (((1, 8, 8), 2), ((1, 32, 32), 20), ((3, 10, 6), 5))
IMAGES = 48  # to take a few training steps on
LARGE = 100.0  # how far from zero a code may lie before the decoder overflows
EPOCHS = 12


@dataclass(frozen=True)
class AutoencoderUnderTest:
    """A model on trial."""

    record: AutoencoderRecord

    def build(self, shape: Shape, latent_dim: int, seed: int = 0) -> Autoencoder:
        """A new model with its default parameters, initialised from `seed`."""
        with scrambled_randomness(seed):
            return self.record.build(shape, latent_dim, self.record.params())

    def cases(self, used: bool = True) -> Iterator[tuple[str, Autoencoder]]:
        """Models for several image sizes and latent dims; `used` ones are a few training steps old."""
        for shape, latent_dim in CASES:
            model = self.build(shape, latent_dim)
            yield f"{shape} images, latent_dim {latent_dim}", _used(model) if used else model.eval()

    @cached_property
    def registry(self) -> Registry:
        """The installed tasks, with this model alone."""
        installed = create_registry()
        model = Registered(self.record, "", "", "")
        return Registry({self.record.name: model}, installed.tasks, installed.datasets)


def _images(shape: tuple[int, ...], n: int = 6, seed: int = 0) -> Tensor:
    return torch.rand(n, *shape, generator=Generator().manual_seed(seed))


def _seeded(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def _used(model: Autoencoder) -> Autoencoder:
    if isinstance(model, SelfFitting):
        model.fit((_images(model.input_shape, IMAGES) * 255).byte(), _seeded())
        return model.eval()
    for stage in model.stages(10):
        parameters = [parameter for module in stage.trains for parameter in module.parameters()]
        optimizer = torch.optim.Adam(parameters, lr=1e-3)
        model.eval()
        for module in stage.trains:
            module.train()
        for seed in range(2):
            optimizer.zero_grad()
            stage.loss(_images(model.input_shape, IMAGES // 2, seed), _seeded(seed)).total.backward()
            optimizer.step()
    return model.eval()


def _equal(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one, other)


@check("aebench.contracts.Autoencoder")
def shapes_and_dtypes(subject: AutoencoderUnderTest) -> int:
    """Codes, logits and reconstructions have the shapes, dtypes and ranges of the contract."""
    looked_at = 0
    for case, model in subject.cases(used=False):
        expect(isinstance(model, Autoencoder), "build to return an aebench.contracts.Autoencoder", f"got {type(model)}")
        for n in (6, 1):
            x = _images(model.input_shape, n)
            with torch.no_grad():
                z = model.embed(x)
                logits, reconstruction = model.decode(z), model.reconstruct(x)
                line = model.interpolate(x, x.flip(0), 5)
            for what, tensor, shape in (
                ("embed", z, (n, model.latent_dim)),
                ("decode", logits, tuple(x.shape)),
                ("reconstruct", reconstruction, tuple(x.shape)),
                ("interpolate", line, (n, 5, *model.input_shape)),
            ):
                seen = f"it returned {tuple(tensor.shape)} {tensor.dtype}"
                wanted = f"{what} to return {shape} torch.float32 for {case}"
                expect(tuple(tensor.shape) == shape and tensor.dtype == torch.float32, wanted, seen)
                looked_at += 1
            for what, images in (("reconstruct", reconstruction), ("interpolate", line)):
                low, high = float(images.min()), float(images.max())
                expect(0 <= low <= high <= 1, f"{what} to return values in [0, 1]", f"they lie in [{low}, {high}]")
    return looked_at


@check("aebench.contracts.Autoencoder.embed")
def batch_independence(subject: AutoencoderUnderTest) -> int:
    """An image's code and reconstruction do not depend on the batch it is in."""
    looked_at = 0
    for case, model in subject.cases():
        x = _images(model.input_shape)
        for what, method in (("embed", model.embed), ("reconstruct", model.reconstruct)):
            with torch.no_grad():
                together = method(x)
                alone = torch.cat([method(image) for image in x.split(1)])
            difference = float((together - alone).abs().max())
            close = torch.allclose(together, alone, rtol=1e-3, atol=1e-4)
            expect(close, f"{what} to treat every image alone", f"{case}: alone it differs by {difference:.2g}")
            looked_at += 1
    return looked_at


@check("aebench.contracts.Autoencoder.reconstruct")
def deterministic_evaluation(subject: AutoencoderUnderTest) -> int:
    """Without `stochastic=True` the same image always gives the same result."""
    looked_at = 0
    for case, model in subject.cases():
        x = _images(model.input_shape)
        for what, method in (("embed", model.embed), ("reconstruct", model.reconstruct)):
            results = []
            for seed in (1, 2):
                with scrambled_randomness(seed), torch.no_grad():
                    results.append(method(x))
            expect(_equal(*results), f"{what} to be deterministic", f"{case}: two calls differ")
            looked_at += 1
    return looked_at


@check("aebench.contracts.Autoencoder.bottleneck")
def seeded_stochasticity(subject: AutoencoderUnderTest) -> int:
    """All randomness of sampled codes, the loss and samples comes from the generator that is passed in."""
    looked_at = 0
    for case, model in subject.cases():
        x = _images(model.input_shape)
        draws: dict[str, Callable[[], Tensor]] = {
            "embed(stochastic=True)": lambda m=model, x=x: m.embed(x, stochastic=True, generator=_seeded(1)),  # type: ignore[misc]
            "loss": lambda m=model, x=x: m.loss(x, _seeded(1)).total,  # type: ignore[misc]
        }
        if Capability.SAMPLE in subject.record.capabilities:
            draws["sample"] = lambda m=model: m.sample(4, _seeded(1))  # type: ignore[misc]
        for what, draw in draws.items():
            results = []
            for seed in (1, 2):
                with scrambled_randomness(seed), torch.no_grad():
                    results.append(draw())
            expect(
                _equal(*results), f"{what} to depend on the generator alone", f"{case}: two calls with one seed differ"
            )
            looked_at += 1
    return looked_at


@check("aebench.contracts.Loss")
def finite_loss(subject: AutoencoderUnderTest) -> int:
    """The loss and its gradient are finite for noise, black and white images; its parts are scalars that add up."""
    looked_at = 0
    for case, model in subject.cases():
        images = _images(model.input_shape)
        for what, x in (("noise", images), ("black", torch.zeros_like(images)), ("white", torch.ones_like(images))):
            for stage, loss in _losses(model, x):
                where = f"{case}, {what} images, {stage}"
                for name, part in vars(loss).items():
                    wanted = f"loss.{name} to be a finite scalar"
                    expect(part.shape == (), wanted, f"{where}: its shape is {tuple(part.shape)}")
                    expect(bool(torch.isfinite(part)), wanted, f"{where}: it is {float(part.detach())}")
                total, parts = (float(part.detach()) for part in (loss.total, loss.reconstruction + loss.penalty))
                adds_up = abs(total - parts) <= 1e-4 * max(1.0, abs(total))
                expect(adds_up, "total = reconstruction + penalty", f"{where}: {total} is not {parts}")
                if loss.total.requires_grad:
                    model.zero_grad()
                    loss.total.backward()
                    bad = [
                        name
                        for name, parameter in model.named_parameters()
                        if parameter.grad is not None and not torch.isfinite(parameter.grad).all()
                    ]
                    expect(not bad, "finite gradients", f"{where}: those of {', '.join(bad)} are not")
                looked_at += 1
    return looked_at


def _losses(model: Autoencoder, x: Tensor) -> Iterator[tuple[str, Loss]]:
    if isinstance(model, SelfFitting):
        yield "loss", model.loss(x, _seeded())
    else:
        for stage in model.stages(10):
            yield stage.name, stage.loss(x, _seeded())


@check("aebench.contracts.Autoencoder.decode")
def large_codes(subject: AutoencoderUnderTest) -> int:
    """Codes far from zero decode to finite logits: points between two codes and from a prior may lie anywhere."""
    looked_at = 0
    for case, model in subject.cases():
        z = LARGE * torch.randn(16, model.latent_dim, generator=_seeded())
        with torch.no_grad():
            finite = torch.isfinite(model.decode(z)).float().mean()
        expect(
            finite == 1,
            "finite logits",
            f"{case}: {1 - float(finite):.0%} of the logits of codes near ±{LARGE:g} are not",
        )
        looked_at += 1
    return looked_at


@check("aebench.contracts.Stage")
def gradient_reaches_every_parameter(subject: AutoencoderUnderTest) -> int:
    """Every trainable parameter gets a gradient in some stage; a model with its own fit learns something instead."""
    looked_at = 0
    for case, model in subject.cases():
        if isinstance(model, SelfFitting):
            looked_at += _fit_changes_the_state(subject, model, case)
            continue
        reached: set[Tensor] = set()
        for stage in model.stages(10):
            model.zero_grad()
            for module in stage.trains:
                module.train()
            stage.loss(_images(model.input_shape, IMAGES), _seeded()).total.backward()
            own = {parameter for module in stage.trains for parameter in module.parameters()}
            reached |= {parameter for parameter in own if parameter.grad is not None and parameter.grad.any()}
        trainable = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
        missed = [name for name, parameter in trainable.items() if parameter not in reached]
        expect(not missed, "a gradient for every trainable parameter", f"{case}: none reaches {', '.join(missed)}")
        looked_at += len(trainable)
    return looked_at


def _fit_changes_the_state(subject: AutoencoderUnderTest, fitted: Autoencoder, case: str) -> int:
    untrained = subject.build(fitted.input_shape, fitted.latent_dim).state_dict()  # type: ignore[arg-type]
    changed = [name for name, value in fitted.state_dict().items() if not _equal(value, untrained[name])]
    expect(changed, "fit to leave what it learnt in the state dict", f"{case}: nothing there has changed")
    return len(changed)


@check("aebench.training.trainer.fit")
def training_lowers_the_loss(subject: AutoencoderUnderTest) -> int:
    """A short training on digits ends every stage with a lower loss than it began with.

    Where no stage has two epochs to compare, or the model brings its own fit, the reconstruction error has to fall.
    """
    data = small_digits()
    model = subject.build(data.info.input_shape, 8)
    x = data.train.x()
    with torch.no_grad():
        before = float(binary_cross_entropy(model.eval().reconstruct_logits(x), x).mean())
    result = _fit(model)
    stages: dict[str, list[float]] = {}
    for epoch in result.epochs:
        stages.setdefault(epoch.stage, []).append(epoch.total)
    if all(len(losses) < 2 for losses in stages.values()):
        with torch.no_grad():
            after = float(binary_cross_entropy(model.reconstruct_logits(x), x).mean())
        least = float(binary_cross_entropy(torch.logit(x, eps=1e-6), x).mean())
        expect(
            after < before or before < 1.001 * least,
            "training to lower the reconstruction error",
            f"it went from {before:.4g} to {after:.4g}",
        )
        return 1
    for stage, losses in stages.items():
        expect(
            len(losses) < 2 or losses[-1] < losses[0],
            "training to lower the loss",
            f"stage '{stage}' went from {losses[0]:.4g} to {losses[-1]:.4g} in {len(losses)} epochs",
        )
    return sum(len(losses) > 1 for losses in stages.values())


def _fit(model: Autoencoder, epochs: int = EPOCHS) -> TrainingResult:
    return fit(
        model,
        small_digits(),
        epochs=epochs,
        batch_size=64,
        learning_rate=1e-3,
        batches=_seeded(1),
        noise=_seeded(2),
    )


@check("aebench.contracts.Autoencoder")
def saved_models_come_back(subject: AutoencoderUnderTest) -> int:
    """A model rebuilt from its state dict gives exactly the same codes, images and samples."""
    looked_at = 0
    for case, model in subject.cases():
        twin = subject.build(model.input_shape, model.latent_dim, seed=1)  # type: ignore[arg-type]
        twin.load_state_dict(load(weights_of(model)))
        twin.eval()
        x = _images(model.input_shape)
        pairs = [("embed", model.embed(x), twin.embed(x)), ("reconstruct", model.reconstruct(x), twin.reconstruct(x))]
        if Capability.SAMPLE in subject.record.capabilities:
            pairs.append(("sample", model.sample(4, _seeded()), twin.sample(4, _seeded())))
        for what, original, loaded in pairs:
            expect(
                _equal(original, loaded),
                "the state dict to hold all that a model has learnt",
                f"{case}: after loading, {what} gives something else",
            )
            looked_at += 1
    return looked_at


@check("aebench.contracts.Autoencoder")
def inputs_are_left_alone(subject: AutoencoderUnderTest) -> int:
    """No method changes the images, codes or encoder outputs it is given."""
    looked_at = 0
    for case, model in subject.cases():
        x = _images(model.input_shape)
        with torch.no_grad():
            h = model.encode(x.clone())
            z = model.embed(x.clone())
        calls: dict[str, tuple[Tensor, Callable[[Tensor], object]]] = {
            "encode": (x, model.encode),
            "bottleneck": (h, lambda h, m=model: m.bottleneck(h, stochastic=True, generator=_seeded())),  # type: ignore[misc]
            "decode": (z, model.decode),
            "loss": (x, lambda x, m=model: m.loss(x, _seeded())),  # type: ignore[misc]
            "reconstruct": (x, model.reconstruct),
        }
        if isinstance(model, SelfFitting):
            images = (_images(model.input_shape, IMAGES) * 255).byte()
            calls["fit"] = images, lambda images, m=model: m.fit(images, _seeded())  # type: ignore[misc]
        for what, (given, call) in calls.items():
            before = given.clone()
            with torch.no_grad():
                call(given)
            expect(_equal(before, given), f"{what} to leave its input alone", f"{case}: it changed it in place")
            looked_at += 1
    return looked_at


@check("aebench.contracts.AutoencoderRecord")
def global_randomness_is_left_alone(subject: AutoencoderUnderTest) -> int:
    """Nothing draws from a global generator; only build may use PyTorch's, which it must not seed."""
    looked_at = 0
    for seed in (1, 2):
        with scrambled_randomness(seed):
            subject.record.build(CASES[0][0], CASES[0][1], subject.record.params())
            now = torch.initial_seed()
            expect(now == seed, "build to use the seed it is given", f"it called torch.manual_seed({now})")
            looked_at += 1
    one, other = (subject.build(*CASES[0], seed=1).state_dict() for _ in range(2))
    differing = [name for name in one if not _equal(one[name], other[name])]
    expect(not differing, "the same initial weights from the same seed", f"{', '.join(differing)} differ")
    for case, model in subject.cases():
        x = _images(model.input_shape)
        with unchanged_randomness(f"{case}: loss"):
            model.loss(x, _seeded())
        for stage in () if isinstance(model, SelfFitting) else model.stages(10):
            for module in stage.trains:
                module.train()
            with unchanged_randomness(f"{case}: the loss in training mode (nn.Dropout, say, ignores the generator)"):
                stage.loss(x, _seeded())
            model.eval()
        with unchanged_randomness(f"{case}: reconstruct"), torch.no_grad():
            model.reconstruct(x)
            model.reconstruct(x, stochastic=True, generator=_seeded())
        if isinstance(model, SelfFitting):
            with unchanged_randomness(f"{case}: fit"):
                model.fit((_images(model.input_shape, IMAGES) * 255).byte(), _seeded())
        if Capability.SAMPLE in subject.record.capabilities:
            with unchanged_randomness(f"{case}: sample"), torch.no_grad():
                model.sample(4, _seeded())
        looked_at += 1
    return looked_at


@check("aebench.contracts.Autoencoder")
def a_step_keeps_no_count(subject: AutoencoderUnderTest) -> int:
    """The same parameters, buffers, batch and noise give the same loss: on CUDA a step is recorded and then replayed.

    What Python counts would stand still there. A schedule belongs into a buffer that changes in place, or into stages.
    """
    looked_at = 0
    for case, model in subject.cases():
        state = [(tensor, tensor.detach().clone()) for tensor in (*model.parameters(), *model.buffers())]
        x = _images(model.input_shape, IMAGES)
        fitted = (Stage("loss", 1, model.loss, ()),)
        for stage in fitted if isinstance(model, SelfFitting) else model.stages(10):
            for module in stage.trains:
                module.train()
            totals = []
            for _ in range(5):
                with torch.no_grad():
                    for tensor, value in state:
                        tensor.copy_(value)
                totals.append(float(stage.loss(x, _seeded()).total.detach()))
            model.eval()
            seen = f"{case}: stage '{stage.name}' gave {', '.join(f'{total:.6g}' for total in totals)}"
            expect(len(set(totals)) == 1, "the same loss from the same state, batch and noise", seen)
            looked_at += 1
    return looked_at


@check("aebench.contracts.Autoencoder")
def follows_its_device(subject: AutoencoderUnderTest) -> int:
    """A moved model keeps all its tensors together, and a training step asks for no values on the way.

    PyTorch's "meta" device has shapes but no values: a tensor left on the CPU, or an `.item()`, shows there without a
    GPU. Where there is a CUDA device, the model runs on it too.
    """
    devices = ["meta", *(["cuda"] if torch.cuda.is_available() else [])]
    for device in devices:
        for case, model in subject.cases():
            model.to(device)
            x = _images(model.input_shape).to(device)
            generator = _seeded() if device == "meta" else Generator(device).manual_seed(0)
            try:
                for _, loss in _losses(model, x):
                    expect(loss.total.device == x.device, f"the loss on {x.device}", f"it is on {loss.total.device}")
                results = {"reconstruct": model.reconstruct(x)}
                if device != "meta":
                    results["embed"] = model.embed(x, stochastic=True, generator=generator)
                    if Capability.SAMPLE in subject.record.capabilities:
                        results["sample"] = model.sample(4, generator)
            except Nonconformance:
                raise
            except Exception as error:
                seen = f"{case}, on '{device}': {type(error).__name__}: {error}"
                raise Nonconformance(
                    "a model whose tensors are all parameters, buffers, or made on the input's device", seen
                ) from error
            for what, result in results.items():
                expect(
                    result.device == x.device, f"{what} to return a tensor on {x.device}", f"it is on {result.device}"
                )
    return len(devices) * len(CASES)


@check("aebench.contracts.Capability")
def capabilities_are_true(subject: AutoencoderUnderTest) -> int:
    """A declared capability is there, and one that is there is declared."""
    looked_at = 0
    declared = Capability.SAMPLE in subject.record.capabilities
    for case, model in subject.cases():
        looked_at += 1
        if not declared:
            expect(
                type(model).sample is Autoencoder.sample,
                "the capability 'sample' to be declared, or no method sample",
                f"{case}: it overrides sample, but does not declare it",
            )
            continue
        try:
            with torch.no_grad():
                one, other = (model.sample(5, _seeded(seed)) for seed in (1, 2))
        except AebenchError as error:
            raise Nonconformance("a model that declares 'sample' to sample", f"{case}: {error}") from error
        shape = (5, *model.input_shape)
        expect(tuple(one.shape) == shape, f"sample to return {shape}", f"{case}: it returned {tuple(one.shape)}")
        low, high = float(one.min()), float(one.max())
        expect(0 <= low <= high <= 1, "samples in [0, 1]", f"{case}: they lie in [{low}, {high}]")
        expect(not _equal(one, other), "different seeds to give different samples", f"{case}: they are the same")
    return looked_at


@check("aebench.contracts.Params")
def parameters_are_checked(subject: AutoencoderUnderTest) -> int:
    """The params model has defaults for all its fields and rejects unknown keys."""
    return reject_unknown_keys(subject.record.params, need_defaults=True)


@check("aebench.contracts.TaskRecord")
def runs_through_every_task(subject: AutoencoderUnderTest) -> int:
    """A tiny matrix on digits, two epochs and every installed task, ends with all cells ok or skipped."""
    data = small_digits()
    benchmark = load_benchmark(subject.registry, None, {("training", "epochs"): 2})
    cells = [cell for cell in plan(benchmark, data.info).cells if cell.skip is None]
    done: list[CellDone] = []

    def emit(message: Report) -> None:
        if isinstance(message, NotTrained):
            raise Nonconformance("the model to be trained", message.reason)
        if isinstance(message, CellDone):
            done.append(message)

    workplace = Workplace(subject.registry, data, torch.device("cpu"), small_reference_classifier())
    for training in dict.fromkeys(cell.training for cell in cells):
        all_at_once(workplace.work(Unit(training, tuple(cell for cell in cells if cell.training == training)), emit))
    failed = [f"{cell.cell.task}: {cell.reason}" for cell in done if cell.status != "ok"]
    expect(not failed, "every task to take the model", "; ".join(failed))
    return len(done)


CHECKS = (
    shapes_and_dtypes,
    batch_independence,
    deterministic_evaluation,
    seeded_stochasticity,
    finite_loss,
    large_codes,
    gradient_reaches_every_parameter,
    training_lowers_the_loss,
    saved_models_come_back,
    inputs_are_left_alone,
    global_randomness_is_left_alone,
    a_step_keeps_no_count,
    follows_its_device,
    capabilities_are_true,
    parameters_are_checked,
    runs_through_every_task,
)
