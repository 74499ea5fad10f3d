"""What a run shows in a terminal, and prints where there is none."""

import io

import pytest
from rich.console import Console

from aebench.planning.cells import CellResult, Status
from aebench.report.progress import RunProgress
from aebench.report.remaining_work import EPOCHS_PER_CELL, RemainingWork
from aebench.training.records import EpochLosses, TrainingResult

RESULT = TrainingResult((), seconds=1.25, images_seen=100, optimizer_steps=10, parameters=5)


def _losses(epoch, total):
    return EpochLosses(epoch, "end to end", total, total - 8, 8.0, total + 1)


@pytest.fixture
def matrix(lay_out):
    return lay_out(models=["vae"], tasks=["reconstruction", "sampling"])


def test_without_a_terminal_every_event_is_a_line(matrix):
    (training,) = matrix.trainings
    first, second = matrix.cells
    console = Console(width=100, file=io.StringIO())
    with RunProgress(console) as progress:
        progress.note("[a note]")
        progress.begin(matrix, [training], matrix.cells, reused=3)
        progress.training_started(training)
        progress.epoch_done(training, _losses(1, 99.0))
        progress.training_retried(training, "out of memory")
        progress.training_done(training, RESULT)
        progress.cell_done(CellResult.of(first, Status.OK, seconds=0.31))
        progress.cell_done(CellResult.of(second, Status.FAILED, reason="no [luck]"))
    assert console.file.getvalue().splitlines() == [
        "[a note]",
        f"{matrix.dataset.title}: 2 cells, 0 skipped, 3 already done; 2 to do, with 1 trainings",
        "[0/2] retry    vae · general · seed 0: out of memory",
        "[0/2] trained  vae · general · seed 0 (1.2 s)",
        "[1/2] ok       vae × reconstruction · seed 0 (0.3 s)",
        "[2/2] failed   vae × sampling · seed 0: no [luck]",
    ]


def test_a_terminal_shows_cells_trainings_losses_retries_and_failures(matrix):
    (training,) = matrix.trainings
    first, second = matrix.cells
    console = Console(width=100, force_terminal=True, file=io.StringIO())

    def frame():
        """What the display adds when it is next drawn; a line of text draws it."""
        console.file.seek(0)
        console.file.truncate()
        progress.note("-")
        return console.file.getvalue()

    with RunProgress(console) as progress:
        progress.begin(matrix, [training], matrix.cells, reused=0)
        assert "0/2" in frame()
        progress.training_started(training)
        assert "starting" in frame()
        progress.epoch_done(training, _losses(12, 98.765))
        shown = frame()
        assert "vae · general · seed 0" in shown
        assert "epoch 12, loss 98.77" in shown
        assert "left" in shown
        progress.training_retried(training, "out of memory")
        assert "vae · general" not in frame()
        progress.training_started(training)
        progress.epoch_done(training, _losses(3, 87.654))
        assert "epoch 3, loss 87.65" in frame()
        progress.training_done(training, RESULT)
        assert "evaluating" in frame()
        progress.cell_done(CellResult.of(first, Status.OK))
        shown = frame()
        assert "1/2" in shown
        assert "vae · general" in shown
        progress.cell_done(CellResult.of(second, Status.FAILED, reason="no luck"))
        shown = frame()
        assert "2/2" in shown
        assert "vae · general" not in shown


def test_a_terminal_prints_failures_and_retries_but_not_successes(matrix):
    (training,) = matrix.trainings
    console = Console(width=100, force_terminal=True, file=io.StringIO())
    with RunProgress(console) as progress:
        progress.begin(matrix, [training], matrix.cells, reused=0)
        progress.training_retried(training, "out of memory")
        progress.training_done(training, RESULT)
        progress.cell_done(CellResult.of(matrix.cells[0], Status.OK))
        progress.cell_done(CellResult.of(matrix.cells[1], Status.FAILED, reason="no luck"))
    printed = console.file.getvalue()
    assert "retry    vae · general · seed 0: out of memory" in printed
    assert "failed   vae × sampling · seed 0: no luck" in printed
    assert "trained " not in printed
    assert "ok  " not in printed


def test_remaining_work_counts_nothing_twice(lay_out):
    matrix = lay_out(models=["vae", "shallow"], tasks=["reconstruction", "latent_structure"])
    vae, shallow = matrix.trainings
    total = vae.epochs + EPOCHS_PER_CELL * len(matrix.cells)
    work = RemainingWork([vae], matrix.cells)  # the weights of the other are already there
    assert (work.left, work.done) == (total, 0)
    work.epoch_done(vae, 12)
    work.epoch_done(vae, 3)  # after a retry
    assert (work.left, work.done) == (total - 12, 12)
    of_vae = [CellResult.of(cell, Status.OK) for cell in matrix.cells if cell.training == vae]
    of_shallow = [CellResult.of(cell, Status.OK) for cell in matrix.cells if cell.training == shallow]
    assert [work.cell_done(result) for result in of_shallow] == [None, shallow]
    work.training_done(vae)
    assert work.left == EPOCHS_PER_CELL * len(of_vae)
    assert [work.cell_done(result) for result in of_vae] == [None, vae]
    assert (work.left, work.done) == (0, total)


def test_a_training_whose_cells_all_failed_leaves_no_work(matrix):
    work = RemainingWork(matrix.trainings, matrix.cells)
    for cell in matrix.cells:
        work.cell_done(CellResult.of(cell, Status.FAILED, reason="no luck"))
    assert work.left == 0
