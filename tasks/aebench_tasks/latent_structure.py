"""Whether classes keep apart in the latent space, and what it looks like on a plane."""

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

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class LatentStructureParams(Params):
    """Neighbours that vote on a class, those that UMAP looks at, and points for what takes their square in time.

    `groups` are sets of classes that are expected to be taken for one another, such as [[4, 7, 9], [3, 5, 8]].
    """

    neighbours: int = Field(default=10, gt=0)
    umap_neighbours: int = Field(default=15, gt=1)
    points: int = Field(default=2000, gt=50)
    groups: tuple[tuple[int, ...], ...] = ()


def evaluate(model: Autoencoder, data: ImageDataset, context: Context) -> Evaluation:
    """How well classes keep apart among the test codes and on their UMAP plane (McInnes et al. 2018), and the plane."""
    assert data.test.labels is not None
    codes = torch.cat([model.embed(x) for x in data.test.batches()]).cpu().numpy()
    labels = data.test.labels.cpu().numpy()
    if len(np.unique(labels)) < 2:
        raise AebenchError("latent structure needs test images of at least two classes")
    if not np.isfinite(codes).all():
        raise AebenchError("the codes of the test images are not finite")
    plane = project(codes, context.params.umap_neighbours, context.seed)
    votes, umap_votes = (vote(points, labels, context.params.neighbours) for points in (codes, plane))
    metrics = _separation(codes, labels, votes, context)
    metrics |= {f"umap_{name}": value for name, value in _separation(plane, labels, umap_votes, context).items()}
    metrics["umap_trustworthiness"] = _trustworthiness(codes, plane, context)
    absent = {}
    if not context.params.groups:
        absent["errors_within_groups"] = "no groups of classes were named"
    elif (votes == labels).all():
        absent["errors_within_groups"] = "there are no errors"
    else:
        metrics["errors_within_groups"] = share_of_errors_within(context.params.groups, labels, votes)
    return Evaluation(metrics=metrics, absent=absent, figures={"umap": _scatter(plane, labels, data.classes)})


def share_of_errors_within(
    groups: Sequence[Sequence[int]], labels: np.ndarray[Any, Any], votes: np.ndarray[Any, Any]
) -> float:
    """Of the points whose vote is wrong, the share that were taken for another class of a group they belong to."""
    wrong = votes != labels
    within = np.any([np.isin(labels, group) & np.isin(votes, group) for group in groups], axis=0)
    return float(within[wrong].mean())


def _separation(
    points: np.ndarray[Any, Any], labels: np.ndarray[Any, Any], votes: np.ndarray[Any, Any], context: Context
) -> dict[str, float]:
    """How well the classes of points (N, D) keep apart, whose neighbours voted as `votes` (N,) say."""
    from sklearn.cluster import KMeans
    from sklearn.metrics import normalized_mutual_info_score, silhouette_score

    classes = len(np.unique(labels))
    few = _some(len(points), context)
    clusters = KMeans(classes, n_init=5, random_state=context.seed % 2**31).fit_predict(points)
    return {
        "knn_accuracy": float((votes == labels).mean()),
        "silhouette": float(silhouette_score(points[few], labels[few])),
        "kmeans_nmi": float(normalized_mutual_info_score(labels, clusters)),
    }


def _trustworthiness(codes: np.ndarray[Any, Any], plane: np.ndarray[Any, Any], context: Context) -> float:
    """Whether neighbours on the plane are neighbours among the codes, in [0, 1] (Venna & Kaski 2001)."""
    from sklearn.manifold import trustworthiness

    few = _some(len(codes), context)
    return float(trustworthiness(codes[few], plane[few], n_neighbors=context.params.neighbours))


def _some(n: int, context: Context) -> np.ndarray[Any, Any]:
    """Positions of random points, the same for every model."""
    return np.sort(context.rng().permutation(n)[: context.params.points])


def project(codes: np.ndarray[Any, Any], neighbours: int, seed: int, **more: Any) -> np.ndarray[Any, Any]:
    """UMAP of codes (N, D) on a plane: (N, 2) float32; `more` goes to `umap.UMAP`.

    The neighbours are exact. UMAP's own search is approximate, and compiling it takes three times as long as the rest.
    """
    from sklearn.neighbors import NearestNeighbors
    from umap import UMAP

    neighbours = min(neighbours, len(codes) - 1)
    distances, indices = NearestNeighbors(n_neighbors=neighbours, algorithm="brute").fit(codes).kneighbors(codes)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "precomputed_knn")  # it could not place new points, and is not asked to
        plane: np.ndarray[Any, Any] = UMAP(
            n_neighbors=neighbours,
            precomputed_knn=(indices.astype(np.int32), distances.astype(np.float32)),
            force_approximation_algorithm=True,  # small data would not use the neighbours it is given
            random_state=seed % 2**31,
            n_jobs=1,
            **more,
        ).fit_transform(codes)
    return plane


def warm_up(data: DatasetInfo) -> None:
    """Import and compile what projecting codes takes, on a few points."""
    points = np.random.default_rng(0).normal(size=(100, 4)).astype(np.float32)
    project(points, 5, 0, n_epochs=1)
    vote(points, np.arange(100) % 2, 5)


def vote(points: np.ndarray[Any, Any], labels: np.ndarray[Any, Any], neighbours: int) -> np.ndarray[Any, Any]:
    """For each of points (N, D) the most frequent class among its nearest neighbours, itself left out: (N,)."""
    from sklearn.neighbors import KNeighborsClassifier

    classifier = KNeighborsClassifier(min(neighbours, len(points) - 1)).fit(points, labels)
    nearest = classifier.kneighbors(return_distance=False)
    votes = np.stack([(labels[nearest] == label).sum(axis=1) for label in classifier.classes_], axis=1)
    most: np.ndarray[Any, Any] = classifier.classes_[votes.argmax(axis=1)]
    return most


def _scatter(plane: np.ndarray[Any, Any], labels: np.ndarray[Any, Any], classes: tuple[str, ...]) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 6), layout="constrained")
    axes = figure.subplots()
    size = float(np.clip(20_000 / len(plane), 2, 20))
    for label, name in enumerate(classes):
        points = plane[labels == label]
        axes.scatter(points[:, 0], points[:, 1], s=size, linewidths=0, alpha=0.7, color=f"C{label % 10}", label=name)
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
            summary="how well classes keep apart among the codes",
            source="McInnes, Healy & Melville 2018",
            params=LatentStructureParams,
            evaluate=evaluate,
            warm_up=warm_up,
            needs_labels=True,
            metrics=(
                Metric("knn_accuracy", "Nearest-neighbour accuracy of the codes", higher_is_better=True, primary=True),
                Metric(
                    "errors_within_groups",
                    "Share of the neighbours' errors that stay within the named groups of classes",
                    higher_is_better=True,
                ),
                Metric("silhouette", "Silhouette of the classes", higher_is_better=True, source="Rousseeuw 1987"),
                Metric("kmeans_nmi", "Mutual information of classes and k-means clusters", higher_is_better=True),
                Metric("umap_knn_accuracy", "Nearest-neighbour accuracy on the UMAP plane", higher_is_better=True),
                Metric("umap_silhouette", "Silhouette of the classes on the UMAP plane", higher_is_better=True),
                Metric(
                    "umap_kmeans_nmi",
                    "Mutual information of classes and k-means clusters on the UMAP plane",
                    higher_is_better=True,
                ),
                Metric(
                    "umap_trustworthiness",
                    "Whether neighbours on the plane are neighbours among the codes",
                    higher_is_better=True,
                    source="Venna & Kaski 2001",
                ),
            ),
        )
    ]
