"""Names become keys in the store and file names: none that could be a path, a filter or a second line is accepted.

Numbers that nothing can be computed with are not accepted, either.
"""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from importlib.metadata import EntryPoint

import pytest
import torch
from mlflow import MlflowClient
from pydantic import ValidationError

from aebench import contracts
from aebench.contracts import Autoencoder, Claim, Evaluation, Metric
from aebench.errors import AebenchError
from aebench.evaluation.evaluate import evaluate
from aebench.planning.benchmark import load_benchmark
from aebench.registry.loading import RECORD_OF_HOOK, create_registry
from aebench.scaffold import write_package
from aebench.tracking.artifacts import log_files
from aebench.tracking.connection import check_experiment

BAD = (
    "../x",
    "a/b",
    "a'b",
    "a\nb",
    "a\n",
    "",
    "a" * 300,
    "a" * 65,
    ".",
    "..",
    "/etc",
    "a\\b",
    "a.b",
    "A",
    "a b",
    "a\0",
)
ERROR = Metric("error", "Error", higher_is_better=False, primary=True)
FIELDS = {
    "AutoencoderRecord": {"build": Autoencoder},
    "TaskRecord": {"evaluate": lambda model, data, context: Evaluation({"error": 0.0}), "metrics": (ERROR,)},
    "DatasetRecord": {"load": lambda params, folder: None},
    "BackboneRecord": {"encoder": lambda shape, width: None, "decoder": lambda dim, shape: None},
    "SamplerRecord": {"fit": lambda model, codes, generator: None},
    "StudyRecord": {"procedures": (contracts.Procedure("own", "Own", {}),)},
    "UnavailableRecord": {"reason": "needs what there is not"},
}
KINDS = sorted({record.__name__ for record in RECORD_OF_HOOK.values()})


def record(kind, **given):
    """A valid record of this kind, with what is given changed."""
    summary = {} if kind == "UnavailableRecord" else {"summary": "s"}
    return getattr(contracts, kind)(**{"name": "mine", "title": "T", **summary, **FIELDS[kind], **given})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", BAD)
def test_a_record_refuses_the_name(kind, name):
    assert record(kind).name == "mine"
    with pytest.raises(ValidationError, match="name"):
        record(kind, name=name)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("title", ["", "a\nb", "\x1b[2J", "a\u2028b"])
def test_a_record_refuses_a_title_that_is_not_one_line(kind, title):
    with pytest.raises(ValidationError, match="title"):
        record(kind, title=title)


@pytest.mark.parametrize("name", BAD)
def test_metrics_claims_and_profiles_of_tasks_refuse_the_name(name):
    with pytest.raises(ValueError, match="a metric's name must match"):
        Metric(name, "Error", higher_is_better=False)
    with pytest.raises(ValueError, match="a claim's name must match"):
        Claim(name, "It holds.", lambda measured: measured("error", "vae"))
    with pytest.raises(ValidationError, match="profile"):
        record("TaskRecord", profile=name)


PLUGIN = """
from aebench.contracts import Autoencoder, AutoencoderRecord, hookimpl

@hookimpl
def aebench_autoencoders():
    return [AutoencoderRecord.{make}(name={name!r}, title="T", summary="s", build=Autoencoder)]
"""


@pytest.mark.parametrize("make", ["__call__", "model_construct"])
@pytest.mark.parametrize("name", BAD)
def test_a_plugin_that_registers_the_name_is_not_loaded(tmp_path, monkeypatch, name, make):
    monkeypatch.syspath_prepend(tmp_path)
    source = PLUGIN.format(name=name, make=make).replace(".__call__", "")
    (tmp_path / "plugin_with_a_bad_name.py").write_text(source)
    try:
        registry = create_registry([EntryPoint("bad", "plugin_with_a_bad_name", "aebench")])
    finally:
        sys.modules.pop("plugin_with_a_bad_name", None)
    assert registry.autoencoders == {}
    assert [failure.stage for failure in registry.failures] == ["collect"]


@pytest.mark.parametrize("name", BAD)
def test_a_configuration_refuses_the_name_of_a_label_and_of_a_profile(registry, name):
    with pytest.raises(AebenchError, match=r"\A--models: string should .*\Z"):
        load_benchmark(registry, None, {("models",): [{"name": "vae", "label": name}]})
    with pytest.raises(AebenchError, match=r"\A--profiles: string should .*\Z"):
        load_benchmark(registry, None, {("profiles",): {name: {"latent_dim": 2}}})


@pytest.mark.parametrize("name", [*BAD, "none", "true"])
def test_a_new_plugin_cannot_have_the_name(registry, tmp_path, name):
    with pytest.raises(AebenchError, match=r"^a name must match .*$"):
        write_package("autoencoder", name, tmp_path, registry)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [name for name in BAD if name not in ("a" * 65, "A")])
@pytest.mark.parametrize("kind", ["images", "figures", "tables"])
def test_a_task_that_returns_a_file_of_this_name_fails(lay_out, build, digits, name, kind):
    (cell,) = lay_out(models=["shallow"], tasks=["reconstruction"]).cells
    task = record("TaskRecord", evaluate=lambda *_: Evaluation({"error": 0.0}, **{kind: {name: None}}))
    with pytest.raises(AebenchError, match=r"^task 'mine' returned a file named .*$"):
        evaluate(task, replace(cell, params={}), build("shallow"), digits, torch.device("cpu"), lambda: None, None, {})


@pytest.mark.parametrize("name", ["../x", "a/../../x", "a//b", "", ".", "..", "/etc/x", "a/"])
def test_a_file_of_a_run_is_never_written_elsewhere(name):
    with pytest.raises(ValueError, match="is not the path of a file in a run"):
        log_files(MlflowClient("sqlite://"), "run", {"folder/right.txt": b"", name: b"x"})


@pytest.mark.parametrize("name", ["", " ", "a\nb", "a\0b", "\x1b[2J", "a" * 300])
def test_an_experiment_cannot_have_the_name(name):
    with pytest.raises(AebenchError, match=r"^an experiment's name must have 1 to 250 characters on one line, got .*$"):
        check_experiment(name)


@pytest.mark.parametrize(("value", "stored"), [(2e100, math.inf), (-1e300, -math.inf), (1e100, 1e100), (-1.5, -1.5)])
def test_a_metric_that_statistics_cannot_square_is_infinite(lay_out, build, digits, value, stored):
    (cell,) = lay_out(models=["shallow"], tasks=["reconstruction"]).cells
    task = record("TaskRecord", evaluate=lambda *_: Evaluation({"error": value}))
    spec = replace(cell, params={})
    result, _ = evaluate(task, spec, build("shallow"), digits, torch.device("cpu"), lambda: None, None, {})
    assert result.metrics == {"error": stored}
