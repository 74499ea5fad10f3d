"""One job in this process: what a task returns and changes, and what a model returns."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from aebench.contracts import Animation, Autoencoder, Evaluation, Loss, Metric, Table, TaskRecord
from aebench.errors import AebenchError
from aebench.evaluation.reference_classifier import save_reference_classifier
from aebench.evaluation.returned_values import checked_metrics
from aebench.execution.artifacts import FolderStore
from aebench.execution.events import Failed
from aebench.execution.jobs import DATA, REFERENCE_CLASSIFIER, WEIGHTS, Job
from aebench.execution.run_job import JobRunner
from aebench.planning.benchmark import load_benchmark
from aebench.planning.planner import plan
from aebench.registry.side_effects import ProcessState
from aebench.training.building import build_model, weights_of

CPU = torch.device("cpu")
VALUE = Metric("value", "Value", higher_is_better=True, primary=True)
FINE = Evaluation({"value": 1.0})
TASK = TaskRecord(name="tested", title="T", summary="-", evaluate=lambda *_: FINE, metrics=(VALUE,))


def honest(model, data, context):
    """Sums of everything that a task is given."""
    given = [*model.state_dict().values(), *context.reference_classifier.state_dict().values()]
    for split in (data.train, data.validation, data.test):
        given += [split.images, split.labels]
    return Evaluation({"value": float(sum(tensor.double().sum() for tensor in given))})


@pytest.fixture
def matrix(registry, digits, reference_classifier, tmp_path):
    """What runs trainings and evaluations of one model by a task that is called `honest` or `tested`."""
    artifacts = FolderStore(tmp_path)
    inputs = {
        DATA: artifacts.put_written(digits.save),
        REFERENCE_CLASSIFIER: artifacts.put_written(lambda file: save_reference_classifier(reference_classifier, file)),
    }
    reconstruction, vanilla = registry.task("reconstruction"), registry.autoencoder("vanilla")

    def prepare(evaluate=honest, build=None):
        tasks = dict(registry.tasks)
        for name, function in (("honest", honest), ("tested", evaluate)):
            changes = {"name": name, "evaluate": function, "metrics": (VALUE,), "needs_reference_classifier": True}
            tasks[name] = replace(reconstruction, record=reconstruction.record.model_copy(update=changes))
        record = vanilla.record if build is None else vanilla.record.model_copy(update={"build": build})
        models = {**registry.autoencoders, "vanilla": replace(vanilla, record=record)}
        changed = replace(registry, tasks=tasks, autoencoders=models)
        options = {("models",): ["vanilla"], ("tasks",): ["honest", "tested"], ("training", "epochs"): 1}
        cells = {cell.task: cell for cell in plan(load_benchmark(changed, None, options), digits.info).cells}
        runner = JobRunner(changed, artifacts, CPU)

        def run(spec, weights=None):
            events = []
            job = Job("job", spec, inputs if weights is None else {**inputs, WEIGHTS: weights})
            runner.run(job, events.append)
            return events[-1]

        spec = cells["honest"].training
        return SimpleNamespace(
            train=lambda: run(spec),
            untrained=lambda: artifacts.put(weights_of(build_model(changed, spec, digits.info.input_shape))),
            evaluate=lambda task, weights: run(cells[task], weights),
        )

    return prepare


def _changes_weights(model, data, context):
    model.encoder.state_dict()[next(iter(model.encoder.state_dict()))].add_(1)


def _changes_weights_through_numpy(model, data, context):
    next(model.parameters()).numpy()[0] = 0


def _trains_the_model(model, data, context):
    model.train()


def _unfreezes_the_model(model, data, context):
    model.requires_grad_(True)


def _changes_images(model, data, context):
    data.test.images[0] = 255


def _changes_images_through_numpy(model, data, context):
    images = data.train.images.numpy()
    np.random.default_rng(0).shuffle(images)


def _changes_labels(model, data, context):
    data.validation.labels.zero_()


def _changes_the_classifier(model, data, context):
    next(context.reference_classifier.parameters()).fill_(0)


CHANGES = {
    _changes_weights: "the model's weights (encoder.",
    _changes_weights_through_numpy: "the model's weights (encoder.",
    _trains_the_model: "the model's training mode (",
    _unfreezes_the_model: "the model's requires_grad (",
    _changes_images: "the test images",
    _changes_images_through_numpy: "the train images",
    _changes_labels: "the validation labels",
    _changes_the_classifier: "the reference classifier's weights (body.0.weight)",
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("raises", [False, True])
def test_a_task_that_changes_what_it_is_given_fails_and_later_tasks_get_the_originals(matrix, change, raises):
    def tested(model, data, context):
        change(model, data, context)
        if raises:
            raise ValueError("no luck")
        return FINE

    runner = matrix(tested)
    weights = runner.untrained()
    before = runner.evaluate("honest", weights).result.metrics
    failed = runner.evaluate("tested", weights)
    assert isinstance(failed, Failed)
    if raises:
        assert failed.error == "ValueError: no luck"
    else:
        assert failed.error.startswith(f"task 'tested' changed {CHANGES[change]}")
        assert failed.error.endswith("; a task must leave what it is given as it is")
    assert runner.evaluate("honest", weights).result.metrics == before


def test_an_evaluation_has_no_side_effects_of_its_own(matrix):
    runner = matrix()
    before = ProcessState()
    runner.evaluate("honest", runner.untrained())
    assert before.restore() == ()


def test_a_fit_that_changes_the_images_harms_no_other_training(matrix, registry):
    runner = matrix()
    before = runner.train().artifacts[WEIGHTS]

    class Fitting(Autoencoder):
        def __init__(self, spec):
            super().__init__(spec, spec.encoder(spec.latent_dim), spec.decoder())

        def stages(self, epochs):
            def fit(images, generator):
                images.zero_()

            return (SimpleNamespace(name="fit", epochs=0, updates=(), trains=(), fit=fit), *super().stages(epochs))

    assert matrix(build=Fitting).train().artifacts[WEIGHTS] == before


RETURNS = {
    "None": (lambda: None, "returned None, an Evaluation is expected"),
    "a dict": (lambda: {"value": 1.0}, "returned a value of type dict, an Evaluation is expected"),
    "metrics that are no mapping": (lambda: Evaluation([1.0]), "returned a value of type list as metrics"),
    "a text": (lambda: Evaluation({"value": "1.0"}), "returned the text '1.0' as the metric 'value', a number is"),
    "a list": (lambda: Evaluation({"value": [1.0]}), "returned a value of type list as the metric 'value'"),
    "several values": (
        lambda: Evaluation({"value": torch.zeros(3)}),
        "returned a tensor of shape (3,) and type float32 as the metric 'value'",
    ),
    "an array": (lambda: Evaluation({"value": np.zeros(1)}), "an array of shape (1,) and type float64 as the metric"),
    "a complex number": (lambda: Evaluation({"value": 1j}), "a value of type complex as the metric 'value'"),
    "another metric": (lambda: Evaluation({"other": 1.0}), "declares the metrics ['value'] but returned ['other']"),
    "a metric without a name": (lambda: Evaluation({None: 1.0}), "but returned ['None']"),
    "no picture": (
        lambda: Evaluation({"value": 1.0}, images={"grid": None}),
        "returned None as the image 'grid', a uint8 array (H, W) or (H, W, 3) is expected",
    ),
    "a picture of floats": (
        lambda: Evaluation({"value": 1.0}, images={"grid": np.zeros((4, 4))}),
        "returned an array of shape (4, 4) and type float64 as the image 'grid'",
    ),
    "a picture with two channels": (
        lambda: Evaluation({"value": 1.0}, images={"grid": np.zeros((4, 4, 2), np.uint8)}),
        "returned an array of shape (4, 4, 2) and type uint8 as the image 'grid'",
    ),
    "an animation without frames": (
        lambda: Evaluation({"value": 1.0}, images={"walk": Animation(np.zeros((0, 4, 4), np.uint8))}),
        "returned an array of shape (0, 4, 4) and type uint8 as the animation 'walk'",
    ),
    "no figure": (lambda: Evaluation({"value": 1.0}, figures={"roc": "roc.png"}), "the text 'roc.png' as the figure"),
    "no table": (lambda: Evaluation({"value": 1.0}, tables={"all": [[1]]}), "a value of type list as the table 'all'"),
    "a path as a name": (
        lambda: Evaluation({"value": 1.0}, tables={"../all": Table(("a",), ())}),
        "returned a file named '../all'",
    ),
}


@pytest.mark.parametrize("case", RETURNS)
def test_what_a_task_returns_instead_of_an_evaluation_is_named_in_one_line(case):
    returned, message = RETURNS[case]
    with pytest.raises(AebenchError) as error:
        checked_metrics(TASK, returned())
    assert str(error.value).startswith("task 'tested' ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("value", [1, 1.0, np.float32(1), np.int64(1), torch.tensor(1.0), np.array(1), True])
def test_every_kind_of_number_is_a_metric(value):
    assert checked_metrics(TASK, Evaluation({"value": value})) == {"value": 1.0}


def test_a_task_that_returns_nothing_fails(matrix):
    runner = matrix(lambda model, data, context: None)
    failed = runner.evaluate("tested", runner.untrained())
    assert failed.error == "task 'tested' returned None, an Evaluation is expected"


class Working(Autoencoder):
    def __init__(self, spec):
        super().__init__(spec, spec.encoder(spec.latent_dim), spec.decoder())


class DecodesRows(Working):
    def decode(self, z):
        return super().decode(z).flatten(1)


class DecodesOneImage(Working):
    def decode(self, z):
        return super().decode(z)[:1]


class DecodesTooMany(Working):
    def decode(self, z):
        return super().decode(torch.cat([z, z]))


class EmbedsOneRow(Working):
    def embed(self, x, stochastic=False, generator=None):
        return super().embed(x)[:1]


class EmbedsCodes(Working):
    def embed(self, x, stochastic=False, generator=None):
        return self.bottleneck(self.encode(x))


class ReconstructsNothing(Working):
    def reconstruct(self, x, stochastic=False, generator=None):
        return torch.full_like(x, torch.nan)


class ReconstructsLogits(Working):
    def reconstruct(self, x, stochastic=False, generator=None):
        return x + 3


class LosesNothing(Working):
    def loss(self, x, generator):
        return None


class LosesPerImage(Working):
    def loss(self, x, generator):
        loss = super().loss(x, generator)
        return Loss(loss.total.expand(len(x)), loss.reconstruction, loss.penalty)


class LosesANumber(Working):
    def loss(self, x, generator):
        loss = super().loss(x, generator)
        return Loss(loss.total, loss.reconstruction, 0.0)


MODELS = {
    DecodesTooMany: "model 'vanilla' of aebench-deep: decode returned a tensor of shape (6, 1, 8, 8)",
    DecodesRows: "the decoder returned a tensor of shape (64, 64) for images of shape (64, 1, 8, 8); the shapes must",
    DecodesOneImage: "the decoder returned a tensor of shape (1, 1, 8, 8) for images of shape (64, 1, 8, 8)",
    EmbedsOneRow: "model 'vanilla' of aebench-deep: embed returned a tensor of shape (1, 20) and type float32, a float "
    "tensor of shape (3, 20) is expected",
    EmbedsCodes: "model 'vanilla' of aebench-deep: embed returned a value of type Code",
    ReconstructsNothing: "model 'vanilla' of aebench-deep: reconstruct returned images with pixels from nan to nan",
    ReconstructsLogits: "model 'vanilla' of aebench-deep: reconstruct returned images with pixels from 3 to 4",
    LosesNothing: "LosesNothing.loss returned a value of type NoneType, a Loss is expected",
    LosesPerImage: "LosesPerImage.loss returned a Loss whose total is of shape (64,), a scalar tensor is expected",
    LosesANumber: "LosesANumber.loss returned a Loss whose penalty is of type float, a scalar tensor is expected",
}


@pytest.mark.parametrize("build", MODELS)
def test_a_model_that_returns_something_else_fails_with_one_line(matrix, build):
    runner = matrix(build=build)
    event = runner.evaluate("honest", runner.untrained()) if "model" in MODELS[build] else runner.train()
    assert isinstance(event, Failed)
    assert event.error.startswith(MODELS[build])
