"""The Great Autoencoder Bake Off: its figures, and its claims on the published and on planted numbers."""

import numpy as np
import pytest
from aebench_bake_off import ARTICLE, CLAIMS, FIGURES, FLOOR, MODELS, SOUND

from aebench.contracts import NotMeasured


class AsPublished:
    """The article's own figures, as a single bootstrap sample."""

    def __init__(self, dataset="mnist"):
        self._dataset = dataset

    def __call__(self, quantity, model):
        if quantity == "floor":
            return np.array(list(FLOOR.values.values()))
        if (self._dataset, quantity) not in FIGURES:
            raise NotMeasured("the article shows images only")
        return np.array([FIGURES[self._dataset, quantity][MODELS.index(model)]])

    def by_held_out(self, quantity, model):
        raise NotMeasured("the article has one held-out class")

    def best_in_task(self, model):
        tasks = [FIGURES[self._dataset, quantity] for quantity in ("reconstruction", "classification", "anomaly")]
        best = [tasks[0].index(min(tasks[0])), *(task.index(max(task)) for task in tasks[1:])]
        return np.array([[MODELS[index] == model] for index in best])


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.name)
def test_the_article_supports_its_own_claims(claim):
    """Except for those that the article draws from images, or from one held-out class after another."""
    try:
        assert claim.holds(AsPublished()).tolist() == [True]
    except NotMeasured:
        assert claim.text.startswith(("2", "3", "4", "6c"))


def test_claims_that_fail_on_the_figures_of_fashion_mnist():
    published = AsPublished("fashion_mnist")
    fail = {claim.name for claim in CLAIMS if claim.text[0] in "15" and not claim.holds(published)[0]}
    assert "denoising_classifies_best" in fail  # VQ is best
    assert "the_constraint_costs_accuracy" not in fail


OTHERS = "others"  # in a case: every model that is not named
BEST_IN_TASK = "best in task"  # in a case: one value for each task
BY_HELD_OUT = "by held-out class"  # in a case: one value of "anomaly" for each class

SAMPLING = {
    "sample_distance": {"vq_vae": 9, OTHERS: 5},
    "confidence": {"vq_vae": 0.4, OTHERS: 0.5},
}
IN_ORDER = {"denoising": 0.9, "vanilla": 0.8, "vq_vae": 0.7, OTHERS: 0.6}

# By claim: numbers under which it holds, and sets of numbers that replace some of these, under each of which it fails.
CASES = {
    "shallow_reconstructs_worst": (
        {"reconstruction": {"shallow": 121, "stacked": 100, OTHERS: 60}},
        [{"reconstruction": {"shallow": 119}}],
    ),
    "three_reconstruct_best": (
        {"reconstruction": {"vanilla": 60, "sparse": 61, "vq_vae": 69, OTHERS: 70}},
        [{"reconstruction": {"vq_vae": 71}}, {"reconstruction": {"denoising": 68}}],
    ),
    "three_reconstruct_about_equally": (
        {"reconstruction": {"vanilla": 100, "sparse": 101, "vq_vae": 101.9, OTHERS: 150}},
        [{"reconstruction": {"vq_vae": 102.1}}, {"reconstruction": {"sparse": 99}}],
    ),
    "the_constraint_costs_reconstruction": (
        {"reconstruction": {"vanilla": 60, "beta_vae_loose": 70, "vae": 75, "beta_vae_strict": 85}},
        [{"reconstruction": {"vanilla": 71}}, {"reconstruction": {"vae": 69}}, {"reconstruction": {"vae": 86}}],
    ),
    "the_constraint_makes_samples_recognisable": (
        {"confidence": {"beta_vae_loose": 0.5, "vae": 0.6, "beta_vae_strict": 0.7}},
        [{"confidence": {"vae": 0.49}}, {"confidence": {"vae": 0.71}}],
    ),
    "the_constraint_costs_variety": (
        {"variety": {"beta_vae_strict": 0.5, "vae": 0.6, "beta_vae_loose": 0.7}},
        [{"variety": {"vae": 0.49}}, {"variety": {"vae": 0.71}}],
    ),
    "vq_samples_are_worst": (
        SAMPLING,
        [{"sample_distance": {"vae": 10}}, {"confidence": {"beta_vae_strict": 0.3}}],
    ),
    "variational_interpolation_is_nearer": (
        {"interpolation_distance": {"vae": 0.1, "beta_vae_strict": 0.1, "beta_vae_loose": 0.1, OTHERS: 0.2}},
        [{"interpolation_distance": {"beta_vae_loose": 0.21}}, {"interpolation_distance": {"vq_vae": 0.09}}],
    ),
    "variational_interpolation_is_clearer": (
        {"interpolation_entropy": {"vae": 0.1, "beta_vae_strict": 0.1, "beta_vae_loose": 0.1, OTHERS: 0.2}},
        [{"interpolation_entropy": {"beta_vae_loose": 0.21}}, {"interpolation_entropy": {"vq_vae": 0.09}}],
    ),
    "five_separate_similarly": (
        {"separation": {"stacked": 0.91, "shallow": 0.5, OTHERS: 0.95}},
        [{"separation": {"stacked": 0.89}}, {"separation": {"vq_vae": 0.97}}],
    ),
    "shallow_separates_worst": (
        {"separation": {"shallow": 0.84, OTHERS: 0.9}},
        [{"separation": {"shallow": 0.86}}, {"separation": {"vae": 0.88}}],
    ),
    "digits_overlap": (
        {"overlap": {OTHERS: 0.28, "vae": 0.1}},
        [{"overlap": {"stacked": 0.26}}],
    ),
    "all_but_sparse_beat_the_floor": (
        {"classification": {"sparse": 0.2, OTHERS: 0.5}, "floor": {OTHERS: 0.4}},
        [{"classification": {"shallow": 0.39}}, {"floor": {"vanilla": 0.51}}],
    ),
    "denoising_classifies_best": (
        {"classification": IN_ORDER},
        [
            {"classification": {"denoising": 0.79}},
            {"classification": {"vq_vae": 0.81}},
            {"classification": {"sparse": 0.71}},
        ],
    ),
    "the_constraint_costs_accuracy": (
        {"classification": {"beta_vae_strict": 0.5, "vae": 0.6, "beta_vae_loose": 0.7}},
        [{"classification": {"vae": 0.49}}, {"classification": {"vae": 0.71}}],
    ),
    "sparse_is_below_the_floor": (
        {"classification": {"sparse": 0.39, OTHERS: 0.5}, "floor": {OTHERS: 0.4}},
        [{"classification": {"sparse": 0.41}}, {"floor": {"vanilla": 0.38}}],
    ),
    "shallow_detects_best": (
        {"anomaly": {"shallow": 0.9, OTHERS: 0.8}},
        [{"anomaly": {"shallow": 0.79}}, {"anomaly": {"vq_vae": 0.91}}],
    ),
    "stacked_detects_second": (
        {"anomaly": {"shallow": 0.9, "stacked": 0.85, OTHERS: 0.8}},
        [{"anomaly": {"stacked": 0.91}}, {"anomaly": {"sparse": 0.86}}],
    ),
    "detection_does_not_depend_on_the_class": (
        {BY_HELD_OUT: {"shallow": [0.9, 0.7], OTHERS: [0.8, 0.6]}},
        [{BY_HELD_OUT: {"shallow": [0.9, 0.59]}}, {BY_HELD_OUT: {"vae": [0.91, 0.5]}}],
    ),
    "no_model_wins_everywhere": (
        {BEST_IN_TASK: {"shallow": [True, False], "vae": [False, True], OTHERS: [False, False]}},
        [{BEST_IN_TASK: {"shallow": [True, True]}}],
    ),
}


class Planted:
    """Two bootstrap samples: the first one of `case`, the second one with the numbers of `changes` in their place."""

    def __init__(self, case, changes):
        self._case, self._changes = case, changes

    def __call__(self, quantity, model):
        given = self._case[quantity]
        first = given[model] if model in given else given[OTHERS]
        return np.stack([first, self._changes.get(quantity, {}).get(model, first)], axis=-1)

    def by_held_out(self, quantity, model):
        assert quantity == "anomaly"
        return dict(enumerate(self(BY_HELD_OUT, model)))

    def best_in_task(self, model):
        return self(BEST_IN_TASK, model)


def test_every_claim_has_numbers_under_which_it_holds_and_fails():
    assert {name for name, (_, failing) in CASES.items() if failing} == {claim.name for claim in CLAIMS}


@pytest.mark.parametrize(
    ("name", "changes"), [(name, changes) for name, (_, failing) in CASES.items() for changes in failing]
)
def test_a_claim_holds_and_fails_on_planted_numbers(name, changes):
    (claim,) = (claim for claim in CLAIMS if claim.name == name)
    assert claim.holds(Planted(CASES[name][0], changes)).tolist() == [True, False]


def test_each_procedure_has_its_own_floor_and_claims_name_both():
    assert ARTICLE.quantities["floor"] == ("classification", "random_features_60_epochs_accuracy")
    assert SOUND.quantities["floor"] == ("classification", "from_scratch_accuracy")
    on_the_floor = [claim.text for claim in CLAIMS if "floor" in claim.name]
    assert on_the_floor
    for text in on_the_floor:
        assert "article: random features; sound: training from scratch" in text


def test_published_figures_are_measured_by_the_articles_procedure(registry):
    published = registry.studies["bake_off"].record.published
    assert FLOOR in published
    assert {figures.quantity for figures in published} <= set(ARTICLE.quantities)


def test_every_model_has_every_figure():
    assert {len(values) for values in FIGURES.values()} == {len(MODELS)}
    assert {dataset for dataset, _ in FIGURES} == {"mnist", "fashion_mnist", "kmnist"}


def test_every_conclusion_of_the_article_has_a_claim():
    assert {claim.text[0] for claim in CLAIMS} == set("1234567")


@pytest.mark.parametrize("procedure", [ARTICLE, SOUND], ids=lambda procedure: procedure.name)
def test_quantities_are_metrics_of_the_tasks(procedure, registry):
    for task, metric in procedure.quantities.values():
        assert metric in {declared.name for declared in registry.task(task).record.metrics}
    assert set(MODELS) <= set(registry.autoencoders)
