"""Published figures beside measured ones, and a study's conclusions beside what the results say of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from aebench.contracts import Claim, NotMeasured, Procedure, StudyRecord
from aebench.contracts.studies import Draws
from aebench.results.matrix import MatrixResults, TaskInfo
from aebench.results.statistics import LEVEL, interval_of_one_more

DRAWS = 10_000
SEED = 1
SURE = LEVEL  # the probability from which on a claim holds, or fails


@dataclass(frozen=True)
class Figure:
    """A published figure and its measured counterpart.

    Attributes:
        quantity, model: what was measured, and of which model.
        published: a single run.
        measured: mean over seeds; None where there is none, for the reason in `reason`.
        low, high: what one more run would give with probability 0.95; None for a single seed.
    """

    quantity: str
    model: str
    published: float
    measured: float | None = None
    low: float | None = None
    high: float | None = None
    reason: str = ""

    @property
    def difference(self) -> float | None:
        """Measured minus published, relative to the published figure."""
        return None if self.measured is None else self.measured / self.published - 1

    @property
    def inside(self) -> bool | None:
        """Whether the published figure lies where one more run would."""
        return None if self.low is None or self.high is None else self.low <= self.published <= self.high


@dataclass(frozen=True)
class Verdict:
    """What the results say of a claim under one procedure.

    Attributes:
        claim, text, procedure: which.
        verdict: "holds", "fails" or "undecided".
        probability: that it holds, by the bootstrap over seeds; None when it cannot be told.
        reason: why it cannot.
    """

    claim: str
    text: str
    procedure: str
    verdict: str
    probability: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class Comparison:
    """A study against a matrix."""

    study: str
    title: str
    dataset: str
    matrix: str
    seeds: int
    figures: tuple[Figure, ...]
    verdicts: tuple[Verdict, ...]

    def to_json(self) -> dict[str, Any]:
        """JSON values; None for what is not known."""
        figures = [
            asdict(figure) | {"difference": figure.difference, "inside": figure.inside} for figure in self.figures
        ]
        described = {"study": self.study, "dataset": self.dataset, "matrix": self.matrix, "seeds": self.seeds}
        return described | {"figures": figures, "verdicts": [asdict(verdict) for verdict in self.verdicts]}


def compare(results: MatrixResults, study: StudyRecord) -> Comparison:
    """Put a study's figures and claims beside a matrix's results; figures under its own procedure, the first one."""
    measured = [MeasuredResults(results, procedure) for procedure in study.procedures]
    figures = [
        _figure(measured[0], published.quantity, model, value)
        for published in study.published
        if published.dataset == results.dataset
        for model, value in published.values.items()
    ]
    verdicts = [_verdict(claim, under) for claim in study.claims for under in measured]
    return Comparison(
        study.name, study.title, results.dataset, results.matrix, len(results.seeds), tuple(figures), tuple(verdicts)
    )


class MeasuredResults:
    """A matrix's results under a procedure, drawn from the parametric bootstrap of the means over seeds.

    All means together follow a multivariate Student distribution with the covariance of the seeds' values, if these are
    normal; for a single mean its quantiles are those of `aebench.results.statistics.interval`.
    """

    def __init__(self, results: MatrixResults, procedure: Procedure) -> None:
        self._results = results
        self.procedure = procedure
        self.seeds = len(results.seeds)
        rng = np.random.default_rng(SEED)
        scale = np.sqrt(1 / (self.seeds * rng.chisquare(max(self.seeds - 1, 1), size=DRAWS)))
        self._weights = scale[:, None] * rng.normal(size=(DRAWS, self.seeds))

    def __call__(self, quantity: str, model: str) -> Draws:
        return self._drawn(self.values(quantity, model))

    def values(self, quantity: str, model: str) -> list[float]:
        """One value for each seed, in their order.

        Raises:
            NotMeasured: there is none.
        """
        task, metric = self._metric(quantity)
        row = self._row(model)
        return self._complete(self._results.by_seed(row, task, metric), f"{row} has no {task}.{metric}")

    def by_held_out(self, quantity: str, model: str) -> dict[int, Draws]:
        task, metric = self._metric(quantity)
        row = self._row(model)
        found: dict[int, dict[int, float]] = {}
        for cell in self._results.of(row, task):
            if cell.held_out is not None and metric in cell.metrics:
                found.setdefault(cell.held_out, {})[cell.seed] = cell.metrics[metric]
        if len(found) < 2:
            raise NotMeasured("only one class was left out; see held_out: all")
        reason = f"{row} lacks {task}.{metric} for some class"
        return {held_out: self._drawn(self._complete(values, reason)) for held_out, values in found.items()}

    def best_in_task(self, model: str) -> Draws:
        row = self._row(model)
        tasks = [self._is_best(row, task) for task in self._results.tasks]
        return np.stack(tasks) if tasks else np.zeros((0, DRAWS), dtype=bool)

    def _is_best(self, row: str, task: TaskInfo) -> Draws:
        drawn = {name: self._drawn(values) for name, values in self._primaries[task.name].items()}
        if row not in drawn:
            return np.zeros(DRAWS, dtype=bool)
        best = (np.max if task.primary.higher_is_better else np.min)(list(drawn.values()), axis=0)
        is_best: Draws = drawn[row] == best
        return is_best

    @cached_property
    def _primaries(self) -> dict[str, dict[str, list[float]]]:
        """By task, the primary metric of every model that has it for all seeds; baselines aside."""
        found: dict[str, dict[str, list[float]]] = {}
        for task in self._results.tasks:
            ranking = self._results.ranking(task)
            rows = ranking.order if ranking is not None else ()
            found[task.name] = {row: self._results.values(row, task) for row in rows}
        return found

    def _metric(self, quantity: str) -> tuple[str, str]:
        if quantity not in self.procedure.quantities:
            raise NotMeasured("no number was taken")
        return self.procedure.quantities[quantity]

    def _row(self, model: str) -> str:
        """The row of the matrix that a model stands in, with the parameters that the procedure asks for."""
        wanted = self.procedure.variants.get(model, {})
        rows = [
            row
            for row, variant in self._results.variants.items()
            if variant.name == model and all(variant.params.get(key) == value for key, value in wanted.items())
        ]
        if not rows:
            with_parameters = "".join(f" with {key}: {value}" for key, value in wanted.items())
            raise NotMeasured(f"{model}{with_parameters} is not in the matrix")
        return model if model in rows else rows[0]

    def _complete(self, by_seed: Mapping[int, float], reason: str) -> list[float]:
        values = [by_seed[seed] for seed in self._results.seeds if seed in by_seed and np.isfinite(by_seed[seed])]
        if len(values) < len(self._results.seeds):
            raise NotMeasured(reason)
        return values

    def _drawn(self, values: list[float]) -> Draws:
        """(D,): the mean in each draw; the same weights for all, which pairs them."""
        residuals = np.subtract(values, np.mean(values))
        drawn: Draws = np.mean(values) + self._weights @ residuals
        return drawn


def _figure(measured: MeasuredResults, quantity: str, model: str, published: float) -> Figure:
    try:
        values = measured.values(quantity, model)
    except NotMeasured as error:
        return Figure(quantity, model, published, reason=str(error))
    found = interval_of_one_more(values)
    mean = float(np.mean(values))
    if found is None:
        return Figure(quantity, model, published, mean)
    return Figure(quantity, model, published, mean, found.low, found.high)


def _verdict(claim: Claim, measured: MeasuredResults) -> Verdict:
    def verdict(text: str, probability: float | None = None, reason: str = "") -> Verdict:
        return Verdict(claim.name, claim.text, measured.procedure.name, text, probability, reason)

    try:
        probability = float(np.mean(claim.holds(measured)))
    except NotMeasured as error:
        return verdict("undecided", reason=str(error))
    if measured.seeds < 2:
        return verdict("undecided", reason=f"one seed, in which it {'holds' if probability else 'fails'}")
    if probability >= SURE:
        return verdict("holds", probability)
    return verdict("fails" if probability <= 1 - SURE else "undecided", probability)
