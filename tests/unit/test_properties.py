"""Properties: hashes depend on what matters and on nothing else, results survive JSON, mistakes get a line each."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mlflow.entities import Metric

from aebench.contracts import OptimizerSpec
from aebench.errors import AebenchError
from aebench.evaluation.returned_values import LARGEST_METRIC
from aebench.execution.artifacts import Ref
from aebench.planning.benchmark import Benchmark, load_benchmark
from aebench.planning.cells import CellResult, Status
from aebench.planning.config import BenchmarkConfig, EarlyStopping, ModelChoice, OwnTraining, Profile, TrainingSettings
from aebench.planning.planner import plan
from aebench.planning.seeds import content_hash
from aebench.results.description import describe, results_of
from aebench.tracking import schema
from aebench.tracking.updates import RunEnd, RunUpdate


def bounded(examples):
    return settings(
        max_examples=examples,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)
BASE = {
    "dataset": "digits",
    "models": [
        {"name": "vae", "training": {"epochs": 7, "batch_size": 32, "optimizer": {"name": "adamw"}}},
        {"name": "beta_vae_strict", "params": {"beta": 3.0}, "label": "strict"},
        "pca",
    ],
    "backbones": ["dense"],
    "tasks": [
        {"name": "reconstruction"},
        "interpolation",
        {"name": "classification", "params": {}},
        "anomaly_detection",
    ],
    "seeds": 2,
    "seed": 1,
    "training": {
        "epochs": 5,
        "batch_size": 64,
        "precision": "fp32",
        "optimizer": {"name": "sgd", "learning_rate": 0.1, "momentum": 0.5, "schedule": {"name": "cosine"}},
        "early_stopping": {"patience": 3},
    },
    "likelihood": {"name": "bernoulli"},
    "profiles": {"general": {"latent_dim": 4}, "anomaly": {"latent_dim": 2, "held_out": [1, 2]}},
}


@pytest.fixture
def planned(registry, digits):
    """planned(config, ...): the plan of a configuration."""

    def planned(config, precision="fp32", device_kind="cpu", dataset=digits.info):
        benchmark = load_benchmark(registry, None, {(key,): value for key, value in config.items()})
        return plan(benchmark, dataset, precision, device_kind)

    return planned


def hashes(found, task=None):
    """Hashes of training and cell by row, task, seed and number of the held-out class."""
    return {
        (cell.training.label, cell.task, cell.training.seed, cell.held_out_in_rotation): (cell.training.hash, cell.hash)
        for cell in found.cells
        if task in (None, cell.task)
    }


def shuffled(value, chance):
    """The same value with the keys of every mapping in another order."""
    if isinstance(value, dict):
        keys = chance.sample(list(value), len(value))
        return {key: shuffled(value[key], chance) for key in keys}
    return [shuffled(item, chance) for item in value] if isinstance(value, list) else value


@bounded(100)
@given(VALUES, st.randoms(use_true_random=False))
def test_a_hash_does_not_depend_on_the_order_of_keys(value, chance):
    assert content_hash(shuffled(value, chance)) == content_hash(value)


@bounded(100)
@given(VALUES, VALUES)
def test_different_values_have_different_hashes(one, other):
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (content_hash(one) == content_hash(other)) == same


@bounded(6)
@given(st.randoms(use_true_random=False))
def test_hashes_do_not_depend_on_the_order_of_options_models_and_tasks(planned, chance):
    config = shuffled(BASE, chance)
    for key in ("models", "tasks"):
        config[key] = chance.sample(config[key], len(config[key]))
    found, expected = planned(config), planned(BASE)
    assert hashes(found) == hashes(expected)
    assert found.matrix == expected.matrix


# By the path of a field: another value, and the rows whose results on a task of the profile "general" it changes.
EVERY, OTHERS = {"vae", "strict", "pca"}, {"strict", "pca"}  # the model vae has a training of its own
CHANGES = {
    ("seed",): (2, EVERY),
    ("likelihood",): ({"name": "gaussian"}, EVERY),
    ("backbones",): (["conv"], set()),  # rows with other names
    ("training", "epochs"): (6, OTHERS),
    ("training", "batch_size"): (65, OTHERS),
    ("training", "precision"): ("auto", set()),  # what is chosen counts, see below
    ("training", "optimizer", "name"): ("adam", OTHERS),
    ("training", "optimizer", "learning_rate"): (0.2, OTHERS),
    ("training", "optimizer", "weight_decay"): (0.1, OTHERS),
    ("training", "optimizer", "momentum"): (0.6, OTHERS),
    ("training", "optimizer", "warm_up"): (1, OTHERS),
    ("training", "optimizer", "schedule"): ({"name": "cosine", "final": 0.5}, OTHERS),
    ("training", "early_stopping", "patience"): (4, EVERY),
    ("training", "early_stopping"): (None, EVERY),
    ("profiles", "general", "latent_dim"): (5, EVERY),
    ("profiles", "general", "held_out"): (1, EVERY),
    ("profiles", "anomaly", "latent_dim"): (5, set()),
    ("profiles", "anomaly", "held_out"): (5, set()),
    ("models", 0, "training", "epochs"): (8, {"vae"}),
    ("models", 0, "training", "batch_size"): (33, {"vae"}),
    ("models", 0, "training", "optimizer"): ({"name": "adam"}, {"vae"}),
    ("models", 0, "training"): ({}, {"vae"}),
    ("models", 0, "name"): ("vanilla", {"vae"}),
    ("models", 0, "label"): ("other", set()),
    ("models", 1, "params"): ({"beta": 4.0}, {"strict"}),
    ("models",): (BASE["models"][:2], set()),
    ("tasks",): (BASE["tasks"][:1], set()),
    ("seeds",): (3, set()),
}


def changed(path, value):
    """The configuration with another value at this path."""
    config = copy.deepcopy(BASE)
    section = config
    for key in path[:-1]:
        section = section[key]
    section[path[-1]] = value
    if config["training"]["optimizer"]["name"] == "adam":  # which has none
        del config["training"]["optimizer"]["momentum"]
    return config


@pytest.mark.parametrize("path", CHANGES, ids=lambda path: ".".join(map(str, path)))
def test_hashes_depend_on_what_matters_and_on_nothing_else(planned, path):
    value, rows = CHANGES[path]
    before, after = hashes(planned(BASE), "interpolation"), hashes(planned(changed(path, value)), "interpolation")
    if path == ("tasks",):
        before, after = hashes(planned(BASE), "reconstruction"), hashes(planned(changed(path, value)), "reconstruction")
    common = before.keys() & after.keys()
    assert common
    for key in common:
        training, cell = (one != other for one, other in zip(before[key], after[key], strict=True))
        assert training == cell == (key[0] in rows)


def test_every_field_of_the_configuration_is_varied():
    varied = {tuple(key for key in path if not isinstance(key, int)) for path in CHANGES}
    assert {path[0] for path in varied} == set(BenchmarkConfig.model_fields) - {"dataset"}
    for section, model in (
        (("training",), TrainingSettings),
        (("training", "optimizer"), OptimizerSpec),
        (("training", "early_stopping"), EarlyStopping),
        (("profiles", "general"), Profile),
        (("models",), ModelChoice),
        (("models", "training"), OwnTraining),
    ):
        depth = len(section)
        assert {path[depth] for path in varied if path[:depth] == section and len(path) > depth} == set(
            model.model_fields
        )


def test_hashes_depend_on_the_data_the_device_the_precision_and_the_parameters_of_a_task(planned, digits):
    before = hashes(planned(BASE))
    other_data = replace(digits.info, fingerprint="0" * 64)
    for conditions in ({"precision": "bf16"}, {"device_kind": "cuda"}, {"dataset": other_data}):
        after = hashes(planned(BASE, **conditions))
        assert all(before[key][0] != after[key][0] and before[key][1] != after[key][1] for key in before)
    renamed = replace(digits.info, title="Other")
    assert hashes(planned(BASE, dataset=renamed)) == before
    after = hashes(planned(changed(("tasks", 1), {"name": "interpolation", "params": {"pairs": 7}})))
    for key in before:
        assert before[key][0] == after[key][0]
        assert (before[key][1] != after[key][1]) == (key[1] == "interpolation")


NOT_FINITE = st.sampled_from([math.nan, math.inf, -math.inf])
NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,10}", fullmatch=True)
METRICS = st.dictionaries(NAMES, st.floats(), max_size=5)


@bounded(150)
@given(METRICS, st.dictionaries(NAMES, st.text(min_size=1, max_size=30), max_size=3), st.none() | st.integers(0, 99))
def test_a_result_survives_the_journal_and_the_store(metrics, absent, held_out):
    absent = {name: reason for name, reason in absent.items() if name not in metrics}
    result = CellResult("vae", "task_1", 3, held_out, Status.OK, metrics=metrics, absent=absent)
    update = RunUpdate(
        "run",
        tuple(Metric(key, value, 1, 0) for key, value in schema.cell_metrics(result).items()),
        tags=schema.cell_tags("0123", result) | {"model": "vae", "seed": "3"},
        files={"task_1/x.png": Ref("ab")},
        end=RunEnd.FINISHED,
    )
    read = RunUpdate.from_json(json.loads(json.dumps(update.to_json(), allow_nan=False)))
    assert read == update or [str(metric) for metric in read.metrics] == [str(metric) for metric in update.metrics]
    values = {metric.key: metric.value for metric in read.metrics}
    run = SimpleNamespace(data=SimpleNamespace(tags=read.tags, metrics=values), info=SimpleNamespace(run_id="run"))
    (stored,) = schema.read_cells(run).values()
    assert (stored.hash, stored.run_id, stored.origin) == ("0123", "run", "run")
    assert repr(sorted(stored.result.metrics.items())) == repr(sorted(metrics.items()))
    assert replace(stored.result, metrics={}) == replace(result, metrics={})


@bounded(50)
@given(st.lists(st.floats(-LARGEST_METRIC, LARGEST_METRIC) | NOT_FINITE, min_size=6, max_size=6))
def test_a_matrix_survives_json_and_its_json_is_strict(planned_once, values):
    planned = planned_once()
    names = [metric.name for metric in planned.tasks[0].record.metrics]
    found = {
        (cell.training.label, cell.training.seed, cell.key): CellResult.of(
            cell, Status.OK, metrics=dict.fromkeys(names, value)
        )
        for cell, value in zip(planned.cells, values, strict=True)
    }
    results = results_of(json.loads(json.dumps(describe(planned), allow_nan=False)), found)
    assert repr(results.cells) == repr(tuple(found.values()))
    written = json.loads(json.dumps(results.to_json(), allow_nan=False))["cells"]
    for cell, value in zip(written, values, strict=True):
        assert cell["metrics"] == dict.fromkeys(names, value if math.isfinite(value) else None)


@pytest.fixture(scope="module")
def planned_once(registry, digits):
    config = BASE | {"tasks": ["reconstruction"]}
    found = plan(load_benchmark(registry, None, {(key,): value for key, value in config.items()}), digits.info)
    return lambda: found


@pytest.fixture
def check_mistakes(registry, tmp_path):
    """check_mistakes(config): it is valid, or each line of the error names the file and says something."""
    file = tmp_path / "bench.yaml"

    def check(config):
        file.write_text(json.dumps(config), encoding="utf-8")
        try:
            assert isinstance(load_benchmark(registry, file), Benchmark)
            return
        except AebenchError as error:
            lines = error.lines
        for line in lines:
            assert line.isprintable()
            assert line.startswith(f"{file}: ")
            assert line.removeprefix(f"{file}: ").strip(" :")
        assert len(set(lines)) == len(lines)

    return check


@bounded(100)
@given(VALUES | st.dictionaries(st.sampled_from(sorted(BASE)) | st.text(max_size=5), VALUES, max_size=5))
def test_any_configuration_is_valid_or_has_one_line_per_mistake(check_mistakes, config):
    check_mistakes(config)


def places(value, path=()):
    """The paths of all values in a configuration."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from places(inner, (*path, key))


EDITS = st.tuples(st.integers(0), VALUES, st.sampled_from(["replace", "delete", "add"]))


@bounded(200)
@given(st.lists(EDITS, min_size=1, max_size=3))
def test_a_configuration_with_mistakes_is_valid_or_has_one_line_per_mistake(check_mistakes, edits):
    config = copy.deepcopy(BASE)
    for place, value, verb in edits:
        paths = list(places(config))
        if not paths:
            break
        *path, last = paths[place % len(paths)]
        section = config
        for key in path:
            section = section[key]
        if verb == "delete":
            del section[last]
        elif verb == "add" and isinstance(section, dict):
            section[str(value)[:20]] = value
        else:
            section[last] = value
    check_mistakes(config)
