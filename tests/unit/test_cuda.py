"""A captured step gives the weights, losses and noise of the step itself, also after a failed capture."""

import warnings

import pytest
import torch
from torch import Generator

from aebench.contracts import OptimizerSpec, Update
from aebench.training.cuda import STEPS_BEFORE_CAPTURE, GraphedStep, capturable, cuda_graph
from aebench.training.fitting import fit
from aebench.training.records import Budget
from aebench.training.step import Step

STEPS = STEPS_BEFORE_CAPTURE + 4


def _step(model, digits, device="cpu"):
    model.train()
    noise = Generator(device).manual_seed(3)
    return Step([Update(model.loss, (model,))], digits.train, OptimizerSpec(), "fp32", noise)


def _batches(device="cpu"):
    return torch.arange(STEPS * 32, device=device).view(STEPS, 32)


def _run_steps(model, digits, wrap=lambda step: step, device="cpu"):
    """Weights, summed losses and the next random number after some steps."""
    step = _step(model, digits, device)
    wrapped = wrap(step)
    for index in _batches(device):
        wrapped(index)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    return state | {"sums": step.sums, "noise": torch.rand(3, device=device, generator=step.noise)}


def _with_values_read(model):
    """The model, with a loss that reads values on the host."""
    plain = model.loss

    def reads(x, generator):
        loss = plain(x, generator)
        assert loss.total.item() > 0
        return loss

    model.loss = reads
    return model


def _assert_same(found, expected):
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=0, msg=name)


def test_a_step_is_recorded_once_and_then_replayed_on_every_batch(build, digits):
    recordings, replays = [], []

    def record(step, index):
        recordings.append(len(recordings))

        def replay():
            replays.append(index.clone())
            step(index)

        return replay

    expected = _run_steps(build("vae"), digits)
    found = _run_steps(build("vae"), digits, lambda step: GraphedStep(step, 32, record))
    _assert_same(found, expected)
    assert len(recordings) == 1
    assert torch.equal(torch.stack(replays), _batches()[STEPS_BEFORE_CAPTURE:])


def test_a_failed_recording_changes_no_result(build, digits):
    noises = []

    def record(step, index):
        noises.append(step.noise)
        torch.rand(5, generator=step.noise)
        raise RuntimeError("operation not permitted when stream is capturing")

    expected = _run_steps(build("vae"), digits)
    steps, captured = [], []

    def wrap(step):
        steps.append(step)
        captured.append(GraphedStep(step, 32, record))
        return captured[0]

    found = _run_steps(build("vae"), digits, wrap)
    _assert_same(found, expected)
    assert captured[0].fallback == "operation not permitted when stream is capturing"
    assert len(noises) == 1  # it is not repeated
    assert steps[0].noise is not noises[0]


def test_adam_is_capturable_only_during_a_capture():
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.ones(()))])
    settings = optimizer.param_groups[0]
    seen = []

    def capture():
        with capturable([optimizer]):
            seen.append(settings["capturable"])
            raise RuntimeError("capture failed")

    with pytest.raises(RuntimeError, match="capture failed"):
        capture()
    assert (seen, settings["capturable"]) == ([True], False)


@pytest.mark.cuda
@pytest.mark.parametrize("name", ["shallow", "vanilla", "sparse", "denoising", "vae", "beta_vae_strict", "vq_vae"])
def test_a_cuda_graph_gives_the_results_of_the_step(build, digits, name):
    data = digits.to("cuda")
    graphs = []

    def record(step, index):
        graphs.append(cuda_graph(step, index))
        return graphs[-1]

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream), warnings.catch_warnings():
        warnings.simplefilter("error")
        expected = _run_steps(build(name).cuda(), data, device="cuda")
        found = _run_steps(build(name).cuda(), data, lambda step: GraphedStep(step, 32, record), device="cuda")
    stream.synchronize()
    assert len(graphs) == 1
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-4, atol=1e-5, msg=key)


@pytest.mark.cuda
def test_a_loss_that_reads_values_is_trained_without_a_graph(build, digits):
    model, twin = build("vanilla").cuda(), _with_values_read(build("vanilla").cuda())
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    steps = []

    def captured(step):
        steps.append(GraphedStep(step, 32))
        return steps[-1]

    with torch.cuda.stream(stream):
        expected = _run_steps(model, digits.to("cuda"), device="cuda")
        found = _run_steps(twin, digits.to("cuda"), captured, device="cuda")
        after = _run_steps(build("vae").cuda(), digits.to("cuda"), captured, device="cuda")
    stream.synchronize()
    assert steps[0].fallback
    assert not steps[1].fallback  # another step can still be captured
    assert torch.isfinite(after["sums"]).all()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-4, atol=1e-5, msg=key)


@pytest.mark.cuda
def test_a_loss_that_waits_for_the_device_is_detected_before_a_recording(build, digits):
    model = _with_values_read(build("vanilla").cuda())
    generators = {"batches": Generator().manual_seed(1), "noise": Generator("cuda").manual_seed(2)}
    result = fit(model, digits.to("cuda"), Budget(1, 64), **generators)
    assert "synchroniz" in result.graph_fallback
    assert torch.cuda.get_sync_debug_mode() == 0
