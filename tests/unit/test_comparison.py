"""Published figures and claims compared with results whose answers are known."""

import re

import numpy as np
import pytest

from aebench.contracts import Claim, NotMeasured, Procedure, PublishedFigures, StudyRecord
from aebench.planning.cells import CellResult, Status
from aebench.report.pages import as_page
from aebench.report.tables import markdown_table
from aebench.results.comparison import MeasuredResults, compare
from aebench.results.matrix import MatrixResults, MetricInfo, TaskInfo, Variant
from aebench.results.statistics import confidence_interval

LOW = TaskInfo("low", "Low", (MetricInfo("bce", "B", "", False, True),))
HIGH = TaskInfo("high", "High", (MetricInfo("auroc", "A", "", True, True),))
ARTICLE = Procedure("article", "as published", {"bce": ("low", "bce")}, variants={"b": {"objective": "pixels"}})
SOUND = Procedure("sound", "sound", {"bce": ("low", "bce"), "auroc": ("high", "auroc")})
VALUES = {"a": (1.0, 1.2, 1.1), "b": (2.0, 2.1, 2.3), "b_pixels": (3.0, 3.1, 3.2)}


def matrix(seeds=3, dataset="mnist", rows=VALUES):
    cells = [
        CellResult(row, "low", seed, None, Status.OK, metrics={"bce": rows[row][seed]})
        for row in rows
        for seed in range(seeds)
    ]
    cells += [
        CellResult(row, "high", seed, held_out, Status.OK, metrics={"auroc": rows[row][seed] / 10})
        for row in rows
        for seed in range(seeds)
        for held_out in (1, 7)
    ]
    variants = {"a": Variant("a", {}), "b": Variant("b", {"objective": "codes"})}
    variants["b_pixels"] = Variant("b", {"objective": "pixels"})
    return MatrixResults(
        "0123", dataset, tuple(rows), (LOW, HIGH), tuple(cells), variants={row: variants[row] for row in rows}
    )


def study(*claims, procedures=(ARTICLE, SOUND)):
    published = (PublishedFigures("mnist", "bce", {"a": 1.1, "b": 9.0}), PublishedFigures("kmnist", "bce", {"a": 5.0}))
    return StudyRecord(
        name="study", title="A Study", summary="s", procedures=procedures, published=published, claims=claims
    )


def claim(holds):
    return Claim("c", "a claim", holds)


def verdicts(results, holds):
    return {verdict.procedure: verdict for verdict in compare(results, study(claim(holds))).verdicts}


def test_figures_under_the_studys_own_procedure():
    a, b = compare(matrix(), study()).figures
    assert a.measured == pytest.approx(1.1)
    assert a.difference == pytest.approx(0)
    assert a.inside
    assert b.measured == pytest.approx(3.1)  # the row with the variant's parameters
    assert b.difference == pytest.approx(3.1 / 9 - 1)
    assert b.inside is False
    assert b.high - b.low == pytest.approx(2 * 4.3027 * 0.1 * np.sqrt(1 + 1 / 3), rel=1e-4)


def test_figures_of_other_data_sets_are_left_out():
    assert [figure.published for figure in compare(matrix(dataset="kmnist"), study()).figures] == [5.0]
    assert compare(matrix(dataset="digits"), study()).figures == ()


def test_quantities_that_are_not_measured_have_a_reason():
    lacking = matrix(rows={"a": VALUES["a"], "b": VALUES["b"]})
    _, b = compare(lacking, study()).figures
    assert b.measured is None
    assert b.reason == "b with objective: pixels is not in the matrix"
    under = verdicts(lacking, lambda m: m("bce", "a") < m("bce", "b"))
    assert (under["article"].verdict, under["article"].reason) == ("undecided", b.reason)
    assert under["sound"].verdict == "holds"
    under = verdicts(matrix(), lambda m: m("auroc", "a") > 0)
    assert under["article"].reason == "the article procedure does not measure 'auroc'"


@pytest.mark.parametrize(("margin", "verdict"), [(0.5, "holds"), (1.0, "undecided"), (1.5, "fails")])
def test_verdicts(margin, verdict):
    under = verdicts(matrix(), lambda m: m("bce", "b") - m("bce", "a") > margin)["sound"]
    assert under.verdict == verdict
    assert 0 <= under.probability <= 1


def test_one_seed_leaves_every_claim_undecided():
    comparison = compare(matrix(seeds=1), study(claim(lambda m: m("bce", "b") > m("bce", "a"))))
    assert {verdict.verdict for verdict in comparison.verdicts} == {"undecided"}
    assert comparison.verdicts[0].reason == "one seed, in which it holds"
    assert all(figure.inside is None for figure in comparison.figures)


def test_bootstrap_samples_have_the_quantiles_of_the_confidence_interval_and_are_paired():
    measured = MeasuredResults(matrix(), SOUND)
    means = measured("bce", "a")
    interval = confidence_interval(VALUES["a"])
    assert np.quantile(means, [0.025, 0.975]) == pytest.approx([interval.low, interval.high], abs=0.06)
    assert np.ptp(measured("auroc", "a") * 10 - means) < 1e-9  # the same seeds, scaled


def test_pairing_by_seed_finds_a_small_difference():
    """The seeds shift both models by far more than they differ."""
    rows = {"a": (1.0, 5.0, 9.0), "b": (1.1, 5.12, 9.11), "b_pixels": (1.0, 5.0, 9.0)}
    assert verdicts(matrix(rows=rows), lambda m: m("bce", "a") < m("bce", "b"))["sound"].verdict == "holds"


def test_each_held_out_class_has_its_own_means():
    by_class = MeasuredResults(matrix(), SOUND).by_held_out("auroc", "a")
    assert set(by_class) == {1, 7}
    assert float(by_class[7].mean()) == pytest.approx(0.11, abs=0.01)
    with pytest.raises(NotMeasured, match="only one class"):
        MeasuredResults(matrix(), SOUND).by_held_out("bce", "a")


def test_best_in_task():
    measured = MeasuredResults(matrix(), SOUND)
    low, high = measured.best_in_task("a")
    assert low.mean() > 0.9  # its values are the lowest
    assert high.mean() < 0.1  # and not the highest


def test_json_and_page():
    comparison = compare(matrix(), study(claim(lambda m: m("bce", "a") < m("bce", "b"))))
    as_json = comparison.to_json()
    assert (as_json["study"], as_json["dataset"], as_json["seeds"]) == ("study", "mnist", 3)
    assert as_json["figures"][0]["inside"] is True
    assert as_json["verdicts"][0]["verdict"] == "holds"
    page = as_page(matrix(), [comparison])
    assert re.search(r"\| a claim \| \*\*holds\*\* \(p = (0\.99\d|1\.000)\) \| \*\*holds\*\*", page)
    assert "| bce | a | 1.1 | 1.10 | 0.603 to 1.60 | +0.0% | yes |" in page
    assert "Claims that hold under the sound procedure:\n\n- a claim\n" in page
    assert markdown_table(matrix()) in page


def test_the_page_names_procedures_that_contradict():
    """Model b is measured on its variant under one procedure, and with its defaults under the other."""
    comparison = compare(matrix(), study(claim(lambda m: m("bce", "b") > 2.7)))
    page = as_page(matrix(), [comparison])
    assert "Claims that fail under the sound procedure:" in page
    assert "- a claim (but holds under the article procedure)" in page
