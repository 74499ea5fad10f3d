"""Several trainings in one process, as on a CUDA device: the numbers of one at a time, and no harm from neighbours."""

from collections import Counter

import pytest
import torch

from aebench.config import load_benchmark
from aebench.executors import Crew, LocalExecutor
from aebench.planner import plan
from aebench.registry import create_registry
from aebench.work import CellDone, Trained, Unit

ONE_BY_ONE = Crew(trainers=1, side_by_side=1, evaluators=1, trainers_evaluate=True)
SIDE_BY_SIDE = Crew(trainers=1, side_by_side=3, evaluators=2, trainers_evaluate=False)

PLUGIN = """
import os, signal, weakref
from aebench.contracts import Autoencoder, AutoencoderRecord, hookimpl
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
            ("neighbour", Neighbour), ("crowded", Crowded), ("deadly", Deadly), ("failing", Failing)
        )
    ]
"""


def _run(registry, data, crew, models, tasks, epochs=2):
    options = {("models",): models, ("tasks",): tasks, ("training", "epochs"): epochs}
    matrix = plan(load_benchmark(registry, None, options), data.info)
    units = [
        Unit(training, tuple(cell for cell in matrix.cells if cell.training == training and cell.skip is None))
        for training in matrix.trainings
    ]
    return list(LocalExecutor(registry, torch.device("cpu"), crew).run(units, data, judge=None))


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


@pytest.fixture
def with_plugin(distribution, monkeypatch):
    """A registry in which the plugin above counts as installed, here and in worker processes."""
    monkeypatch.syspath_prepend(distribution("neighbours", PLUGIN)["PYTHONPATH"])
    return create_registry()


def test_who_fails_in_company_is_tried_again_alone(with_plugin, digits):
    models = ["neighbour", "crowded", "failing"]
    cells = _cells(_run(with_plugin, digits, SIDE_BY_SIDE, models, ["reconstruction"], epochs=50))
    assert len(cells) == 3
    for (model, _), cell in cells.items():
        if model == "failing":
            assert (cell.status, cell.reason) == ("failed", "training: ValueError: cannot be trained")
            assert "in loss" in cell.traceback
        else:
            assert (cell.status, cell.reason) == ("ok", "")


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
    messages = list(LocalExecutor(registry, torch.device("cpu"), SIDE_BY_SIDE).run([again], digits, judge=None))
    assert not [message for message in messages if isinstance(message, Trained)]
    (repeated,) = _cells(messages).values()
    assert repeated.metrics == cell.metrics


def test_a_trainer_that_evaluates_has_no_company():
    with pytest.raises(ValueError, match="keeps its other trainings waiting"):
        Crew(trainers=1, side_by_side=2, evaluators=1, trainers_evaluate=True)


@pytest.mark.parametrize(
    ("device", "jobs", "trainers", "side_by_side"), [("cpu", 3, 3, 1), ("cuda", None, 1, 8), ("cuda", 2, 1, 2)]
)
def test_a_crew_suits_its_device(device, jobs, trainers, side_by_side):
    crew = Crew.suited_to(torch.device(device), jobs)
    assert (crew.trainers, crew.side_by_side) == (trainers, side_by_side)
    assert crew.evaluators >= 1
