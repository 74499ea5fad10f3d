"""pip installs and removes plugins in a virtual environment."""

from .conftest import ROOT


def test_pip_uninstall_removes_a_plugin_and_pip_install_adds_it(venv, tmp_path, registry):
    def models():
        return {model["name"] for model in venv.json(tmp_path, "list")["models"]}

    everything = models()
    assert everything == set(registry.autoencoders)
    venv.pip("uninstall", "-y", "aebench-vq-vae")
    assert everything - models() == {"vq_vae"}
    venv.aebench(tmp_path, "run", "--epochs", "1", "--tasks", "reconstruction")
    cells = venv.json(tmp_path, "results")["cells"]
    assert {(cell["model"], cell["status"]) for cell in cells} == {(name, "ok") for name in everything - {"vq_vae"}}
    venv.pip("install", ROOT / "plugins" / "vq_vae")
    assert models() == everything
