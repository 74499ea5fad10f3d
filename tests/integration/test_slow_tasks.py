"""Tasks that are slow to start: warmed up once, in one process beside the trainings, and no danger to the others."""

PLUGIN = """
import os, signal
from aebench.contracts import Evaluation, Metric, TaskRecord, hookimpl

warmed = 0

def warm_up(data):
    global warmed
    warmed += data.sizes[2] > 0

def dies(data): os.kill(os.getpid(), signal.SIGKILL)
def raises(data): raise RuntimeError("not installed")

def where(model, data, context): return Evaluation({"pid": os.getpid(), "warmed": warmed})
def kills(model, data, context): os.kill(os.getpid(), signal.SIGKILL)

METRICS = (Metric("pid", "P", higher_is_better=False, primary=True), Metric("warmed", "W", higher_is_better=False))

@hookimpl
def aebench_tasks():
    return [
        TaskRecord(name=name, title="T", summary="-", evaluate=evaluate, metrics=METRICS, warm_up=warm_up)
        for name, evaluate, warm_up in (
            ("slow", where, warm_up), ("cold", where, raises), ("deadly", kills, warm_up), ("stillborn", where, dies)
        )
    ] + [TaskRecord(name="quick", title="T", summary="-", evaluate=where, metrics=METRICS)]
"""

MODELS = ("shallow", "vanilla", "vae")


def _run(home, distribution, tasks, code=0):
    env = distribution("slow_plugin", PLUGIN)
    home.run("run", "--models", ",".join(MODELS), "--epochs", 1, "--jobs", 2, "--tasks", tasks, code=code, **env)
    return {(cell["model"], cell["task"]): cell for cell in home.results()["cells"]}


def test_one_process_warms_up_once_and_evaluates_every_model(home, distribution):
    cells = _run(home, distribution, "slow,cold,quick")
    found = {task: [cells[model, task]["metrics"] for model in MODELS] for task in ("slow", "cold", "quick")}
    assert [metrics["warmed"] for metrics in found["slow"]] == [1, 1, 1]
    assert [metrics["warmed"] for metrics in found["quick"]] == [0, 0, 0]
    pids = {task: {metrics["pid"] for metrics in values} for task, values in found.items()}
    assert len(pids["slow"]) == 1
    assert pids["cold"] == pids["slow"]  # its own warm-up failed, which is for its evaluation to report
    assert not pids["slow"] & pids["quick"]


def test_an_evaluation_that_kills_its_process_costs_its_own_cell(home, distribution):
    cells = _run(home, distribution, "deadly,quick", code=1)
    assert {cell["status"] for (_, task), cell in cells.items() if task == "quick"} == {"ok"}
    assert all(
        "the worker process died (SIGKILL" in cell["reason"] for (_, task), cell in cells.items() if task == "deadly"
    )


def test_where_a_warm_up_kills_its_process_slow_tasks_start_cold(home, distribution):
    cells = _run(home, distribution, "stillborn,slow,quick")
    assert len(cells) == 9
    for cell in cells.values():
        assert (cell["status"], cell["metrics"]["warmed"]) == ("ok", 0)
