"""AEBENCH_LOAD_PLUGINS limits what is imported, in the driver and in every worker process."""

import json

PLUGIN = """
import os
from pathlib import Path
Path(os.environ["IMPORTED"]).open("a").write(f"{__name__} in {os.getpid()}\\n")

from aebench.contracts import (
    Autoencoder, AutoencoderRecord, BackboneRecord, Evaluation, Metric, SamplerRecord, TaskRecord, hookimpl
)
from aebench.networks import DENSE

def build(spec):
    return Autoencoder(spec, spec.encoder(spec.latent_dim), spec.decoder())

def evaluate(model, data, context):
    return Evaluation({"a": 1.0})

@hookimpl
def aebench_autoencoders():
    return [AutoencoderRecord(name=f"{__name__}_model", title="T", summary="s", build=build)]

@hookimpl
def aebench_tasks():
    a = Metric("a", "A", higher_is_better=False, primary=True)
    return [TaskRecord(name=f"{__name__}_task", title="T", summary="s", evaluate=evaluate, metrics=(a,))]

@hookimpl
def aebench_samplers():
    return [SamplerRecord(name=f"{__name__}_sampler", title="T", summary="s", fit=lambda model, codes, generator: None)]

@hookimpl
def aebench_backbones():
    return [BackboneRecord(name=f"{__name__}_backbone", title="T", summary="s",
                           encoder=DENSE.encoder, decoder=DENSE.decoder)]
"""


def test_a_plugin_that_is_not_selected_is_imported_in_no_process(home, distribution, tmp_path):
    distribution("left_out", PLUGIN)
    env = distribution("chosen", PLUGIN) | {"IMPORTED": str(tmp_path / "imported"), "AEBENCH_LOAD_PLUGINS": "chosen"}
    home.run("run", "--epochs", 1, "--device", "cpu", **env)
    assert {(cell["model"], cell["task"], cell["status"]) for cell in home.results()["cells"]} == {
        ("chosen_model", "chosen_task", "ok")
    }
    imports = [line.split() for line in (tmp_path / "imported").read_text().splitlines()]
    assert {module for module, *_ in imports} == {"chosen"}
    assert len({process for *_, process in imports}) > 1  # the driver and a worker
    listed = json.loads(home.run("list", "--json", **env).stdout)
    of_core = {"aebench"}
    for kind in ("models", "tasks", "samplers", "backbones"):
        assert {entry["distribution"] for entry in listed[kind]} - of_core == {"chosen"}
    refused = home.run("run", "--models", "left_out_model", code=2, **env)
    assert "model 'left_out_model' is not registered" in refused.stderr
    assert "left_out" not in (tmp_path / "imported").read_text()


def test_without_the_variable_both_are_imported(home, distribution, tmp_path):
    distribution("left_out", PLUGIN)
    env = distribution("chosen", PLUGIN) | {"IMPORTED": str(tmp_path / "imported")}
    home.run("list", "models", **env)
    assert {line.split()[0] for line in (tmp_path / "imported").read_text().splitlines()} == {"chosen", "left_out"}
