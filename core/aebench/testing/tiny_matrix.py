"""The check that trains a model for two epochs and evaluates every installed task on it."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch

from aebench.evaluation.reference_classifier import save_reference_classifier
from aebench.execution.artifacts import FolderStore
from aebench.execution.events import Failed, Succeeded
from aebench.execution.jobs import DATA, REFERENCE_CLASSIFIER, build_jobs
from aebench.execution.run_job import JobRunner
from aebench.execution.scheduler import Scheduler
from aebench.planning.benchmark import load_benchmark
from aebench.planning.planner import plan
from aebench.planning.specs import EvaluationSpec, TrainingSpec
from aebench.testing.autoencoder_checks.model_under_test import AutoencoderUnderTest
from aebench.testing.checks import Nonconformance, check, expect
from aebench.testing.in_process import InProcessExecutor
from aebench.testing.small_digits import small_digits, small_reference_classifier

EPOCHS = 2


@check("aebench.contracts.TaskRecord")
def runs_through_every_task(subject: AutoencoderUnderTest) -> int:
    """A tiny matrix of two epochs on digits and every installed task ends with all cells ok or skipped."""
    data = small_digits()
    benchmark = load_benchmark(subject.registry, None, {("training", "epochs"): EPOCHS})
    cells = [cell for cell in plan(benchmark, data.info).cells if cell.skip is None]
    with tempfile.TemporaryDirectory() as folder:
        artifacts = FolderStore(Path(folder))
        inputs = {
            DATA: artifacts.put_written(data.save),
            REFERENCE_CLASSIFIER: artifacts.put_written(
                lambda file: save_reference_classifier(small_reference_classifier(), file)
            ),
        }
        jobs = build_jobs(cells, inputs, {}, (), timeout=None)
        runner = JobRunner(subject.registry, artifacts, torch.device("cpu"))
        events = list(Scheduler(jobs, InProcessExecutor(runner)).run())
    specs = {job.id: job.spec for job in jobs}
    failures = {event.job_id: event for event in events if isinstance(event, Failed)}
    for job_id, spec in specs.items():
        if isinstance(spec, TrainingSpec) and job_id in failures:
            raise Nonconformance("the training to succeed", failures[job_id].error)
    failed = [f"{spec.task}: {failures[job_id].error}" for job_id, spec in specs.items()
              if isinstance(spec, EvaluationSpec) and job_id in failures]  # fmt: skip
    expect(not failed, "every task to evaluate the model", "; ".join(failed))
    return sum(isinstance(event, Succeeded) for event in events)
