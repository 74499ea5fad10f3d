"""Checks of training: finite losses, gradients, the budget, steps without a count, and a loss that falls."""

from __future__ import annotations

import torch

from aebench.contracts import Autoencoder
from aebench.testing.autoencoder_checks.model_under_test import (
    EPOCHS,
    TRAINING_IMAGES,
    AutoencoderUnderTest,
    equal,
    fits,
    random_bytes,
    random_images,
    seeded_generator,
    take_step,
    updates,
)
from aebench.testing.checks import check, expect
from aebench.testing.small_digits import small_digits
from aebench.training.fitting import fit
from aebench.training.records import Budget

BUDGETS = (1, 2, 3, 10, 60)
DIGITS_EPOCHS = 12


@check("aebench.contracts.Loss")
def finite_loss(subject: AutoencoderUnderTest) -> int:
    """The loss and its gradient are finite for noise, black and white images; its parts are scalars that add up."""
    checked = 0
    for case, model in subject.cases():
        noise = random_images(model.input_shape)
        for kind, x in (("noise", noise), ("black", torch.zeros_like(noise)), ("white", torch.ones_like(noise))):
            for stage, update in updates(model):
                loss = update.loss(x, seeded_generator())
                where = f"{case}, {kind} images, {stage}"
                for name, part in vars(loss).items():
                    expected = f"loss.{name} to be a finite scalar"
                    expect(part.shape == (), expected, f"{where}: its shape is {tuple(part.shape)}")
                    expect(bool(torch.isfinite(part)), expected, f"{where}: it is {float(part.detach())}")
                total, parts = (float(part.detach()) for part in (loss.total, loss.reconstruction + loss.penalty))
                adds_up = abs(total - parts) <= 1e-4 * max(1.0, abs(total))
                expect(adds_up, "total = reconstruction + penalty", f"{where}: {total} is not {parts}")
                if loss.total.requires_grad:
                    model.zero_grad()
                    loss.total.backward()
                    infinite = [
                        name
                        for name, parameter in model.named_parameters()
                        if parameter.grad is not None and not torch.isfinite(parameter.grad).all()
                    ]
                    expect(not infinite, "finite gradients", f"{where}: those of {', '.join(infinite)} are not finite")
                checked += 1
    return checked


@check("aebench.contracts.Stage")
def gradient_reaches_every_parameter(subject: AutoencoderUnderTest) -> int:
    """Every trainable parameter gets a gradient in some update, and a fit in closed form changes the state."""
    checked = 0
    for (case, model), (_, spec) in zip(subject.cases(), subject.specs(), strict=True):
        reached = _changed_by_fits(subject.build(spec).eval(), model, case)
        for stage in model.stages(EPOCHS):
            for module in stage.trains:
                module.train()
        for _, update in updates(model):
            own = update.parameters
            if not own:
                continue
            model.zero_grad()
            x = random_images(model.input_shape, TRAINING_IMAGES)
            update.loss(x, seeded_generator()).total.backward(inputs=own)
            reached |= {parameter for parameter in own if parameter.grad is not None and parameter.grad.any()}
        trainable = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
        missed = [name for name, parameter in trainable.items() if parameter not in reached]
        expect(not missed, "a gradient for every trainable parameter", f"{case}: none reaches {', '.join(missed)}")
        checked += len(trainable) + len(fits(model))
    return checked


def _changed_by_fits(untrained: Autoencoder, model: Autoencoder, case: str) -> set[torch.Tensor]:
    """The tensors of the model that its fits change; each must change some of an untrained model."""
    changed: set[torch.Tensor] = set()
    of_model = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    for call in fits(untrained):
        before = {name: value.clone() for name, value in untrained.state_dict().items()}
        call(random_bytes(model.input_shape), seeded_generator())
        different = {name for name, value in untrained.state_dict().items() if not equal(value, before[name])}
        expected = "fit to store what it learns in the state dict"
        expect(bool(different), expected, f"{case}: the state dict did not change")
        changed |= {of_model[name] for name in different}
    return changed


@check("aebench.contracts.Update")
def updates_train_only_what_they_name(subject: AutoencoderUnderTest) -> int:
    """An update changes the parameters of the modules it names, and no other parameter or frozen buffer."""
    checked = 0
    for case, model in subject.cases():
        for stage in model.stages(EPOCHS):
            for module in stage.trains:
                module.train()
            live = {id(buffer) for module in stage.trains for buffer in module.buffers()}
            for number, update in enumerate(stage.updates, start=1):
                own = live | {id(parameter) for module in update.trains for parameter in module.parameters()}
                state = (*model.named_parameters(), *model.named_buffers())
                others = [(name, value, value.detach().clone()) for name, value in state if id(value) not in own]
                take_step(update, random_images(model.input_shape, TRAINING_IMAGES), seeded_generator())
                changed = [name for name, value, before in others if not equal(value.detach(), before)]
                where = f"{case}: update {number} of stage '{stage.name}'"
                expect(not changed, "only the named modules to change", f"{where} changed {', '.join(changed)}")
            model.eval()
            checked += 1
    return checked


@check("aebench.contracts.Autoencoder.on_epoch")
def on_epoch_keeps_shapes(subject: AutoencoderUnderTest) -> int:
    """`on_epoch` changes tensors of the model in place: none is added, removed, replaced, or changes shape or dtype."""
    checked = 0
    for case, model in subject.cases(trained=False):
        for epoch in range(EPOCHS):
            before = _tensors(model)
            model.on_epoch(epoch, EPOCHS)
            after = _tensors(model)
            different = sorted(name for name in before | after if before.get(name) != after.get(name))
            expected = "on_epoch to change tensors in place"
            expect(not different, expected, f"{case}: epoch {epoch} replaced {', '.join(different)}")
            checked += 1
    return checked


def _tensors(model: Autoencoder) -> dict[str, tuple[int, torch.Size, torch.dtype]]:
    """The identity, shape and dtype of each parameter and buffer."""
    state = (*model.named_parameters(), *model.named_buffers())
    return {name: (value.data_ptr(), value.shape, value.dtype) for name, value in state}


@check("aebench.contracts.Autoencoder.stages")
def stages_keep_to_the_budget(subject: AutoencoderUnderTest) -> int:
    """The epochs of all stages sum to at most the budget, so that no model is trained longer than the others."""
    checked = 0
    for case, model in subject.cases(trained=False):
        for budget in BUDGETS:
            spent = sum(stage.epochs for stage in model.stages(budget) if stage.epochs > 0)
            expected = f"the stages of stages({budget}) to have at most {budget} epochs in all"
            expect(spent <= budget, expected, f"{case}: they have {spent}")
            checked += 1
    return checked


@check("aebench.contracts.Autoencoder")
def stateless_training_step(subject: AutoencoderUnderTest) -> int:
    """The same parameters, buffers, batch and noise give the same loss: on CUDA a step is recorded and then replayed.

    A replay runs no Python, so a counter in an attribute would stand still. A schedule belongs in a buffer that is
    changed in place, by `on_epoch`.
    """
    checked = 0
    for case, model in subject.cases():
        state = [(tensor, tensor.detach().clone()) for tensor in (*model.parameters(), *model.buffers())]
        x = random_images(model.input_shape, TRAINING_IMAGES)
        for name, update in updates(model):
            for module in update.trains:
                module.train()
            totals = []
            for _ in range(5):
                with torch.no_grad():
                    for tensor, value in state:
                        tensor.copy_(value)
                totals.append(float(update.loss(x, seeded_generator()).total.detach()))
            model.on_epoch(0, EPOCHS)  # what it changes outside the state, a recorded step would not see
            with torch.no_grad():
                for tensor, value in state:
                    tensor.copy_(value)
            totals.append(float(update.loss(x, seeded_generator()).total.detach()))
            model.eval()
            actual = f"{case}: stage '{name}' gave {', '.join(f'{total:.6g}' for total in totals)}"
            expect(len(set(totals)) == 1, "the same loss from the same state, batch and noise", actual)
            checked += 1
    return checked


@check("aebench.training.fitting.fit")
def training_lowers_the_loss(subject: AutoencoderUnderTest) -> int:
    """A short training on digits ends every stage with a lower loss than it began with.

    If no stage has two epochs to compare, the reconstruction error has to fall. A stage with several updates is left
    out: where they compete, any loss may rise.
    """
    data = small_digits()
    model = subject.build(subject.spec(data.info.input_shape, 8))
    x = data.train.x()
    before = _reconstruction_error(model.eval(), x)
    result = fit(
        model,
        data,
        Budget(DIGITS_EPOCHS, batch_size=64),
        batches=seeded_generator(1),
        noise=seeded_generator(2),
    )
    competing = {stage.name for stage in model.stages(DIGITS_EPOCHS) if len(stage.updates) > 1}
    stages: dict[str, list[float]] = {}
    for epoch in result.epochs:
        if epoch.stage not in competing:
            stages.setdefault(epoch.stage, []).append(epoch.total)
    if all(len(losses) < 2 for losses in stages.values()):
        after = _reconstruction_error(model, x)
        lowest = float(model.likelihood.mean_nll(model.likelihood.from_mean(x), x))
        expect(
            after < before or before < 1.001 * lowest,
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


@torch.no_grad()
def _reconstruction_error(model: Autoencoder, x: torch.Tensor) -> float:
    """Mean negative log-likelihood of images x under the deterministic codes, in nats per image."""
    return float(model.likelihood.mean_nll(model.decode(model.embed(x)), x))
