"""Work in turns gives what it gives in one go, whatever is done in between."""

import pytest
import torch
from torch import Generator

from aebench.training.trainer import fit, fit_in_turns
from aebench.training.turns import all_at_once, on_own_stream

MODELS = ("vanilla", "stacked", "sparse", "denoising", "vae", "vq_vae", "pca")


def _settings(device="cpu", **more):
    generators = {"batches": Generator().manual_seed(1), "noise": Generator(device).manual_seed(2)}
    return {"epochs": 3, "batch_size": 64, "learning_rate": 1e-3, **generators, **more}


def _together(turns):
    """Resume each in turn until all have ended; what they return."""
    results = {}
    while len(results) < len(turns):
        for name, one in turns.items():
            if name not in results:
                try:
                    next(one)
                except StopIteration as end:
                    results[name] = end.value
    return results


def _countdown(n):
    for _ in range(n):
        yield
    return "done"


def test_all_turns_are_taken():
    turns = _countdown(5)
    assert all_at_once(turns) == "done"
    assert next(turns, "ended") == "ended"


def test_without_cuda_a_stream_is_no_stream():
    turns = on_own_stream(torch.device("cpu"), _countdown(2))
    next(turns)
    assert all_at_once(turns) == "done"


def test_a_training_gives_the_same_result_alone_and_in_company(build, digits):
    order = []
    alone, together = ({name: build(name) for name in MODELS} for _ in range(2))
    expected = {name: fit(model, digits, **_settings()) for name, model in alone.items()}
    turns = {
        name: fit_in_turns(model, digits, **_settings(on_epoch=lambda losses, name=name: order.append(name)))
        for name, model in together.items()
    }
    results = _together(turns)
    for name, result in results.items():
        assert result.epochs == expected[name].epochs
        for a, b in zip(alone[name].state_dict().values(), together[name].state_dict().values(), strict=True):
            assert torch.equal(a, b)
    assert order.index("vae") < len(order) - 1 - order[::-1].index("vanilla")  # they did run side by side


@pytest.mark.cuda
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_streams_side_by_side_give_what_each_gives_alone(build, digits, precision):
    data = digits.to("cuda")
    alone, together = ({name: build(name).cuda() for name in MODELS} for _ in range(2))
    expected = {name: fit(model, data, **_settings("cuda", precision=precision)) for name, model in alone.items()}
    turns = {
        name: fit_in_turns(model, data, **_settings("cuda", precision=precision)) for name, model in together.items()
    }
    for name, result in _together(turns).items():
        assert result.why_not_recorded == expected[name].why_not_recorded == ""
        for one, other in zip(result.epochs, expected[name].epochs, strict=True):
            assert one.total == pytest.approx(other.total, rel=1e-3)
            assert one.validation == pytest.approx(other.validation, rel=1e-2)
