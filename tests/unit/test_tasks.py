"""The six tasks on models whose answers are known."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from aebench.contracts import (
    AebenchError,
    Animation,
    Autoencoder,
    Bernoulli,
    Context,
    ModelSpec,
    Params,
    SamplerRecord,
    Skip,
    Split,
)
from aebench.evaluation.rendering import render
from aebench.networks import DENSE
from aebench.training.optimizers import adam
from aebench_tasks.probes import at_most, from_scratch

SHAPE = (1, 8, 8)


class Identity(Autoencoder):
    """Returns the image itself: a perfect reconstruction."""

    def __init__(self):
        super().__init__(ModelSpec(SHAPE, 64, Params(), DENSE, Bernoulli()))

    def encode(self, x):
        return x.flatten(1)

    def decode(self, z):
        return torch.logit(z.clamp(1e-6, 1 - 1e-6)).unflatten(1, SHAPE)

    def sample(self, n, generator):
        return torch.rand(n, *SHAPE, generator=generator)


class Constant(Identity):
    """Returns the same grey image for every input."""

    def decode(self, z):
        return torch.zeros(len(z), *SHAPE)

    def sample(self, n, generator):
        return torch.full((n, *SHAPE), 0.5)


@pytest.fixture
def evaluate(registry, digits, build, reference_classifier):
    """evaluate(task, model, data): the evaluation with default parameters; a fresh model is vanilla's."""

    def evaluate(name, model, data=None, held_out=None, fresh_model=lambda: build("vanilla", SHAPE, 20), **params):
        task = registry.task(name).record
        data = data or digits
        classifier = reference_classifier if task.needs_reference_classifier and data.classes else None
        has_prior = type(model).sample is not Autoencoder.sample
        samplers = {
            name: registry.sampler(name).record if has_prior or name != "prior" else Skip("no prior")
            for name in task.samplers(task.params(**params))
        }
        given = task.params(**params), torch.device("cpu"), 7, held_out, fresh_model, adam
        context = Context(*given, classifier, samplers)
        with torch.no_grad():
            evaluation = task.evaluate(model.eval().requires_grad_(False), data, context)
        assert {*evaluation.metrics, *evaluation.absent} == {metric.name for metric in task.metrics}
        return evaluation

    return evaluate


def test_reconstruction(evaluate, digits):
    perfect, grey = (evaluate("reconstruction", model).metrics for model in (Identity(), Constant()))
    x = digits.test.x()
    entropy = nn.functional.binary_cross_entropy(x, x, reduction="sum") / len(x)
    assert perfect["nll"] == pytest.approx(float(entropy), rel=1e-3)
    assert perfect["mse"] == pytest.approx(0, abs=1e-9)
    assert perfect["psnr"] > 80
    assert perfect["ssim"] == pytest.approx(1, abs=1e-4)
    assert grey["ssim"] < 0.1
    assert grey["psnr"] == pytest.approx(float((-10 * torch.log10((x - 0.5).square().flatten(1).mean(1))).mean()))
    assert grey["nll"] == pytest.approx(64 * np.log(2), rel=1e-5)
    assert grey["mse"] == pytest.approx(float((x - 0.5).square().mean()), rel=1e-5)


def test_reconstruction_of_sampled_codes(evaluate, build, train, digits):
    metrics = evaluate("reconstruction", train(build("vae"), digits, epochs=10)).metrics
    assert metrics["nll_stochastic"] > metrics["nll"]
    metrics = evaluate("reconstruction", build("vanilla")).metrics
    assert metrics["nll_stochastic"] == metrics["nll"]


def test_sampling(evaluate, digits):
    class Memory(Identity):
        def sample(self, n, generator):
            return digits.test.x(torch.randint(len(digits.test), (n,), generator=generator))

    memory, noise, collapsed = (evaluate("sampling", model).metrics for model in (Memory(), Identity(), Constant()))
    assert memory["frechet_distance"] < 0.05 * noise["frechet_distance"]
    assert abs(memory["kernel_distance"]) < 0.05 * noise["kernel_distance"]
    assert (memory["precision"], memory["recall"]) == (pytest.approx(1, abs=0.1), pytest.approx(1, abs=0.15))
    assert memory["density"] > 0.8
    assert memory["coverage"] > 0.8
    assert collapsed["coverage"] < 0.05
    assert memory["class_entropy"] == pytest.approx(np.log(10), abs=0.05)
    assert collapsed["class_entropy"] < memory["class_entropy"]
    assert memory["confidence"] > 0.9
    assert memory["nearest_real_distance"] == pytest.approx(0, abs=1e-3)
    assert memory["relative_diversity"] == pytest.approx(1, abs=0.05)
    assert collapsed["nearest_real_distance"] > 0.2
    assert collapsed["relative_diversity"] == 0


def test_every_model_has_ex_post_samples_and_the_prior_is_absent_where_there_is_none(evaluate, build, train, digits):
    metrics = evaluate("sampling", train(build("vanilla", SHAPE, 8), digits, epochs=5))
    assert set(metrics.absent.values()) == {"no prior"}
    assert {f"ex_post_{name}" for name in metrics.absent} == set(metrics.metrics)
    assert set(metrics.images) == {"ex_post_samples"}


def test_samplers_get_the_codes_of_the_training_images_alone(evaluate, registry, digits, monkeypatch):
    seen = []

    def fit(model, codes, generator):
        seen.append(codes)
        return lambda n, generator: torch.rand(n, *SHAPE, generator=generator)

    spy = SamplerRecord(name="gmm", title="Spy", summary="keeps what it is given", fit=fit)
    plugin = replace(registry.sampler("gmm"), record=spy)
    monkeypatch.setattr(type(registry), "sampler", lambda self, name: plugin)
    evaluate("sampling", Identity())
    assert all(torch.equal(codes, digits.train.x().flatten(1)) for codes in seen)
    assert seen


def test_a_mixture_fits_clusters_of_codes_better_than_one_gaussian(evaluate, digits):
    two = digits.train.at((digits.train.labels == 0) | (digits.train.labels == 1))
    data = replace(digits, train=two, test=two)
    distances = [
        evaluate("sampling", Identity(), data, sampler=name).metrics["ex_post_frechet_distance"]
        for name in ("gmm", "gaussian")
    ]
    assert distances[0] < 0.8 * distances[1]


def test_without_labels_the_classifier_metrics_are_absent(evaluate, digits):
    unlabelled = replace(digits, classes=(), test=Split(digits.test.images))
    for task, absent in (("sampling", 16), ("interpolation", 1)):
        evaluation = evaluate(task, Identity(), unlabelled)
        assert len(evaluation.absent) == absent
        assert set(evaluation.absent.values()) == {"the data has no labels to train a reference classifier on"}
        assert evaluation.metrics


def test_interpolation(evaluate):
    straight = evaluate("interpolation", Identity()).metrics
    assert straight["largest_step"] == pytest.approx(1, rel=1e-3)  # pixels change evenly
    assert 0.1 < straight["classifier_entropy"] < np.log(10)
    assert 0.05 < straight["nearest_real_distance"] < 0.3
    assert evaluate("interpolation", Constant()).metrics["nearest_real_distance"] > straight["nearest_real_distance"]


def test_the_interpolation_is_animated_from_a_seven_to_a_two(evaluate, digits):
    images = evaluate("interpolation", Identity()).images
    animation = images["interpolation_animated"]
    assert isinstance(animation, Animation)
    assert len(animation.frames) == 128
    labels = digits.test.labels.tolist()
    for frame, digit in ((animation.frames[0], 7), (animation.frames[-1], 2)):
        assert np.array_equal(frame[::16, ::16], digits.test.images[labels.index(digit), 0].numpy())


def test_interpolation_without_labels(evaluate, digits):
    unlabelled = replace(digits, classes=(), test=Split(digits.test.images))
    assert evaluate("interpolation", Identity(), unlabelled).metrics["largest_step"] == pytest.approx(1, rel=1e-3)


def test_latent_structure(evaluate, digits):
    class Labels(Identity):
        """Codes that depend almost only on the label."""

        def embed(self, x, stochastic=False, generator=None):
            rows = (x[:, None] * 255).round().byte().flatten(2) == digits.test.images.flatten(1)[None]
            labels = digits.test.labels[rows.all(dim=2).float().argmax(dim=1)]
            return nn.functional.one_hot(labels, 10).float() + 0.01 * x.flatten(1)[:, :10]

    perfect, raw = (evaluate("latent_structure", model).metrics for model in (Labels(), Identity()))
    assert perfect["knn_accuracy"] == 1
    assert perfect["umap_knn_accuracy"] > 0.99
    assert perfect["kmeans_nmi"] > 0.99
    assert perfect["silhouette"] > 0.9
    assert raw["silhouette"] < 0.5
    assert 0.5 < raw["kmeans_nmi"] < 0.95
    assert 0.9 < raw["umap_trustworthiness"] < 1
    assert 0.9 < raw["knn_accuracy"] < 1


def test_latent_structure_needs_two_classes_and_finite_codes(evaluate, digits):
    class Broken(Identity):
        def embed(self, x, stochastic=False, generator=None):
            return torch.full((len(x), self.latent_dim), torch.nan)

    with pytest.raises(AebenchError, match="at least two classes"):
        evaluate("latent_structure", Identity(), replace(digits, test=digits.test.at(digits.test.labels == 3)))
    with pytest.raises(AebenchError, match="codes of the test images are not finite"):
        evaluate("latent_structure", Broken())
    with pytest.raises(AebenchError, match="codes are not finite"):
        evaluate("classification", Broken())


def test_a_point_does_not_vote_for_itself():
    from aebench_tasks.latent_structure import vote

    points = np.array([[0.0], [1.0], [2.0], [3.0]])
    assert vote(points, np.array([0, 1, 0, 1]), neighbours=1).tolist() == [1, 0, 1, 0]


def test_errors_within_groups(evaluate):
    from aebench_tasks.latent_structure import share_of_errors_within

    labels, votes = np.array([4, 7, 9, 3, 0, 4]), np.array([9, 7, 4, 4, 6, 3])
    assert share_of_errors_within([[4, 7, 9], [3, 5, 8]], labels, votes) == 2 / 5
    assert share_of_errors_within([range(10)], labels, votes) == 1
    found = evaluate("latent_structure", Identity())
    assert found.absent == {"errors_within_groups": "no groups of classes are configured"}
    everything = evaluate("latent_structure", Identity(), groups=(tuple(range(10)),))
    assert everything.metrics["errors_within_groups"] == 1
    assert not everything.absent


def test_anomaly_detection_with_perfect_and_reversed_scores(evaluate, digits):
    ones = digits.test.labels == 1
    data = digits.in_batches_of(len(ones))

    class Scoring(Identity):
        """Reconstructs the images in `bad` as white, and all others perfectly."""

        def __init__(self, bad):
            super().__init__()
            self.bad = bad

        def decode(self, z):
            return torch.where(self.bad[:, None, None, None], 20.0, super().decode(z))

    assert evaluate("anomaly_detection", Scoring(ones), data, held_out=1).metrics["auroc"] == 1
    assert evaluate("anomaly_detection", Scoring(~ones), data, held_out=1).metrics["auroc"] == 0
    signed = evaluate("anomaly_detection", Constant(), held_out=1).metrics["signed_sum_auroc"]
    ink = digits.test.x().flatten(1).sum(dim=1)
    pairs = (ink[ones][:, None] < ink[~ones][None]).float().mean()
    assert signed == pytest.approx(float(pairs), abs=0.01)  # of a constant, the signed sum measures ink only


def test_anomaly_detection_needs_a_held_out_class_and_finite_errors(evaluate, digits):
    with pytest.raises(AebenchError, match="holds out a class"):
        evaluate("anomaly_detection", Constant())
    with pytest.raises(AebenchError, match="needs images of class 1 and of others"):
        evaluate("anomaly_detection", Constant(), replace(digits, test=digits.test.at(digits.test.labels != 1)), 1)

    class Broken(Identity):
        def decode(self, z):
            return torch.full((len(z), *SHAPE), torch.nan)

    with pytest.raises(AebenchError, match="errors of the test images are not finite"):
        evaluate("anomaly_detection", Broken(), held_out=1)


def test_classification(evaluate, build, train, digits):
    metrics = evaluate("classification", Identity()).metrics
    assert metrics["accuracy"] > 0.8  # raw pixels, one hundred labels
    assert metrics["accuracy"] > metrics["short_probe_accuracy"]
    assert metrics["accuracy_all_labels"] > metrics["accuracy"] + 0.05
    one_class = replace(digits, train=digits.train.at(digits.train.labels == 3))
    with pytest.raises(AebenchError, match="at least two classes"):
        evaluate("classification", Identity(), one_class)
    assert evaluate("classification", Identity(), labelled_per_class=1).metrics["accuracy"] < metrics["accuracy"]
    assert metrics["from_scratch_accuracy"] > 0.3


def test_training_from_scratch_is_validated_on_a_thousand_images_of_all_classes(digits, build):
    """The images are sorted by class, as in a folder: the first thousand are of a few classes."""
    model, sizes = build("vanilla", SHAPE, 20), []
    encode = model.encode
    model.encode = lambda x: sizes.append(0 if model.training else len(x)) or encode(x)
    context = Context(None, torch.device("cpu"), 7, None, lambda: model, adam)
    many = replace(digits, validation=digits.train.at(digits.train.labels.argsort().repeat_interleave(2)))
    assert len(many.validation) > 2000
    with torch.no_grad():
        from_scratch(context, digits.train.at(slice(64)), many)
    epochs = sizes.count(1000 % 256)  # the last batch of each validation
    assert 0 < epochs <= 20
    assert sum(sizes) == epochs * 1000 + len(digits.test) + 1  # and an image that tells the width
    chosen = at_most(1000, many.validation, context)
    shares = (split.labels.bincount() / len(split) for split in (chosen, many.validation))
    torch.testing.assert_close(*shares, rtol=0, atol=0.03)
    assert chosen.labels.diff().min() >= 0  # still in order
    assert len(at_most(9999, many.validation, context)) == len(many.validation)


def test_what_learns_in_each_floor_of_classification(evaluate, build):
    """Random features: batch norm's statistics alone; frozen: nothing; from scratch: all parameters."""
    built = []

    def fresh_model():
        built.append(build("vanilla", SHAPE, 20))
        return built[-1]

    evaluate("classification", Identity(), fresh_model=fresh_model)
    before = build("vanilla", SHAPE, 20)
    weights = {name for name, _ in before.encoder.named_parameters()}
    statistics = before.encoder.state_dict().keys() - weights
    assert statistics

    def changed(model):
        after = model.encoder.state_dict()
        return {name for name, value in before.encoder.state_dict().items() if not torch.equal(value, after[name])}

    found = [changed(model) for model in built]
    assert sorted(found, key=len) == [set(), statistics, statistics | weights]


def test_random_features_without_batch_norm_are_frozen(evaluate):
    metrics = evaluate("classification", Identity(), fresh_model=Identity).metrics
    assert metrics["random_features_accuracy"] == metrics["frozen_random_accuracy"] > 0.2
    assert metrics["random_features_60_epochs_accuracy"] > metrics["random_features_accuracy"] + 0.1


@pytest.mark.parametrize("name", ["pca", "raw_pixels", "shallow", "vq_vae", "vae"])
def test_the_floors_of_classification_suit_every_kind_of_model(evaluate, build, name):
    metrics = evaluate("classification", build(name), fresh_model=lambda: build(name)).metrics
    assert all(0 <= value <= 1 for value in metrics.values())


def test_an_evaluation_does_not_change_the_model(evaluate, build):
    model = build("vae", SHAPE, 20)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for task in ("classification", "reconstruction", "interpolation", "sampling"):
        evaluate(task, model)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        ("reconstruction", {"reconstructions.png"}),
        ("sampling", {"samples.png", "ex_post_samples.png"}),
        ("interpolation", {"interpolation.png", "interpolation_animated.gif"}),
        ("latent_structure", {"umap.png"}),
        ("anomaly_detection", {"roc.png"}),
        ("classification", {"confusion_matrix.png"}),
    ],
)
def test_rendered_files(evaluate, build, task, expected):
    files = render(evaluate(task, build("vae", SHAPE, 20), held_out=1))
    assert set(files) == expected
    assert all(len(content) > 500 for content in files.values())


@pytest.mark.parametrize("task", ["latent_structure", "anomaly_detection", "classification"])
def test_any_text_can_be_the_name_of_a_class(evaluate, build, digits, task):
    """Dollars begin a formula of matplotlib, and a wrong one raises an exception; a long name leaves no room."""
    named = replace(digits, classes=(r"$\bad$", "a'b", "a$b", "../x", "a\nb", "x" * 300, "", "_", "€", "<b>"))
    assert render(evaluate(task, build("vae", SHAPE, 20), named, held_out=0))


@pytest.mark.parametrize("task", ["reconstruction", "sampling", "interpolation", "anomaly_detection", "classification"])
def test_an_evaluation_is_reproducible(evaluate, build, task):
    model = build("vae", SHAPE, 20)
    torch.manual_seed(1)
    first = evaluate(task, model, held_out=1)
    torch.manual_seed(2)
    assert first.metrics == evaluate(task, model, held_out=1).metrics


def test_warming_up_succeeds(registry, digits):
    """A run does not show such a failure: it is only slower."""
    slow = [task.record for task in registry.tasks.values() if task.record.warm_up is not None]
    assert "latent_structure" in {record.name for record in slow}
    for record in slow:
        record.warm_up(digits.info)
        record.warm_up(replace(digits.info, sizes=(1, 1, 10_000)))
