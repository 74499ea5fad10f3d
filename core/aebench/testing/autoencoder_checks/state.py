"""Checks of state: saving and loading, unmodified inputs, and moving to another device."""

from __future__ import annotations

from collections.abc import Callable

import torch
from safetensors.torch import load
from torch import Generator, Tensor

from aebench.contracts import Capability
from aebench.testing.autoencoder_checks.model_under_test import (
    CASES,
    AutoencoderUnderTest,
    equal,
    fits,
    random_bytes,
    random_images,
    seeded_generator,
    updates,
)
from aebench.testing.checks import Nonconformance, check, expect
from aebench.training.building import weights_of


@check("aebench.contracts.Autoencoder")
def loading_restores_the_model(subject: AutoencoderUnderTest) -> int:
    """A model rebuilt from its state dict gives exactly the same codes, images and samples."""
    checked = 0
    for (case, model), (_, spec) in zip(subject.cases(), subject.specs(), strict=True):
        loaded = subject.build(spec, seed=1)
        loaded.load_state_dict(load(weights_of(model)))
        loaded.eval()
        x = random_images(model.input_shape)
        pairs = [
            ("embed", model.embed(x), loaded.embed(x)),
            ("reconstruct", model.reconstruct(x), loaded.reconstruct(x)),
        ]
        if Capability.SAMPLE in subject.record.capabilities:
            pairs.append(("sample", model.sample(4, seeded_generator()), loaded.sample(4, seeded_generator())))
        for method, before, after in pairs:
            expect(
                equal(before, after),
                "the state dict to hold everything that a model learns",
                f"{case}: after loading, {method} gives different values",
            )
            checked += 1
    return checked


@check("aebench.contracts.Autoencoder")
def unmodified_inputs(subject: AutoencoderUnderTest) -> int:
    """No method changes the images, codes or encoder outputs it is given."""
    checked = 0
    for case, model in subject.cases():
        x = random_images(model.input_shape)
        with torch.no_grad():
            h = model.encode(x.clone())
            z = model.embed(x.clone())
        calls: dict[str, tuple[Tensor, Callable[[Tensor], object]]] = {
            "encode": (x, model.encode),
            "bottleneck": (h, lambda h, m=model: m.bottleneck(h, stochastic=True, generator=seeded_generator())),  # type: ignore[misc]
            "decode": (z, model.decode),
            "loss": (x, lambda x, m=model: m.loss(x, seeded_generator())),  # type: ignore[misc]
            "reconstruct": (x, model.reconstruct),
        }
        for fit in fits(model):
            calls["fit"] = (
                random_bytes(model.input_shape),
                lambda images, f=fit: f(images, seeded_generator()),  # type: ignore[misc]
            )
        for name, (given, call) in calls.items():
            before = given.clone()
            with torch.no_grad():
                call(given)
            expect(equal(before, given), f"{name} not to change its input", f"{case}: it changed it in place")
            checked += 1
    return checked


@check("aebench.contracts.Autoencoder")
def runs_on_other_devices(subject: AutoencoderUnderTest) -> int:
    """A moved model keeps all its tensors on one device, and a training step reads no values.

    Tensors on PyTorch's "meta" device have shapes but no values, so a tensor left on the CPU and a call of `.item()`
    are found without a GPU. If there is a CUDA device, the model runs on it too.
    """
    devices = ["meta", *(["cuda"] if torch.cuda.is_available() else [])]
    for device in devices:
        for case, model in subject.cases():
            model.to(device)
            x = random_images(model.input_shape).to(device)
            generator = seeded_generator() if device == "meta" else Generator(device).manual_seed(0)
            try:
                for _, update in updates(model):
                    loss = update.loss(x, generator)
                    expect(loss.total.device == x.device, f"the loss on {x.device}", f"it is on {loss.total.device}")
                results = {"reconstruct": model.reconstruct(x)}
                if device != "meta":
                    results["embed"] = model.embed(x, stochastic=True, generator=generator)
                    if Capability.SAMPLE in subject.record.capabilities:
                        results["sample"] = model.sample(4, generator)
            except Nonconformance:
                raise
            except Exception as error:
                actual = f"{case}, on '{device}': {type(error).__name__}: {error}"
                raise Nonconformance(
                    "a model whose tensors are all parameters, buffers, or made on the input's device", actual
                ) from error
            for method, result in results.items():
                expected = f"{method} to return a tensor on {x.device}"
                expect(result.device == x.device, expected, f"it is on {result.device}")
    return len(devices) * len(CASES)
