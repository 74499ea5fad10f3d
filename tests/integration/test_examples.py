"""docs/examples.md: each module is as short as the page says, passes its checks, and works in a benchmark."""

import importlib
import re
import sys
import tomllib
from importlib.metadata import entry_points
from types import SimpleNamespace

import pytest
import torch
from torch import Generator

from aebench.contracts import Bernoulli, ModelSpec
from aebench.networks import DENSE
from aebench.planning.benchmark import load_benchmark
from aebench.registry.loading import create_registry
from aebench.scaffold import write_package

from .conftest import ROOT

PAGE = (ROOT / "docs" / "examples.md").read_text()
MODULES = {
    block.partition("\n")[0].removeprefix("# "): block for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
}
MOST_LINES = {
    "aebench_cyclical_vae.py": 45,
    "aebench_least_squares_aae.py": 70,
    "aebench_dirichlet_gmm.py": 40,
    "aebench_resize.py": 60,
}
NAMES = [file.removeprefix("aebench_").removesuffix(".py") for file in MODULES]


@pytest.fixture(scope="module", autouse=True)
def _installed(tmp_path_factory, registry):
    """The packages of `aebench new`, each with the module of the page, found like installed ones."""
    with pytest.MonkeyPatch.context() as patch:
        for name, (file, source) in zip(NAMES, MODULES.items(), strict=True):
            package = write_package("autoencoder", name, tmp_path_factory.mktemp(name), registry)
            assert (package / file).exists()
            (package / file).write_text(source)
            project = tomllib.loads((package / "pyproject.toml").read_text())["project"]
            info = package / f"aebench_{name}-{project['version']}.dist-info"
            info.mkdir()
            required = "".join(f"Requires-Dist: {one}\n" for one in project["dependencies"])
            about = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
            (info / "METADATA").write_text(about + required)
            registered = (f"{key} = {value}\n" for key, value in project["entry-points"]["aebench"].items())
            (info / "entry_points.txt").write_text("[aebench]\n" + "".join(registered))
            patch.syspath_prepend(package)
        yield
    for file in MODULES:
        sys.modules.pop(file.removesuffix(".py"), None)


def test_the_page_has_the_four_examples():
    assert set(MODULES) == set(MOST_LINES)
    assert set(NAMES) <= {entry_point.name for entry_point in entry_points(group="aebench")}


@pytest.mark.parametrize("file", MODULES)
def test_a_module_has_the_number_of_lines_that_the_page_states(file):
    lines = len(MODULES[file].splitlines())
    assert lines <= MOST_LINES[file]
    assert re.search(rf"^\| `{file}` \|.*\| {lines} \|$", PAGE, re.MULTILINE)


@pytest.mark.parametrize("name", NAMES)
def test_a_module_passes_its_checks(name, bare_home):
    printed = bare_home.call("check", name).stdout
    assert re.fullmatch(rf"{name}: [1-9]\d* checks, none failed", printed.splitlines()[-1])


def test_the_benchmark_of_the_page_runs_all_four(home):
    (config,) = re.findall(r"```yaml\n(# bench.yaml.*?)```", PAGE, re.DOTALL)
    (home.path / "bench.yaml").write_text(config)
    home.call("run", "--config", "bench.yaml", "--epochs", 2)
    cells = home.results()["cells"]
    assert {(cell["task"], cell["status"]) for cell in cells} == {("reconstruction", "ok"), ("sampling", "ok")}
    rows = {cell["model"] for cell in cells}
    assert rows == set(re.findall(r"`(\w+)`", PAGE.rpartition("The table has four rows:")[2]))
    distances = [cell["metrics"]["ex_post_frechet_distance"] for cell in cells if cell["task"] == "sampling"]
    assert len(distances) == len(set(distances)) == 4


@pytest.mark.parametrize("example", re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL))
def test_the_configurations_of_the_page_choose_the_sampler(example, tmp_path):
    (tmp_path / "bench.yaml").write_text(example)
    benchmark = load_benchmark(create_registry(), tmp_path / "bench.yaml")
    assert "dirichlet_gmm" in {sampler.record.name for task in benchmark.tasks for sampler in task.samplers}


def _build(name, digits, **params):
    (record,) = importlib.import_module(f"aebench_{name}").aebench_autoencoders()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return record.build(ModelSpec(digits.info.input_shape, 2, record.params(**params), DENSE, Bernoulli()))


def test_beta_rises_in_four_cycles(digits):
    model = _build("cyclical_vae", digits)
    betas = []
    for epoch in range(40):
        model.on_epoch(epoch, 40)
        betas.append(float(model.beta))
    assert betas == pytest.approx(4 * [0.2, 0.4, 0.6, 0.8, 1, 1, 1, 1, 1, 1])


def test_the_adversaries_train_different_modules(digits):
    model = _build("least_squares_aae", digits, learning_rate=0.5)
    (stage,) = model.stages(3)
    autoencoder, discriminator = stage.updates
    assert (autoencoder.trains, autoencoder.optimizer) == ((model.encoder, model.decoder), None)
    assert (discriminator.trains, discriminator.optimizer.learning_rate) == ((model.discriminator,), 0.5)


def test_the_discriminator_spreads_codes_like_the_prior(digits, train):
    spread = {}
    for weight in (0.0, 3.0):
        model = train(_build("least_squares_aae", digits, weight=weight), digits, epochs=20).eval()
        with torch.no_grad():
            spread[weight] = float(model.embed(digits.test.x()).std(dim=0).mean())
    assert abs(spread[3.0] - 1) < abs(spread[0.0] - 1) / 2


def test_the_sampler_draws_new_codes_of_all_components_in_any_order():
    codes = torch.randn(400, 2, generator=Generator().manual_seed(0)) + 20 * (torch.arange(400) % 2)[:, None]
    model = SimpleNamespace(decode_images=lambda z: z)
    draw = importlib.import_module("aebench_dirichlet_gmm").fit(model, codes, Generator().manual_seed(1))
    one, other = (draw(100, Generator().manual_seed(seed)) for seed in (2, 3))
    assert len({tuple(code.tolist()) for code in torch.cat([one, other])}) == 200
    cluster = one[:, 0] > 10
    assert int((cluster[1:] != cluster[:-1]).sum()) > 25  # half of 99, if the order is random


def test_the_backbone_has_as_many_parameters_as_the_page_says():
    backbone = importlib.import_module("aebench_resize")
    parts = backbone.encoder((1, 32, 32), 20), backbone.decoder(20, (1, 32, 32))
    parameters = sum(parameter.numel() for part in parts for parameter in part.parameters())
    assert f"this backbone has {parameters:,} parameters" in " ".join(PAGE.split())
