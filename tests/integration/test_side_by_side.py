"""Several trainings in one process, as on a CUDA device: the numbers of one at a time, and no harm from neighbours."""

from collections import Counter
from itertools import pairwise
from multiprocessing import get_context

import pytest
import torch

from aebench.execution import Crew, LocalExecutor
from aebench.execution.work import CellDone, EpochDone, Postponed, Started, Trained, Unit
from aebench.execution.worker import DEVICE_IS_BROKEN, _leave_a_broken
from aebench.planning.benchmark import load_benchmark
from aebench.planning.planner import plan
from aebench.registry.loading import create_registry

CPU = torch.device("cpu")
ONE_BY_ONE = Crew(trainers=1, side_by_side=1, evaluators=1, trainers_evaluate=True)
SIDE_BY_SIDE = Crew(trainers=1, side_by_side=3, evaluators=2, trainers_evaluate=False)

PLUGIN = """
import os, signal, weakref
from aebench.contracts import Autoencoder, AutoencoderRecord, Loss, Metric, TaskRecord, hookimpl
from aebench.networks import DenseDecoder, DenseEncoder

LIVE = weakref.WeakSet()

class Sound(Autoencoder):
    def __init__(self, input_shape, latent_dim, params):
        super().__init__(
            input_shape, latent_dim, DenseEncoder(input_shape, latent_dim), DenseDecoder(latent_dim, input_shape)
        )

class Neighbour(Sound):
    def loss(self, x, generator):
        LIVE.add(self)
        return super().loss(x, generator)

class Crowded(Neighbour):
    def loss(self, x, generator):
        if any(other is not self and not isinstance(other, Crowded) for other in LIVE):
            raise RuntimeError("out of memory")
        return super().loss(x, generator)

class Diverging(Sound):
    def loss(self, x, generator):
        loss = super().loss(x, generator)
        return Loss(loss.total * float("nan"), loss.reconstruction, loss.penalty)

class Deadly(Sound):
    def loss(self, x, generator):
        os.kill(os.getpid(), signal.SIGKILL)

class Failing(Sound):
    def loss(self, x, generator):
        raise ValueError("cannot be trained")

@hookimpl
def aebench_autoencoders():
    return [
        AutoencoderRecord(name=name, title="T", summary="-", build=build)
        for name, build in (
            ("neighbour", Neighbour), ("crowded", Crowded), ("deadly", Deadly), ("failing", Failing),
            ("diverging", Diverging),
        )
    ]

def kills(model, data, context):
    os.kill(os.getpid(), signal.SIGKILL)

@hookimpl
def aebench_tasks():
    metric = Metric("value", "Value", higher_is_better=True, primary=True)
    return [TaskRecord(name="killing", title="T", summary="-", evaluate=kills, metrics=(metric,))]
"""


def _run(registry, data, crew, models, tasks, epochs=2, device=CPU):
    options = {("models",): models, ("tasks",): tasks, ("training", "epochs"): epochs}
    matrix = plan(load_benchmark(registry, None, options), data.info)
    units = [
        Unit(training, tuple(cell for cell in matrix.cells if cell.training == training and cell.skip is None))
        for training in matrix.trainings
    ]
    return list(LocalExecutor(registry, device, crew).run(units, data, reference_classifier=None))


def _cells(messages):
    done = [message for message in messages if isinstance(message, CellDone)]
    keys = [(message.cell.training.label, message.cell.task) for message in done]
    assert max(Counter(keys).values()) == 1  # each is reported once
    return dict(zip(keys, done, strict=True))


def test_it_gives_the_numbers_of_one_by_one(registry, digits):
    given = ["vanilla", "stacked", "vae", "pca"], ["reconstruction", "latent_structure", "anomaly_detection"]
    expected, found = (_run(registry, digits, crew, *given) for crew in (ONE_BY_ONE, SIDE_BY_SIDE))
    for kind, content in ((Trained, "weights"), (CellDone, "metrics")):
        by_job = [
            {
                message.training if kind is Trained else message.cell: getattr(message, content)
                for message in messages
                if isinstance(message, kind)
            }
            for messages in (expected, found)
        ]
        assert by_job[0] == by_job[1]
        assert len(by_job[0]) == (8 if kind is Trained else 12)
    assert _interleaved(found)
    assert not _interleaved(expected)


def _interleaved(messages):
    """Whether one training went on between two epochs of another."""
    epochs = [message.training for message in messages if isinstance(message, EpochDone)]
    changes = sum(one != other for one, other in pairwise(epochs))
    return changes > len(set(epochs)) - 1


@pytest.fixture
def with_plugin(distribution, monkeypatch):
    """A registry in which the plugin above counts as installed, here and in worker processes."""
    monkeypatch.syspath_prepend(distribution("neighbours", PLUGIN)["PYTHONPATH"])
    return create_registry()


def test_who_fails_in_company_is_tried_again_alone(with_plugin, digits):
    models = ["neighbour", "crowded", "failing"]
    messages = _run(with_plugin, digits, SIDE_BY_SIDE, models, ["reconstruction"], epochs=50)
    begun = Counter(message.training.label for message in messages if isinstance(message, Started))
    assert begun == {"neighbour": 1 + 1, "crowded": 2 + 1, "failing": 2}  # trainings, and the evaluation
    postponed = {message.training.label: message.reason for message in messages if isinstance(message, Postponed)}
    assert postponed == {
        "crowded": "training: RuntimeError: out of memory",
        "failing": "training: ValueError: cannot be trained",
    }
    cells = _cells(messages)
    assert len(cells) == 3
    for (model, _), cell in cells.items():
        if model == "failing":
            assert (cell.status, cell.reason) == ("failed", "training: ValueError: cannot be trained")
            assert "in loss" in cell.traceback
        else:
            assert (cell.status, cell.reason) == ("ok", "")


def test_what_would_fail_anywhere_is_not_tried_again(with_plugin, digits):
    messages = _run(with_plugin, digits, SIDE_BY_SIDE, ["neighbour", "diverging"], ["reconstruction"], epochs=50)
    assert not [message for message in messages if isinstance(message, Postponed)]
    cells = _cells(messages)
    assert cells["neighbour", "reconstruction"].status == "ok"
    assert cells["diverging", "reconstruction"].reason.startswith("training: the training loss became nan in epoch 1")


def test_an_evaluator_that_is_killed_costs_the_cell_it_had(with_plugin, digits):
    tasks = ["reconstruction", "killing", "anomaly_detection"]
    cells = _cells(_run(with_plugin, digits, SIDE_BY_SIDE, ["vanilla", "vae"], tasks))
    assert len(cells) == 6
    for (_, task), cell in cells.items():
        assert cell.status == ("failed" if task == "killing" else "ok"), cell.reason


def test_who_kills_the_process_costs_its_own_cells_only(with_plugin, digits):
    tasks = ["reconstruction", "anomaly_detection"]
    cells = _cells(_run(with_plugin, digits, SIDE_BY_SIDE, ["vanilla", "deadly", "vae", "shallow"], tasks))
    assert len(cells) == 8
    for (model, _), cell in cells.items():
        if model == "deadly":
            assert (cell.status, cell.reason.partition(",")[0]) == ("failed", "the worker process died (SIGKILL")
        else:
            assert (cell.status, cell.reason) == ("ok", "")


def test_what_is_trained_already_is_only_evaluated(registry, digits):
    first = _run(registry, digits, SIDE_BY_SIDE, ["vanilla"], ["reconstruction"])
    (trained,) = [message for message in first if isinstance(message, Trained)]
    (cell,) = _cells(first).values()
    again = Unit(trained.training, (cell.cell,), trained.weights)
    messages = list(LocalExecutor(registry, CPU, SIDE_BY_SIDE).run([again], digits, reference_classifier=None))
    assert not [message for message in messages if isinstance(message, Trained)]
    (repeated,) = _cells(messages).values()
    assert repeated.metrics == cell.metrics


def test_a_crew_without_evaluators_is_none():
    with pytest.raises(ValueError, match="slow to start"):
        Crew(trainers=1, side_by_side=1, evaluators=0, trainers_evaluate=True)


def test_a_trainer_that_evaluates_has_no_company():
    with pytest.raises(ValueError, match="keeps its other trainings waiting"):
        Crew(trainers=1, side_by_side=2, evaluators=1, trainers_evaluate=True)


@pytest.mark.parametrize(
    ("device", "jobs", "trainers", "side_by_side"), [("cpu", 3, 3, 1), ("cuda", None, 1, 8), ("cuda", 2, 1, 2)]
)
def test_a_crew_suits_its_device(monkeypatch, device, jobs, trainers, side_by_side):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (2**40, 2**40))
    crew = Crew.suited_to(torch.device(device), jobs)
    assert (crew.trainers, crew.side_by_side) == (trainers, side_by_side)
    assert crew.evaluators >= 1


def test_on_a_small_device_there_is_one_evaluator(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (3 * 2**30, 2**32))
    assert Crew.suited_to(torch.device("cuda")).evaluators == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="looks at a device that cannot be used")
def test_a_worker_whose_device_cannot_be_used_leaves():
    process = get_context("spawn").Process(target=_leave_a_broken, args=(torch.device("cuda"),))
    process.start()
    process.join()
    assert process.exitcode == DEVICE_IS_BROKEN


@pytest.mark.cuda
def test_on_cuda_it_gives_the_numbers_of_one_by_one(registry, digits):
    given = ["vanilla", "stacked", "vae", "vq_vae", "pca"], ["reconstruction", "latent_structure", "anomaly_detection"]
    device = torch.device("cuda")
    crews = Crew.suited_to(device, jobs=1), Crew.suited_to(device)
    expected, found = (_cells(_run(registry, digits, crew, *given, device=device)) for crew in crews)
    assert len(expected) == 15
    for key, cell in expected.items():
        assert (cell.status, found[key].status) == ("ok", "ok")
        if key[1] == "reconstruction":
            assert found[key].metrics == pytest.approx(cell.metrics, rel=0.01)
