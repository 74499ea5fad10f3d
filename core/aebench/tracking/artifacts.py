"""Files of a run: written from files or bytes under paths of our choice, and read back."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException


def log_files(client: MlflowClient, run_id: str, files: Mapping[str, Path | bytes]) -> None:
    """Log local files, or contents, by their paths in the run.

    Raises:
        ValueError: a path leads out of the run.
    """
    if not files:
        return
    for path in files:
        if not path or path.startswith("/") or not {"", ".", ".."}.isdisjoint(path.split("/")):
            raise ValueError(f"{path!r} is not the path of a file in a run")
    with tempfile.TemporaryDirectory(prefix="aebench-") as name:
        for path, source in files.items():
            file = Path(name, path)
            file.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(source, Path):
                file.symlink_to(source.absolute())
            else:
                file.write_bytes(source)
        client.log_artifacts(run_id, name)


def read_file(client: MlflowClient, run_id: str, path: str) -> bytes | None:
    """The content of a file of the run; None if it was never written, or was deleted."""
    with tempfile.TemporaryDirectory(prefix="aebench-") as folder:
        try:
            return Path(client.download_artifacts(run_id, path, folder)).read_bytes()
        except (MlflowException, OSError):
            return None
