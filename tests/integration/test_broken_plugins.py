"""A broken plugin affects no other: pip installs broken distributions."""

import pytest

from .conftest import ROOT

# distribution -> (stage, part of the message) in the list of failures
FAILURES = {
    "broken-raises-at-import": ("load", "RuntimeError: half a plugin"),
    "broken-exits-at-import": ("load", "SystemExit: 0"),
    "broken-raises-in-hook": ("collect", "KeyError: 'no such thing'"),
    "broken-hangs-in-hook": ("collect", "timed out after 3 s"),
    "broken-malformed-record": ("collect", "title"),
    "broken-name-taken": ("collect", "'vae' of broken-name-taken 1.2.3 is already registered by aebench-vae"),
    "broken-missing-dependency": ("requirements", "needs 'aebench-surely-not-installed>=2', which is not installed"),
    "broken-older-aebench": ("requirements", "needs aebench<0.2,>=0.1, this is aebench 0.2"),
    "broken-newer-aebench": ("requirements", "needs aebench>=99, this is aebench 0.2"),
}
LIMIT = {"AEBENCH_PLUGIN_SECONDS": "3"}


@pytest.fixture(scope="module")
def listings(venv, tmp_path_factory):
    """The output of `aebench list` before and after pip installs all broken plugins; they are removed afterwards."""
    folder = tmp_path_factory.mktemp("lists")
    before = venv.json(folder, "list")
    packages = sorted((ROOT / "tests" / "broken_plugins").iterdir())
    venv.pip("install", *packages)
    yield before, venv.json(folder, "list", **LIMIT)
    venv.pip("uninstall", "-y", *(f"broken-{package.name.replace('_', '-')}" for package in packages))


def test_each_broken_plugin_is_listed_as_a_failure(listings):
    before, after = listings
    assert before["failures"] == []
    found = {failure["distribution"]: failure for failure in after["failures"]}
    assert set(found) == set(FAILURES)
    for distribution, (stage, message) in FAILURES.items():
        assert (found[distribution]["version"], found[distribution]["stage"]) == ("1.2.3", stage)
        assert message in found[distribution]["message"]


def test_no_other_plugin_is_affected(listings):
    before, after = listings
    for kind in ("models", "tasks", "datasets"):
        assert [entry for entry in after[kind] if entry["distribution"].startswith("aebench")] == before[kind]
    own = {entry["name"] for entry in after["models"]} - {entry["name"] for entry in before["models"]}
    assert "talkative" in own
    assert "malformed" not in own


def test_failures_are_in_the_table(venv, listings, tmp_path):
    table = venv.aebench(tmp_path, "list", "failures", **LIMIT)
    for distribution in FAILURES:
        assert distribution in table.stdout
    assert "hello from a plugin" not in table.stdout + table.stderr


def test_a_model_that_fails_in_a_job_costs_only_its_own_cells(venv, listings, tmp_path):
    reasons = {
        "fails_in_build": "training: ValueError: cannot be built",
        "fails_in_training": "training: ValueError: cannot be trained",
        "becomes_nan": "training: the training loss became nan in epoch 1",
        "runs_out_of_memory": "training: out of memory: ",
        "exits_in_training": "training: SystemExit: 3",
        "hangs_in_training": "training: timed out after 20 s",
        "trains_too_long": "training: the stages of the model ask for 10 epochs, the budget is 1",
        "fails_in_evaluation": "ValueError: cannot be evaluated",
    }
    models = ",".join(["vanilla", "talkative", *reasons])
    arguments = ("--epochs", 1, "--cell-timeout", 20, "--models", models, "--tasks", "reconstruction,fails_always")
    done = venv.aebench(tmp_path, "run", *arguments, code=1, **LIMIT)
    assert "broken-hangs-in-hook 1.2.3 is not available" in done.stderr
    cells = {(cell["model"], cell["task"]): cell for cell in venv.json(tmp_path, "results", **LIMIT)["cells"]}
    assert len(cells) == 2 * (len(reasons) + 2)
    for (model, task), cell in cells.items():
        if task == "fails_always":
            assert cell["status"] == "failed"
        elif model in reasons:
            assert cell["status"] == "failed"
            assert reasons[model] in cell["reason"]
        else:
            assert cell["status"] == "ok"


def test_an_evaluation_that_hangs_costs_only_its_own_cell(venv, listings, tmp_path):
    arguments = ("--epochs", 1, "--cell-timeout", 20, "--models", "vanilla", "--tasks", "reconstruction,hangs_always")
    venv.aebench(tmp_path, "run", *arguments, code=1, **LIMIT)
    cells = {cell["task"]: cell for cell in venv.json(tmp_path, "results", **LIMIT)["cells"]}
    assert cells["reconstruction"]["status"] == "ok"
    assert cells["hangs_always"]["reason"] == "timed out after 20 s"
