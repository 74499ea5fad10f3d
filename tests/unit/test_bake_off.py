"""The study that ships: its figures, and its claims on results as the article published them."""

import numpy as np
import pytest
from aebench_bake_off import ARTICLE, CLAIMS, FIGURES, MODELS, SOUND

from aebench.contracts import NotMeasured


class AsPublished:
    """What the article's own figures would say, had they no spread."""

    def __init__(self, dataset="mnist"):
        self._dataset = dataset

    def __call__(self, quantity, model):
        if quantity == "floor":
            return np.array([0.4364])
        if (self._dataset, quantity) not in FIGURES:
            raise NotMeasured("a picture")
        return np.array([FIGURES[self._dataset, quantity][MODELS.index(model)]])

    def by_held_out(self, quantity, model):
        raise NotMeasured("one digit")

    def best_in_task(self, model):
        tasks = [FIGURES[self._dataset, quantity] for quantity in ("reconstruction", "classification", "anomaly")]
        best = [tasks[0].index(min(tasks[0])), *(task.index(max(task)) for task in tasks[1:])]
        return np.array([[MODELS[index] == model] for index in best])


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.name)
def test_the_article_supports_its_own_claims(claim):
    """Each predicate says what the article says; those it draws from pictures need a number it did not take."""
    try:
        assert claim.holds(AsPublished()).tolist() == [True]
    except NotMeasured:
        assert claim.text[0] in "2346"


def test_other_data_decide_otherwise():
    held = {}
    for claim in CLAIMS:
        try:
            held[claim.name] = bool(claim.holds(AsPublished("fashion_mnist"))[0])
        except NotMeasured:
            continue
    assert held["denoising_classifies_best"] is False  # VQ is
    assert held["stacked_detects_second"] is False


def test_every_model_has_every_figure():
    assert {len(values) for values in FIGURES.values()} == {len(MODELS)} == {9}
    assert {dataset for dataset, _ in FIGURES} == {"mnist", "fashion_mnist", "kmnist"}


def test_every_conclusion_of_the_article_has_a_claim():
    assert {claim.text[0] for claim in CLAIMS} == set("1234567")


@pytest.mark.parametrize("procedure", [ARTICLE, SOUND], ids=lambda procedure: procedure.name)
def test_quantities_are_metrics_of_the_tasks(procedure, registry):
    for task, metric in procedure.quantities.values():
        assert metric in {declared.name for declared in registry.task(task).record.metrics}
    assert set(MODELS) <= set(registry.autoencoders)
