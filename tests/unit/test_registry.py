"""The registry: a plugin that fails becomes data, and costs no other plugin."""

import sys
import tomllib
from importlib.metadata import EntryPoint, version
from pathlib import Path

import pytest

from aebench.contracts import Metric, TaskRecord
from aebench.errors import AebenchError
from aebench.registry.loading import create_registry

REPOSITORY = Path(__file__).parents[2]

GOOD = """
from aebench.contracts import Autoencoder, AutoencoderRecord, hookimpl
@hookimpl
def aebench_autoencoders():
    return [AutoencoderRecord(name="{name}", title="T", summary="s", build=lambda *given: Autoencoder(*given[:2]))]
"""


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """plugin(name, source): an entry point to a module with this source."""
    monkeypatch.syspath_prepend(tmp_path)
    written = []

    def plugin(name, source):
        module = f"plugin_under_test_{name}"
        (tmp_path / f"{module}.py").write_text(source)
        written.append(module)
        return EntryPoint(name, module, "aebench")

    yield plugin
    for module in written:
        sys.modules.pop(module, None)


@pytest.mark.parametrize(
    ("source", "stage", "message"),
    [
        ("import nothing_like_this", "load", "ModuleNotFoundError: No module named 'nothing_like_this'"),
        ("raise RuntimeError('no')", "load", "RuntimeError: no"),
        ("import sys; sys.exit(3)", "load", "SystemExit: 3"),
        (
            "from aebench.contracts import hookimpl\n@hookimpl\ndef aebench_tasks(config): return []",
            "register",
            "Argument",
        ),
        (
            "from aebench.contracts import hookimpl\n@hookimpl\ndef aebench_models(): return []",
            "check",
            "aebench_models",
        ),
        ("from aebench.contracts import hookimpl\n@hookimpl\ndef aebench_tasks(): return 1 / 0", "collect", "Zero"),
        (
            "from aebench.contracts import hookimpl\n@hookimpl\ndef aebench_tasks(): return None",
            "collect",
            "return a list",
        ),
        (
            "from aebench.contracts import hookimpl\n@hookimpl\ndef aebench_tasks(): return ['x']",
            "collect",
            "TaskRecords",
        ),
        (GOOD.format(name="Not A Name"), "collect", "name"),
        (
            GOOD.format(name="vanilla2") + "\nmine = 1\n" + GOOD.format(name="x").replace("return [", "return [1, "),
            "collect",
            "int",
        ),
    ],
)
def test_a_bad_plugin_becomes_a_failure_and_costs_no_other(plugin, source, stage, message):
    before, bad, after = (
        plugin("a", GOOD.format(name="first")),
        plugin("b", source),
        plugin("c", GOOD.format(name="last")),
    )
    registry = create_registry([before, bad, after])
    assert list(registry.autoencoders) == ["first", "last"]
    (failure,) = registry.failures
    assert (failure.entry_point, failure.stage) == ("b", stage)
    assert message in failure.message
    assert "Traceback" in failure.traceback


def test_a_name_already_taken_names_both_distributions(plugin):
    registry = create_registry([plugin("a", GOOD.format(name="same")), plugin("b", GOOD.format(name="same"))])
    assert registry.autoencoders["same"].distribution == "plugin_under_test_a"
    (failure,) = registry.failures
    assert failure.stage == "collect"
    assert "plugin_under_test_a" in failure.message
    assert "plugin_under_test_b" in failure.message


def test_what_a_plugin_prints_does_not_reach_stdout(plugin, capsys):
    create_registry([plugin("a", "print('hello')")])
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "hello\n")


def test_a_keyboard_interrupt_passes_through(plugin):
    with pytest.raises(KeyboardInterrupt):
        create_registry([plugin("a", "raise KeyboardInterrupt")])


def test_a_record_knows_its_plugin(plugin, registry):
    alone = create_registry([plugin("a", GOOD.format(name="one"))]).autoencoders["one"]
    assert (alone.module, alone.distribution, alone.version) == ("plugin_under_test_a", "plugin_under_test_a", "")
    task = registry.task("sampling")
    assert (task.module, task.distribution) == ("aebench_tasks.sampling", "aebench-tasks")
    assert task.version == version("aebench-tasks")


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ("", []),
        ("aebench-vae", ["vae"]),
        ("aebench_vq_vae, aebench-deep", ["vanilla", "vq_vae"]),
    ],
)
def test_plugins_can_be_chosen_by_distribution(monkeypatch, chosen, expected):
    monkeypatch.setenv("AEBENCH_LOAD_PLUGINS", chosen)
    registry = create_registry()
    assert list(registry.autoencoders) == expected
    assert registry.tasks == {}
    assert "digits" in registry.datasets
    assert registry.failures == ()


def test_a_chosen_plugin_that_is_not_installed_is_a_failure(monkeypatch):
    monkeypatch.setenv("AEBENCH_LOAD_PLUGINS", "aebench-nope")
    (failure,) = create_registry().failures
    assert failure.stage == "select"
    assert "aebench-nope" in failure.message


def test_unknown_names_get_the_nearest_and_the_list(registry):
    models, tasks = (", ".join(known) for known in (registry.autoencoders, registry.tasks))
    with pytest.raises(
        AebenchError, match=rf"model 'vea' is not registered; did you mean 'vae'\? Available: {models}\."
    ):
        registry.autoencoder("vea")
    with pytest.raises(AebenchError, match=rf"task 'xyz' is not registered\. Available: {tasks}\."):
        registry.task("xyz")


def test_every_distribution_of_the_repository_registers_something(registry):
    assert registry.failures == ()
    kinds = (registry.autoencoders, registry.tasks, registry.datasets, registry.studies)
    found = {plugin.distribution for kind in kinds for plugin in kind.values()}
    for file in (*REPOSITORY.glob("plugins/*/pyproject.toml"), REPOSITORY / "tasks" / "pyproject.toml"):
        assert tomllib.loads(file.read_text())["project"]["name"] in found
    assert "vae" in registry.autoencoders
    assert "reconstruction" in registry.tasks
    assert "digits" in registry.datasets


def test_names_that_would_break_the_store_are_refused():
    metric = Metric("a", "A", higher_is_better=False, primary=True)
    with pytest.raises(ValueError, match="is taken in the store"):
        TaskRecord(name="training", title="T", summary="s", evaluate=print, metrics=(metric,))
    with pytest.raises(ValueError, match="a metric's name must match"):
        Metric("a (b)", "A", higher_is_better=False)
    with pytest.raises(ValueError, match="exactly one"):
        TaskRecord(
            name="x", title="T", summary="s", evaluate=print, metrics=(Metric("a", "A", higher_is_better=False),)
        )
