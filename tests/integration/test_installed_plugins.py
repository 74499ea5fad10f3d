"""Plugins come and go with pip, in a real environment."""

from .conftest import ROOT


def test_a_plugin_goes_with_pip_uninstall_and_comes_back_with_pip_install(venv, tmp_path):
    def models():
        return {model["name"] for model in venv.json(tmp_path, "list")["models"]}

    everything = models()
    assert len(everything) == 11
    venv.pip("uninstall", "-y", "aebench-vq-vae")
    assert everything - models() == {"vq_vae"}
    venv.aebench(tmp_path, "run", "--epochs", "1", "--tasks", "reconstruction")
    cells = venv.json(tmp_path, "results")["cells"]
    assert {(cell["model"], cell["status"]) for cell in cells} == {(name, "ok") for name in everything - {"vq_vae"}}
    venv.pip("install", ROOT / "plugins" / "vq_vae")
    assert models() == everything
