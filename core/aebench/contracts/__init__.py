"""The classes that plugins use: the model, the task, the data, and the records that register them."""

from aebench.contracts.backbones import BackboneRecord
from aebench.contracts.data import DatasetInfo, ImageDataset, RawImages, Split, to_unit_interval
from aebench.contracts.likelihoods import Bernoulli, Gaussian, Likelihood, default_likelihood
from aebench.contracts.models import Autoencoder, Code, ModelSpec, straight_line
from aebench.contracts.optimizers import Constant, Cosine, OptimizerSpec, StepDecay
from aebench.contracts.record_base import Params
from aebench.contracts.records import (
    AutoencoderRecord,
    Capability,
    DatasetRecord,
    SamplerRecord,
    StudyRecord,
    TaskRecord,
    UnavailableRecord,
)
from aebench.contracts.stages import Loss, Stage, Update
from aebench.contracts.studies import Claim, Measured, Procedure, PublishedFigures
from aebench.contracts.tasks import Animation, Context, Evaluation, Metric, ReferenceClassifier, Skip, Table
from aebench.errors import AebenchError, NotMeasured
from aebench.hookspecs import hookimpl

__all__ = [
    "AebenchError",
    "Animation",
    "Autoencoder",
    "AutoencoderRecord",
    "BackboneRecord",
    "Bernoulli",
    "Capability",
    "Claim",
    "Code",
    "Constant",
    "Context",
    "Cosine",
    "DatasetInfo",
    "DatasetRecord",
    "Evaluation",
    "Gaussian",
    "ImageDataset",
    "Likelihood",
    "Loss",
    "Measured",
    "Metric",
    "ModelSpec",
    "NotMeasured",
    "OptimizerSpec",
    "Params",
    "Procedure",
    "PublishedFigures",
    "RawImages",
    "ReferenceClassifier",
    "SamplerRecord",
    "Skip",
    "Split",
    "Stage",
    "StepDecay",
    "StudyRecord",
    "Table",
    "TaskRecord",
    "UnavailableRecord",
    "Update",
    "default_likelihood",
    "hookimpl",
    "straight_line",
    "to_unit_interval",
]
