"""The kit finds defective tasks: each defect is absent from the correct twin."""

from __future__ import annotations

import importlib
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch

from aebench.contracts import Evaluation, Metric, TaskRecord
from aebench.testing import TaskUnderTest, tasks
from tests.conformance.lax_params import LaxParams

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


def changes_the_labels(model, data, context):
    data.test.labels.numpy()[:] = 0
    return good(model, data, context)


def changes_the_default_dtype(model, data, context):
    found = good(model, data, context)
    torch.set_default_dtype(torch.float64)
    return found


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
    (tasks.unmodified_model_and_data, task(changes_the_model), "the model's weights (encoder."),
    (tasks.unmodified_model_and_data, task(changes_the_labels), "the test labels changed"),
    (tasks.no_side_effects, task(changes_the_default_dtype), "changed torch's default dtype"),
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
