"""Latent structure: how well classes separate among the codes and in their UMAP projection."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pydantic import Field

from aebench.contracts import (
    AebenchError,
    Autoencoder,
    Context,
    DatasetInfo,
    Evaluation,
    ImageDataset,
    Metric,
    Params,
    TaskRecord,
    hookimpl,
)
from aebench_tasks.drawing import caption

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class LatentStructureParams(Params):
    """Settings of the latent structure.

    Attributes:
        neighbours: nearest neighbours that vote on a class.
        umap_neighbours: nearest neighbours that UMAP uses.
        umap_epochs: passes of UMAP over the neighbours; its own default is 500 for up to 10,000 points, 200 for more.
        points: codes behind the metrics whose time grows with the square of their number.
        groups: sets of classes that are expected to be confused, such as [[4, 7, 9], [3, 5, 8]].
    """

    neighbours: int = Field(default=10, gt=0)
    umap_neighbours: int = Field(default=15, gt=1)
    umap_epochs: int = Field(default=200, gt=0)
    points: int = Field(default=2000, gt=50)
    groups: tuple[tuple[int, ...], ...] = ()


def evaluate(model: Autoencoder, data: ImageDataset, context: Context) -> Evaluation:
    """Separation of the classes among the test codes and in their UMAP projection (McInnes et al. 2018), with a plot.

    Raises:
        AebenchError: the test split has fewer than two classes, or a code is not finite.
    """
    assert data.test.labels is not None
    codes = torch.cat([model.embed(x) for x in data.test.batches()]).cpu().numpy()
    labels = data.test.labels.cpu().numpy()
    if len(np.unique(labels)) < 2:
        raise AebenchError("latent structure needs test images of at least two classes")
    if not np.isfinite(codes).all():
        raise AebenchError("the codes of the test images are not finite")
    projection = project(codes, context.params.umap_neighbours, context.seed, context.params.umap_epochs)
    votes, umap_votes = (vote(points, labels, context.params.neighbours) for points in (codes, projection))
    metrics = _separation(codes, labels, votes, context)
    metrics |= {f"umap_{name}": value for name, value in _separation(projection, labels, umap_votes, context).items()}
    metrics["umap_trustworthiness"] = _trustworthiness(codes, projection, context)
    absent = {}
    if not context.params.groups:
        absent["errors_within_groups"] = "no groups of classes are configured"
    elif (votes == labels).all():
        absent["errors_within_groups"] = "there are no errors"
    else:
        metrics["errors_within_groups"] = share_of_errors_within(context.params.groups, labels, votes)
    return Evaluation(metrics=metrics, absent=absent, figures={"umap": _scatter(projection, labels, data.classes)})


def share_of_errors_within(
    groups: Sequence[Sequence[int]], labels: np.ndarray[Any, Any], votes: np.ndarray[Any, Any]
) -> float:
    """Share of the wrong votes that name another class of a group to which the true class belongs."""
    wrong = votes != labels
    within = np.any([np.isin(labels, group) & np.isin(votes, group) for group in groups], axis=0)
    return float(within[wrong].mean())


def _separation(
    points: np.ndarray[Any, Any], labels: np.ndarray[Any, Any], votes: np.ndarray[Any, Any], context: Context
) -> dict[str, float]:
    """Metrics of how well the classes separate: of points (N, D), labels (N,) and their neighbours' votes (N,)."""
    from sklearn.cluster import KMeans
    from sklearn.metrics import normalized_mutual_info_score, silhouette_score

    classes = len(np.unique(labels))
    subset = subsample(len(points), context)
    clusters = KMeans(classes, n_init=5, random_state=context.seed % 2**31).fit_predict(points)
    return {
        "knn_accuracy": float((votes == labels).mean()),
        "silhouette": float(silhouette_score(points[subset], labels[subset])),
        "kmeans_nmi": float(normalized_mutual_info_score(labels, clusters)),
    }


def _trustworthiness(codes: np.ndarray[Any, Any], projection: np.ndarray[Any, Any], context: Context) -> float:
    """Trustworthiness of the neighbourhoods in the UMAP projection, in [0, 1] (Venna & Kaski 2001)."""
    from sklearn.manifold import trustworthiness

    subset = subsample(len(codes), context)
    return float(trustworthiness(codes[subset], projection[subset], n_neighbors=context.params.neighbours))


def subsample(n: int, context: Context) -> np.ndarray[Any, Any]:
    """Positions of at most `points` random codes out of n, sorted, the same for every model."""
    return np.sort(context.rng().permutation(n)[: context.params.points])


def project(codes: np.ndarray[Any, Any], neighbours: int, seed: int, epochs: int) -> np.ndarray[Any, Any]:
    """Project codes (N, D) to two dimensions by UMAP: (N, 2) float32.

    The nearest neighbours are exact, from scikit-learn: compiling UMAP's own approximate search takes three times as
    long as everything else.
    """
    from sklearn.neighbors import NearestNeighbors
    from umap import UMAP

    neighbours = min(neighbours, len(codes) - 1)
    distances, indices = NearestNeighbors(n_neighbors=neighbours, algorithm="brute").fit(codes).kneighbors(codes)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "precomputed_knn")  # warns that new points cannot be projected
        projection: np.ndarray[Any, Any] = UMAP(
            n_neighbors=neighbours,
            precomputed_knn=(indices.astype(np.int32), distances.astype(np.float32)),
            force_approximation_algorithm=True,  # without it UMAP ignores the given neighbours of small data
            random_state=seed % 2**31,
            n_jobs=1,
            n_epochs=epochs,
        ).fit_transform(codes)
    return projection


def warm_up(data: DatasetInfo) -> None:
    """Import and compile everything that `evaluate` uses, on a few points."""
    points = np.random.default_rng(0).normal(size=(100, 4)).astype(np.float32)
    project(points, 5, 0, epochs=1)
    vote(points, np.arange(100) % 2, 5)


def vote(points: np.ndarray[Any, Any], labels: np.ndarray[Any, Any], neighbours: int) -> np.ndarray[Any, Any]:
    """The most frequent class among the nearest neighbours of each point, without the point itself: (N, D) -> (N,)."""
    from sklearn.neighbors import KNeighborsClassifier

    classifier = KNeighborsClassifier(min(neighbours, len(points) - 1)).fit(points, labels)
    nearest = classifier.kneighbors(return_distance=False)
    votes = np.stack([(labels[nearest] == label).sum(axis=1) for label in classifier.classes_], axis=1)
    winners: np.ndarray[Any, Any] = classifier.classes_[votes.argmax(axis=1)]
    return winners


def _scatter(projection: np.ndarray[Any, Any], labels: np.ndarray[Any, Any], classes: tuple[str, ...]) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 6), layout="constrained")
    axes = figure.subplots()
    size = float(np.clip(20_000 / len(projection), 2, 20))
    for label, name in enumerate(classes):
        points = projection[labels == label]
        axes.scatter(
            points[:, 0], points[:, 1], s=size, linewidths=0, alpha=0.7, color=f"C{label % 10}", label=caption(name)
        )
    axes.set_aspect("equal", "datalim")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_title("UMAP of the test codes")
    axes.legend(
        title="class", loc="center left", bbox_to_anchor=(1, 0.5), markerscale=20 / size**0.5 / 4, frameon=False
    )
    return figure


@hookimpl
def aebench_tasks() -> list[TaskRecord]:
    return [
        TaskRecord(
            name="latent_structure",
            title="Latent structure",
            summary="how well classes separate among the codes",
            source="McInnes, Healy & Melville 2018",
            params=LatentStructureParams,
            evaluate=evaluate,
            warm_up=warm_up,
            needs_labels=True,
            metrics=(
                Metric("knn_accuracy", "Nearest-neighbour accuracy of the codes", higher_is_better=True, primary=True),
                Metric(
                    "errors_within_groups",
                    "Share of nearest-neighbour errors within the configured groups of classes",
                    higher_is_better=True,
                ),
                Metric("silhouette", "Silhouette of the classes", higher_is_better=True, source="Rousseeuw 1987"),
                Metric("kmeans_nmi", "Mutual information of classes and k-means clusters", higher_is_better=True),
                Metric("umap_knn_accuracy", "Nearest-neighbour accuracy in the UMAP projection", higher_is_better=True),
                Metric("umap_silhouette", "Silhouette of the classes in the UMAP projection", higher_is_better=True),
                Metric(
                    "umap_kmeans_nmi",
                    "Mutual information of classes and k-means clusters in the UMAP projection",
                    higher_is_better=True,
                ),
                Metric(
                    "umap_trustworthiness",
                    "Trustworthiness of the UMAP projection",
                    higher_is_better=True,
                    source="Venna & Kaski 2001",
                ),
            ),
        )
    ]
