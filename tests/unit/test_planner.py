"""The plan: what is trained, shared and skipped, and which settings a hash depends on."""

from dataclasses import replace

import pytest

from aebench.errors import AebenchError
from aebench.planning.benchmark import load_benchmark
from aebench.planning.planner import plan


def test_every_model_is_paired_with_every_task(lay_out, registry):
    assert [(cell.training.label, cell.task) for cell in lay_out().cells] == [
        (model, task) for model in registry.autoencoders for task in registry.tasks
    ]


def test_a_pair_is_skipped_where_the_task_does_not_support_the_model(with_drawing, digits):
    cells = plan(load_benchmark(with_drawing), digits.info).cells
    skipped = {(cell.training.label, cell.task): cell.skip for cell in cells if cell.skip}
    assert skipped == {
        (model, task): skip.reason
        for model, plugin in with_drawing.autoencoders.items()
        for task, asked in with_drawing.tasks.items()
        if (skip := asked.record.supports(plugin.record, digits.info))
    }
    assert skipped["denoising", "drawing"] == "denoising has no capability 'sample'"


def test_every_model_is_trained_once_for_each_profile_that_its_tasks_need(lay_out, registry):
    plan = lay_out()
    needed = {
        (cell.training.label, registry.task(cell.task).record.profile) for cell in plan.cells if cell.skip is None
    }
    assert sorted((training.label, training.profile) for training in plan.trainings) == sorted(needed)


def test_tasks_of_one_profile_share_a_training(lay_out):
    plan = lay_out(models=["vae"])
    general, anomaly = sorted(plan.trainings, key=lambda training: training.profile, reverse=True)
    assert (general.latent_dim, general.held_out) == (20, None)
    assert (anomaly.latent_dim, anomaly.held_out) == (2, 1)
    assert [cell.task for cell in plan.cells if cell.training == anomaly] == ["anomaly_detection"]


def test_a_training_that_only_skipped_cells_need_is_not_done(with_drawing, digits):
    benchmark = load_benchmark(with_drawing, None, {("models",): ["vanilla"], ("tasks",): ["drawing"]})
    assert plan(benchmark, digits.info).trainings == ()


def test_another_sampler_changes_the_hash_of_the_task_that_uses_it(lay_out):
    def hashes(sampler):
        tasks = [{"name": "sampling", "params": {"sampler": sampler}}, "reconstruction"]
        return {cell.task: cell.hash for cell in lay_out(models=["vae"], tasks=tasks).cells}

    gaussian, mixture = hashes("gaussian"), hashes("gmm")
    assert gaussian["sampling"] != mixture["sampling"]
    assert gaussian["reconstruction"] == mixture["reconstruction"]


def test_a_subset_has_the_hashes_of_the_whole(lay_out):
    whole = {(cell.training.label, cell.task): cell.hash for cell in lay_out().cells}
    part = lay_out(models=["vq_vae", "vae"], tasks=["sampling", "reconstruction"])
    assert {(cell.training.label, cell.task): cell.hash for cell in part.cells}.items() <= whole.items()


def test_the_same_benchmark_gives_the_same_plan(lay_out):
    assert lay_out().matrix == lay_out().matrix


def test_each_model_that_uses_backbones_has_a_row_for_each(lay_out, registry):
    plan = lay_out(backbones=["dense", "conv"])
    expected = [
        (name + suffix, backbone)
        for name, plugin in registry.autoencoders.items()
        for suffix, backbone in ([("", None)] if plugin.record.own_networks else [("", "dense"), ("_conv", "conv")])
    ]
    assert list(dict.fromkeys((cell.training.label, cell.training.backbone) for cell in plan.cells)) == expected
    hashes = {training.label: training.hash for training in plan.trainings}
    assert hashes["vae"] != hashes["vae_conv"]


def test_a_row_on_one_backbone_is_the_same_beside_another(lay_out):
    both = {cell.hash for cell in lay_out(models=["vae", "pca"], backbones=["dense", "conv"]).cells}
    for backbone in ("dense", "conv"):
        assert {cell.hash for cell in lay_out(models=["vae", "pca"], backbones=[backbone]).cells} < both


def test_images_too_small_for_a_backbone(registry, digits):
    benchmark = load_benchmark(registry, None, {("backbones",): ["dense", "conv"]})
    with pytest.raises(AebenchError, match=r"conv needs images of at least 8x8 pixels, those of digits have 7x9"):
        plan(benchmark, replace(digits.info, input_shape=(1, 7, 9)))
    own = load_benchmark(registry, None, {("backbones",): ["conv"], ("models",): ["pca"]})
    assert plan(own, replace(digits.info, input_shape=(1, 7, 9))).trainings


@pytest.mark.parametrize(("channels", "expected"), [(1, "bernoulli"), (3, "gaussian")])
def test_the_likelihood_follows_the_channels_unless_it_is_given(registry, digits, channels, expected):
    info = replace(digits.info, input_shape=(channels, 8, 8))
    assert plan(load_benchmark(registry), info).likelihood.name == expected
    given = load_benchmark(registry, None, {("likelihood",): {"name": "gaussian", "sigma": 0.3}})
    assert {training.likelihood.sigma for training in plan(given, info).trainings} == {0.3}


@pytest.mark.parametrize(
    "change",
    [
        {"training": {"epochs": 61}},
        {"training": {"batch_size": 32}},
        {"training": {"optimizer": {"learning_rate": 0.002}}},
        {"training": {"early_stopping": {"patience": 3}}},
        {"likelihood": "gaussian"},
        {"seed": 43},
        {"profiles": {"general": {"latent_dim": 19}, "anomaly": {"latent_dim": 2, "held_out": 2}}},
        {"models": [{"name": "stacked", "params": {"objective": "pixels"}}]},
    ],
)
def test_every_setting_that_can_change_a_result_changes_every_hash(lay_out, change):
    before = {cell.hash for cell in lay_out(models=["stacked"]).cells}
    after = {cell.hash for cell in lay_out(**{"models": ["stacked"]} | change).cells}
    assert not before & after


def test_a_models_own_training_changes_its_own_cells_only(lay_out):
    own = {"epochs": 90, "batch_size": 32, "optimizer": {"name": "adamw", "schedule": "cosine"}}
    models = ["vanilla", {"name": "vae", "training": own}]
    before, after = lay_out(models=["vanilla", "vae"]), lay_out(models=models)
    for one, other in zip(before.cells, after.cells, strict=True):
        assert (one.hash == other.hash) == (one.training.label == "vanilla")
    training = next(training for training in after.trainings if training.label == "vae")
    assert (training.epochs, training.batch_size, training.optimizer.name) == (90, 32, "adamw")
    same = lay_out(models=["vanilla", {"name": "vae", "training": {"epochs": 60, "optimizer": "adam"}}])
    assert [cell.hash for cell in same.cells] == [cell.hash for cell in before.cells]


def test_early_stopping_needs_validation_images(registry, digits):
    benchmark = load_benchmark(registry, None, {("training", "early_stopping"): {"patience": 3}})
    assert plan(benchmark, digits.info).trainings[0].patience == 3
    train, _, test = digits.info.sizes
    with pytest.raises(AebenchError, match=r"training\.early_stopping: digits has no validation images"):
        plan(benchmark, replace(digits.info, sizes=(train, 0, test)))


def test_a_tasks_parameters_change_its_own_cells_only(lay_out):
    tasks = ["reconstruction", "interpolation"]
    before = lay_out(models=["vae"], tasks=tasks).cells
    after = lay_out(models=["vae"], tasks=[tasks[0], {"name": tasks[1], "params": {"pairs": 7}}]).cells
    assert [a.hash == b.hash for a, b in zip(before, after, strict=True)] == [True, False]


def test_a_label_changes_no_hash_but_the_matrix(lay_out):
    plain, labelled = lay_out(models=["vae"]), lay_out(models=[{"name": "vae", "label": "mine"}])
    assert [cell.hash for cell in plain.cells] == [cell.hash for cell in labelled.cells]
    assert plain.matrix != labelled.matrix


def test_seeds_repeat_every_training_and_are_paired(lay_out):
    once, plan = (lay_out(models=["vae", "vanilla"], seeds=seeds) for seeds in (1, 3))
    assert len(plan.cells) == len(once.cells) * 3
    assert len({cell.hash for cell in plan.cells}) == len(plan.cells)
    general = [training for training in plan.trainings if training.profile == "general"]
    assert len({training.batches_seed for training in general}) == 3  # the same batches for both models
    assert {training.initialisation_seed for training in general} == {42, 43, 44}  # and the same initial weights
    assert len({training.derived_seed("noise") for training in general}) == 6


def test_evaluation_seeds_are_the_same_for_all_models_and_differ_between_tasks(lay_out, registry):
    assert len({cell.seed for cell in lay_out().cells}) == len(registry.tasks)


def test_a_held_out_class_that_does_not_exist(lay_out):
    with pytest.raises(AebenchError, match=r"held_out: class 10 is not in digits, whose classes are 0\.\.9"):
        lay_out(profiles={"anomaly": {"latent_dim": 2, "held_out": 10}})


def test_a_held_out_class_listed_twice(lay_out):
    with pytest.raises(AebenchError, match="a class is listed twice"):
        lay_out(profiles={"anomaly": {"latent_dim": 2, "held_out": [1, 1]}})


@pytest.mark.parametrize(("held_out", "classes"), [([1, 7], [1, 7]), ("all", list(range(10)))])
def test_each_of_several_held_out_classes_has_a_training(lay_out, held_out, classes):
    several = lay_out(models=["vae"], profiles={"anomaly": {"latent_dim": 2, "held_out": held_out}})
    parts = [cell for cell in several.cells if cell.task == "anomaly_detection"]
    assert [cell.training.held_out for cell in parts] == classes
    assert [cell.key for cell in parts] == [f"anomaly_detection.without_{held_out}" for held_out in classes]
    assert [cell.training.training_key for cell in parts] == [f"anomaly_without_{held_out}" for held_out in classes]
    alone = {cell.hash: cell.key for cell in lay_out(models=["vae"]).cells}
    assert [alone.get(cell.hash) for cell in parts if cell.training.held_out == 1] == ["anomaly_detection"]
    general = [cell for cell in several.cells if cell.task != "anomaly_detection"]
    assert {cell.key for cell in general} == {cell.task for cell in general}


def test_one_class_in_a_list_is_one_class(lay_out):
    profiles = [{"anomaly": {"latent_dim": 2, "held_out": held_out}} for held_out in (3, [3])]
    one, listed = (lay_out(models=["vae"], profiles=profile).cells for profile in profiles)
    assert one == listed


def test_precision_is_part_of_every_hash(registry, digits):
    benchmark = load_benchmark(registry, None, {("models",): ["vae"], ("tasks",): ["reconstruction"]})
    full, half = (plan(benchmark, digits.info, precision).cells[0] for precision in ("fp32", "bf16"))
    assert (full.training.precision, half.training.precision) == ("fp32", "bf16")
    assert full.hash != half.hash
    assert full.training.hash != half.training.hash
