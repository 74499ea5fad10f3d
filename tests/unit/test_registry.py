"""The registry: a broken plugin becomes a failure record and affects no other plugin."""

import re
import sys
import tomllib
from importlib.metadata import EntryPoint, version
from pathlib import Path

import pytest

from aebench import __version__
from aebench.contracts import Metric, TaskRecord
from aebench.errors import AebenchError
from aebench.registry import guard
from aebench.registry.loading import create_registry
from aebench.registry.side_effects import ProcessState
from aebench.report.listing import describe_registry

ROOT = Path(__file__).parents[2]
GOOD = """
from aebench.contracts import Autoencoder, AutoencoderRecord, hookimpl
@hookimpl
def aebench_autoencoders():
    return [AutoencoderRecord(name="{name}", title="T", summary="s", build=Autoencoder)]
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
def test_a_broken_plugin_becomes_a_failure_and_the_others_are_loaded(plugin, source, stage, message):
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


def test_a_name_clash_names_both_distributions(plugin):
    registry = create_registry([plugin("a", GOOD.format(name="same")), plugin("b", GOOD.format(name="same"))])
    assert registry.autoencoders["same"].distribution == "plugin_under_test_a"
    (failure,) = registry.failures
    assert failure.stage == "collect"
    assert "plugin_under_test_a" in failure.message
    assert "plugin_under_test_b" in failure.message


PRINTS = """
import ctypes, os, sys
print('from Python')
os.write(1, b'from a descriptor\\n')
libc = ctypes.CDLL(None)
libc.puts(b'from C')
os.system('echo from a process >&2')
"""


def test_what_a_plugin_prints_is_kept_with_its_failure_and_not_shown(plugin, capfd):
    print("before")
    registry = create_registry([plugin("a", PRINTS + "raise RuntimeError('no')"), plugin("b", PRINTS)])
    print("after")
    (failure,) = registry.failures
    assert sorted(failure.output.splitlines()) == [
        "from C", "from Python", "from a descriptor", "from a process",
    ]  # fmt: skip
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("before\nafter\n", "")


def test_a_handler_that_a_plugin_made_while_it_was_loaded_still_writes_to_stderr(plugin, capfd):
    create_registry([plugin("a", "import sys\nkept = sys.stderr")])
    print("later", file=sys.modules["plugin_under_test_a"].kept)
    assert capfd.readouterr().err == "later\n"


CHANGES = {
    "import os; os.chdir('/')": "the working directory",
    "import os; os.environ['OMP_NUM_THREADS'] = '7'": "the environment variable OMP_NUM_THREADS",
    "import os; os.environ['MINE'] = '1'": "the environment variable MINE",
    "import os; del os.environ['HOME']": "the environment variable HOME",
    "import torch; torch.set_default_dtype(torch.float64)": "torch's default dtype",
    "import torch; torch.set_default_device('meta')": "torch's default device",
    "import torch; torch.set_num_threads(3)": "torch's number of threads",
    "import torch; torch.set_grad_enabled(False)": "whether torch records gradients",
    "import torch; torch.use_deterministic_algorithms(True)": "whether torch uses deterministic algorithms",
    "import torch; torch.set_float32_matmul_precision('medium')": "the precision of PyTorch's float32 products",
    "import torch; torch.backends.fp32_precision = 'tf32'": "the precision of PyTorch's float32 products",
    "import torch; torch.backends.cudnn.benchmark = True": "torch.backends.cudnn.benchmark",
    "import torch; torch.set_flush_denormal(True)": "whether torch flushes subnormal numbers to zero",
    "import torch; torch.manual_seed(0)": "the state of torch's global random generator",
    "import numpy; numpy.random.rand()": "the state of numpy's global random generator",
    "import random; random.seed(3)": "the state of random's global random generator",
    "import numpy; numpy.seterr(all='raise')": "NumPy's handling of numerical errors",
    "import sys; sys.stdout = None": "sys.stdout",
}


@pytest.mark.parametrize("source", CHANGES)
@pytest.mark.parametrize("ending", ["", "\nraise RuntimeError('no')"])
def test_what_a_plugin_changes_for_the_process_is_restored_and_named(plugin, monkeypatch, source, ending):
    monkeypatch.setenv("HOME", "/home")  # so that it is there to be deleted
    before = ProcessState()
    registry = create_registry([plugin("a", source + ending), plugin("b", GOOD.format(name="good"))])
    assert registry.changed_by_loading() == {"plugin_under_test_a": [CHANGES[source]]}
    assert before.restore() == ()
    assert list(registry.autoencoders) == ["good"]


def test_what_a_plugin_changes_before_it_times_out_is_restored(plugin, monkeypatch):
    monkeypatch.setenv("AEBENCH_PLUGIN_SECONDS", "0.5")
    before = ProcessState()
    registry = create_registry([plugin("a", "import os, time\nos.chdir('/')\nwhile True: time.sleep(0.01)")])
    assert registry.changed_by_loading() == {"plugin_under_test_a": ["the working directory"]}
    assert before.restore() == ()


def test_no_installed_plugin_has_side_effects(registry):
    assert registry.side_effects == ()


def test_a_keyboard_interrupt_passes_through(plugin):
    with pytest.raises(KeyboardInterrupt):
        create_registry([plugin("a", "raise KeyboardInterrupt")])


UNAVAILABLE = """
from aebench.contracts import UnavailableRecord, hookimpl
@hookimpl
def aebench_unavailable():
    return [UnavailableRecord(name="big_vae", title="Big VAE", reason="needs two devices")]
"""


def test_an_unavailable_model_is_listed_with_its_reason_and_is_not_a_model(plugin):
    registry = create_registry([plugin("a", UNAVAILABLE)])
    assert registry.autoencoders == {}
    (listed,) = describe_registry(registry)["unavailable"]
    assert (listed["name"], listed["reason"]) == ("big_vae", "needs two devices")
    with pytest.raises(AebenchError, match=r"^model 'big_vae' is unavailable: it needs two devices$"):
        registry.autoencoder("big_vae")


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


def test_an_unknown_name_is_answered_with_the_nearest_one_and_all_names(registry):
    models, tasks = ", ".join(registry.autoencoders), ", ".join(registry.tasks)
    with pytest.raises(AebenchError) as misspelt:
        registry.autoencoder("vea")
    assert str(misspelt.value) == (
        f"model 'vea' is not registered; did you mean 'vae'? Available: {models}. See 'aebench list models'."
    )
    with pytest.raises(AebenchError) as unknown:
        registry.task("xyz")
    assert str(unknown.value) == f"task 'xyz' is not registered. Available: {tasks}. See 'aebench list tasks'."


def test_every_plugin_in_the_requirements_is_registered_by_its_distribution(registry):
    installed = re.findall(r"^-e (\./plugins/.*)$", (ROOT / "requirements.txt").read_text(), flags=re.MULTILINE)
    projects = [tomllib.loads((ROOT / path / "pyproject.toml").read_text())["project"] for path in installed]
    registered = (registry.autoencoders, registry.tasks, registry.datasets, registry.studies)
    distributions = {plugin.distribution for kind in registered for plugin in kind.values()}
    assert registry.failures == ()
    assert {project["name"] for project in projects} <= distributions


def test_every_entry_point_of_the_tasks_but_that_of_samplers_registers_the_task_of_its_name(registry):
    project = tomllib.loads((ROOT / "tasks" / "pyproject.toml").read_text())["project"]
    own = {name for name, plugin in registry.tasks.items() if plugin.distribution == project["name"]}
    assert own == set(project["entry-points"]["aebench"]) - {"samplers"}
    assert {plugin.distribution for plugin in registry.samplers.values()} == {project["name"]}


@pytest.mark.parametrize(
    ("requirement", "message"),
    [
        ("aebench<0.1", f"needs aebench<0.1, this is aebench {__version__}"),
        ("surely-not-installed>=2", "needs 'surely-not-installed>=2', which is not installed"),
    ],
)
def test_a_distribution_whose_requirements_are_not_met_is_not_imported(tmp_path, monkeypatch, requirement, message):
    (tmp_path / "choosy.py").write_text("raise RuntimeError('imported')")
    metadata = tmp_path / "choosy-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: choosy\nVersion: 1.0\nRequires-Dist: {requirement}\n"
    )
    (metadata / "entry_points.txt").write_text("[aebench]\nchoosy = choosy\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("AEBENCH_LOAD_PLUGINS", "choosy")
    (failure,) = create_registry().failures
    assert (failure.distribution, failure.version, failure.stage) == ("choosy", "1.0", "requirements")
    assert message in failure.message


def test_a_plugin_that_hangs_times_out(plugin, monkeypatch):
    monkeypatch.setenv("AEBENCH_PLUGIN_SECONDS", "1")
    (failure,) = create_registry([plugin("a", "while True: pass")]).failures
    assert (failure.stage, failure.message) == ("load", "timed out after 1 s (AEBENCH_PLUGIN_SECONDS sets the limit)")


def test_a_plugin_that_ends_at_its_interruption_has_timed_out(plugin, monkeypatch):
    def interrupt_and_wait(thread, interrupt=guard._interrupt):
        interrupt(thread)
        thread.join()

    monkeypatch.setattr(guard, "_interrupt", interrupt_and_wait)
    test_a_plugin_that_hangs_times_out(plugin, monkeypatch)


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
