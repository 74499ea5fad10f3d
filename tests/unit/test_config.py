"""Configurations: merged, validated as a whole, and every mistake reported with its place."""

import pytest

from aebench.contracts import OptimizerSpec
from aebench.errors import AebenchError
from aebench.planning.benchmark import load_benchmark


def _file(tmp_path, text):
    path = tmp_path / "bench.yaml"
    path.write_text(text)
    return path


def test_the_default_is_everything_on_digits(registry):
    benchmark = load_benchmark(registry)
    assert benchmark.dataset.label == "digits"
    assert [model.label for model in benchmark.models] == list(registry.autoencoders)
    assert [task.label for task in benchmark.tasks] == list(registry.tasks)
    assert (benchmark.config.training.epochs, benchmark.config.seed, benchmark.config.seeds) == (60, 42, 1)
    assert benchmark.config.all_profiles["anomaly"].held_out == 1


def test_a_file_with_labels_parameters_and_profiles(registry, tmp_path):
    file = _file(
        tmp_path,
        """
        dataset: digits
        models:
          - vanilla
          - {name: stacked, label: stacked_pixels, params: {objective: pixels}}
        tasks: [reconstruction, {name: interpolation, params: {pairs: 5}}]
        seeds: 3
        training: {epochs: 7, optimizer: {name: adamw, learning_rate: 0.01, schedule: cosine}}
        profiles: {general: {latent_dim: 3}}
        """,
    )
    benchmark = load_benchmark(registry, file, {("training", "epochs"): 2})
    assert [(model.label, model.record.name) for model in benchmark.models] == [
        ("vanilla", "vanilla"),
        ("stacked_pixels", "stacked"),
    ]
    assert benchmark.models[1].params.objective == "pixels"
    assert benchmark.tasks[1].params.pairs == 5
    assert benchmark.config.training.epochs == 2  # the option wins
    assert benchmark.config.training.optimizer == OptimizerSpec(name="adamw", learning_rate=0.01, schedule="cosine")
    assert benchmark.config.all_profiles["general"].latent_dim == 3
    assert benchmark.config.all_profiles["anomaly"].latent_dim == 2


def test_all_mistakes_at_once_in_sections_and_in_a_plugins_parameters(registry, tmp_path):
    file = _file(
        tmp_path,
        """
        models: [vanilla, {name: vq_vae, params: {codebok_size: 8}}, veae]
        trainning: {epochs: 3}
        training: {epochs: many}
        """,
    )
    with pytest.raises(AebenchError) as caught:
        load_benchmark(registry, file)
    lines = str(caught.value).splitlines()
    assert lines == [
        f"{file}: training.epochs: input should be a valid integer, got 'many'",
        f"{file}: trainning: unknown key; did you mean 'training'? "
        "Known: dataset, models, backbones, tasks, seeds, seed, training, likelihood, profiles",
        f"{file}: models[1].params.codebok_size: unknown key; did you mean 'codebook_size'? Known: codebook_size, beta",
        f"{file}: models[2]: model 'veae' is not registered; did you mean 'vae'? "
        f"Available: {', '.join(registry.autoencoders)}. See 'aebench list models'.",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("models: vanilla", "models: input should be a valid array"),
        ("models: []", "models: must not be empty"),
        ("models: [vae, vae]", "'vae' is listed 2 times; give them different labels"),
        ("tasks: [sampling, sampling]", "'sampling' is listed 2 times"),
        ("models: [{params: {}}]", r"models\[0\].name: is required"),
        ("models: [{name: vae, labl: x}]", r"models\[0\].labl: unknown key; did you mean 'label'\?"),
        ("models: [{name: vae, label: 'A b'}]", r"models\[0\].label: string should match pattern"),
        ("models: [{name: beta_vae_strict, params: {beta: -1}}]", r"models\[0\].params.beta: input should be greater"),
        (
            "models: [{name: vae, training: {epochs: 0}}]",
            r"models\[0\].training.epochs: input should be greater than 0",
        ),
        ("models: [{name: vae, training: {optimizer: x}}]", r"models\[0\].training.optimizer.name: input should be"),
        (
            "models: [{name: vae, training: {precision: bf16}}]",
            r"models\[0\].training.precision: unknown key",
        ),
        ("training: {epochs: 0}", "training.epochs: input should be greater than 0, got 0"),
        ("training: {batch_size: 1}", "training.batch_size: input should be greater than 1"),
        ("training: {optimizer: {learning_rate: .inf}}", "training.optimizer.learning_rate"),
        ("training: {early_stopping: {patience: 0}}", "training.early_stopping.patience: input should be greater"),
        ("training: {early_stopping: 5}", "training.early_stopping: input should be an object"),
        ("training: {optimizer: lion}", "training.optimizer.name: input should be 'adam', 'adamw' or 'sgd'"),
        ("training: {optimizer: {momentum: 0.9}}", "training.optimizer: adam has no momentum; sgd has$"),
        (
            "training: {optimizer: {schedule: linear}}",
            "optimizer.schedule: 'name' should be one of 'constant', 'cosine'",
        ),
        ("training: {optimizer: {schedule: {every: 3}}}", "training.optimizer.schedule: 'name' is required"),
        ("training: {optimizer: {schedule: step}}", "training.optimizer.schedule.step.every: is required"),
        (
            "training: {optimizer: {schedule: {name: cosine, finl: 0}}}",
            r"schedule.cosine.finl: unknown key; did you mean 'final'\? Known: name, final",
        ),
        ("seeds: true", "seeds: input should be a valid integer"),
        ("profiles: {general: {latent: 3}}", r"profiles.general.latent: unknown key; did you mean 'latent_dim'\?"),
        ("dataset: npz", "dataset.params.path: is required"),
        ("dataset: mist", "data set 'mist' is not registered; did you mean 'mnist'"),
        ("- vae", "expected keys such as 'dataset'"),
        ("models: [", "is not YAML"),
    ],
)
def test_mistakes(registry, tmp_path, text, message):
    with pytest.raises(AebenchError, match=message):
        load_benchmark(registry, _file(tmp_path, text))


def test_an_options_mistake_carries_the_options_name(registry):
    with pytest.raises(AebenchError, match=r"^--epochs: input should be greater than 0, got 0$"):
        load_benchmark(registry, None, {("training", "epochs"): 0})
    with pytest.raises(AebenchError, match=r"^--tasks: task 'sing' is not registered"):
        load_benchmark(registry, None, {("tasks",): ["sing"]})


def test_a_file_that_does_not_exist(registry, tmp_path):
    with pytest.raises(AebenchError, match="cannot be read: No such file"):
        load_benchmark(registry, tmp_path / "none.yaml")


@pytest.mark.parametrize("section", ["", " 5", " [epochs]"])
def test_an_option_whose_section_in_the_file_is_empty_or_no_mapping(registry, tmp_path, section):
    file, option = _file(tmp_path, f"training:{section}"), {("training", "epochs"): 2}
    if section:
        with pytest.raises(AebenchError, match="training: input should be"):
            load_benchmark(registry, file, option)
    else:
        assert load_benchmark(registry, file, option).config.training.epochs == 2


def test_a_key_that_is_not_text(registry, tmp_path):
    with pytest.raises(AebenchError, match="2020-01-01: unknown key"):
        load_benchmark(registry, _file(tmp_path, "2020-01-01: 3"))


def test_what_yaml_offers_and_is_harmless(registry, tmp_path):
    text = """\ufeff
        models:
          - {name: vae, label: first, training: &short {epochs: 3, batch_size: 16}}
          - {name: vae, label: "yes", training: {<<: *short, epochs: 4}}
          - {name: vae, label: other, training: *short}
        seed: 0x10
        profiles: {on: {latent_dim: 3}}
    """
    benchmark = load_benchmark(registry, _file(tmp_path, text))
    assert [model.label for model in benchmark.models] == ["first", "yes", "other"]
    assert [model.training.epochs for model in benchmark.models] == [3, 4, 3]
    assert [model.training.batch_size for model in benchmark.models] == [16, 16, 16]
    assert benchmark.config.seed == 16
    assert benchmark.config.profiles["on"].latent_dim == 3


def test_every_mistake_is_one_line_whatever_the_names_contain(registry, tmp_path):
    text = 'models: ["a\\nb", "\\e[31m"]\n"x\\r\\ny": 3\nseeds: 0\n'
    with pytest.raises(AebenchError) as caught:
        load_benchmark(registry, _file(tmp_path, text))
    assert len(caught.value.lines) == 4
    assert all(line.isprintable() for line in caught.value.lines)
