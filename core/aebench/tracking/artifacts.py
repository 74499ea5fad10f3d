"""Files of a run: written from files or bytes under names of our choice, and read back."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException


def log_files(client: MlflowClient, run_id: str, folder: str, files: Mapping[str, Path | bytes]) -> None:
    """Log local files, or contents, under these names in a folder of the run.

    Raises:
        ValueError: a name is a path.
    """
    if not files:
        return
    if paths := [file for file in files if Path(file).name != file or file in ("", "..")]:
        raise ValueError(f"{paths[0]!r} is not the name of a file")
    with tempfile.TemporaryDirectory(prefix="aebench-") as name:
        for file, source in files.items():
            if isinstance(source, Path):
                Path(name, file).symlink_to(source.absolute())
            else:
                Path(name, file).write_bytes(source)
        client.log_artifacts(run_id, name, folder)


def read_file(client: MlflowClient, run_id: str, path: str) -> bytes | None:
    """The content of a file of the run; None if it was never written, or was deleted."""
    with tempfile.TemporaryDirectory(prefix="aebench-") as folder:
        try:
            return Path(client.download_artifacts(run_id, path, folder)).read_bytes()
        except (MlflowException, OSError):
            return None
