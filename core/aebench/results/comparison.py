"""Compares a published study with the results of a matrix: its figures with the measured ones, and its claims."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from aebench.contracts import Claim, NotMeasured, Procedure, StudyRecord
from aebench.contracts.studies import BootstrapSamples
from aebench.results.matrix import MatrixResults, TaskInfo
from aebench.results.statistics import CONFIDENCE_LEVEL, prediction_interval

BOOTSTRAP_SAMPLES = 10_000
SEED = 1
DECISION_LEVEL = CONFIDENCE_LEVEL  # a claim holds from this probability on, and fails up to one minus this


@dataclass(frozen=True)
class Figure:
    """A published figure and its measured counterpart.

    Attributes:
        quantity, model: what was measured, and on which model.
        published: from a single run.
        measured: mean over seeds; None if it was not measured.
        low, high: 95 % prediction interval of one more run; None for a single seed.
        reason: why it was not measured.
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
        """Whether the published figure lies in the prediction interval."""
        return None if self.low is None or self.high is None else self.low <= self.published <= self.high


@dataclass(frozen=True)
class Verdict:
    """Whether a claim holds under one procedure.

    Attributes:
        claim, text: the claim's name and text.
        procedure: the procedure's name.
        verdict: "holds", "fails" or "undecided".
        probability: that the claim holds, by the bootstrap over seeds; None if it was not measured.
        reason: why it was not measured.
    """

    claim: str
    text: str
    procedure: str
    verdict: str
    probability: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class Comparison:
    """A study's figures and claims, each with what a matrix says of it."""

    study: str
    title: str
    dataset: str
    matrix: str
    seeds: int
    figures: tuple[Figure, ...]
    verdicts: tuple[Verdict, ...]

    def to_json(self) -> dict[str, Any]:
        """JSON values; null for what was not measured."""
        figures = [
            asdict(figure) | {"difference": figure.difference, "inside": figure.inside} for figure in self.figures
        ]
        described = {"study": self.study, "dataset": self.dataset, "matrix": self.matrix, "seeds": self.seeds}
        return described | {"figures": figures, "verdicts": [asdict(verdict) for verdict in self.verdicts]}


def compare(results: MatrixResults, study: StudyRecord) -> Comparison:
    """Compare a study with the results: its figures under the first procedure, its own; its claims under every one."""
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
    """The results of a matrix under a procedure, as a parametric bootstrap of the means over seeds.

    For normal values the means jointly follow a multivariate Student distribution with the covariance of the seeds'
    values. The quantiles of a single mean are those of `aebench.results.statistics.confidence_interval`.
    """

    def __init__(self, results: MatrixResults, procedure: Procedure) -> None:
        self._results = results
        self.procedure = procedure
        self.seeds = len(results.seeds)
        rng = np.random.default_rng(SEED)
        scale = np.sqrt(1 / (self.seeds * rng.chisquare(max(self.seeds - 1, 1), size=BOOTSTRAP_SAMPLES)))
        self._weights = scale[:, None] * rng.normal(size=(BOOTSTRAP_SAMPLES, self.seeds))

    def __call__(self, quantity: str, model: str) -> BootstrapSamples:
        return self._bootstrap(self.values(quantity, model))

    def values(self, quantity: str, model: str) -> list[float]:
        """One value for each seed, in the order of the seeds.

        Raises:
            NotMeasured: a seed has no finite value.
        """
        task, metric = self._metric(quantity)
        row = self._row(model)
        return self._complete(self._results.by_seed(row, task, metric), f"{row} has no {task}.{metric}")

    def by_held_out(self, quantity: str, model: str) -> dict[int, BootstrapSamples]:
        task, metric = self._metric(quantity)
        row = self._row(model)
        by_class: dict[int, dict[int, float]] = {}
        for cell in self._results.of(row, task):
            if cell.held_out is not None and metric in cell.metrics:
                by_class.setdefault(cell.held_out, {})[cell.seed] = cell.metrics[metric]
        if len(by_class) < 2:
            raise NotMeasured("only one class was held out; see held_out: all")
        reason = f"{row} has no {task}.{metric} for at least one held-out class"
        return {held_out: self._bootstrap(self._complete(values, reason)) for held_out, values in by_class.items()}

    def best_in_task(self, model: str) -> BootstrapSamples:
        row = self._row(model)
        tasks = [self._is_best(row, task) for task in self._results.tasks]
        return np.stack(tasks) if tasks else np.zeros((0, BOOTSTRAP_SAMPLES), dtype=bool)

    def _is_best(self, row: str, task: TaskInfo) -> BootstrapSamples:
        means = {name: self._bootstrap(values) for name, values in self._primaries[task.name].items()}
        if row not in means:
            return np.zeros(BOOTSTRAP_SAMPLES, dtype=bool)
        best = (np.max if task.primary.higher_is_better else np.min)(list(means.values()), axis=0)
        is_best: BootstrapSamples = means[row] == best
        return is_best

    @cached_property
    def _primaries(self) -> dict[str, dict[str, list[float]]]:
        """By task and row, the primary metric by seed; without baselines and rows that lack a seed."""
        primaries: dict[str, dict[str, list[float]]] = {}
        for task in self._results.tasks:
            ranking = self._results.ranking(task)
            rows = ranking.order if ranking is not None else ()
            primaries[task.name] = {row: self._results.values(row, task) for row in rows}
        return primaries

    def _metric(self, quantity: str) -> tuple[str, str]:
        if quantity not in self.procedure.quantities:
            raise NotMeasured(f"the {self.procedure.name} procedure does not measure {quantity!r}")
        return self.procedure.quantities[quantity]

    def _row(self, model: str) -> str:
        """The row of the matrix with this model and the parameters that the procedure requires."""
        likelihood, required = self._results.likelihood["name"], self.procedure.variants.get(model, {})
        if likelihood != self.procedure.likelihood:
            raise NotMeasured(f"the matrix has the {likelihood} likelihood, not the {self.procedure.likelihood} one")
        rows = [
            row
            for row, variant in self._results.variants.items()
            if variant.name == model
            and variant.backbone in (None, self.procedure.backbone)
            and all(variant.params.get(key) == value for key, value in required.items())
        ]
        if not rows:
            with_parameters = "".join(f" with {key}: {value}" for key, value in required.items())
            raise NotMeasured(f"{model}{with_parameters} is not in the matrix")
        return model if model in rows else rows[0]

    def _complete(self, by_seed: Mapping[int, float], reason: str) -> list[float]:
        values = [by_seed[seed] for seed in self._results.seeds if seed in by_seed and np.isfinite(by_seed[seed])]
        if len(values) < len(self._results.seeds):
            raise NotMeasured(reason)
        return values

    def _bootstrap(self, values: list[float]) -> BootstrapSamples:
        """The mean in each bootstrap sample: (D,); all quantities share the weights, which pairs the samples."""
        residuals = np.subtract(values, np.mean(values))
        means: BootstrapSamples = np.mean(values) + self._weights @ residuals
        return means


def _figure(measured: MeasuredResults, quantity: str, model: str, published: float) -> Figure:
    try:
        values = measured.values(quantity, model)
    except NotMeasured as error:
        return Figure(quantity, model, published, reason=str(error))
    interval, mean = prediction_interval(values), float(np.mean(values))
    if interval is None:
        return Figure(quantity, model, published, mean)
    return Figure(quantity, model, published, mean, interval.low, interval.high)


def _verdict(claim: Claim, measured: MeasuredResults) -> Verdict:
    def verdict(text: str, probability: float | None = None, reason: str = "") -> Verdict:
        return Verdict(claim.name, claim.text, measured.procedure.name, text, probability, reason)

    try:
        probability = float(np.mean(claim.holds(measured)))
    except NotMeasured as error:
        return verdict("undecided", reason=str(error))
    if measured.seeds < 2:
        return verdict("undecided", reason=f"one seed, in which it {'holds' if probability else 'fails'}")
    if probability >= DECISION_LEVEL:
        return verdict("holds", probability)
    return verdict("fails" if probability <= 1 - DECISION_LEVEL else "undecided", probability)
