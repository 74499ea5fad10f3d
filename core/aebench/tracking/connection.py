"""Finds the tracking store, and checks that it answers."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from pathlib import Path

import mlflow
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from aebench.errors import AebenchError, one_line

ANSWER_SECONDS = 5.0


def store_uri(uri: str | None) -> str:
    """The tracking URI to use: the given one, else MLFLOW_TRACKING_URI, else MLflow's own default."""
    return uri or str(mlflow.get_tracking_uri())


def check_answers(uri: str, must_exist: bool) -> None:
    """Fail at once on a store that cannot answer, where MLflow would retry for minutes.

    Args:
        uri: the tracking URI.
        must_exist: a SQLite file that is not there is an error.

    Raises:
        AebenchError: the store does not answer, or cannot be one.
    """
    scheme = uri.partition(":")[0]
    try:
        if scheme in ("http", "https"):
            _check_server(uri)
        elif scheme == "sqlite":
            file = Path(make_url(uri).database or "").absolute()
            if file.is_dir():
                raise AebenchError(f"the tracking store {uri} cannot be used: {file} is a folder, not a database")
            if must_exist and not file.is_file():
                raise AebenchError(f"there are no results yet: {file} does not exist; 'aebench run' creates them")
            if not os.access(file if file.exists() else file.parent, os.W_OK):
                raise AebenchError(f"the tracking store {uri} cannot be written: no such folder, or no permission")
            if file.is_file():
                _check_database(uri)
        elif ("://" in uri and scheme in ("mysql", "postgresql", "mssql")) or "+" in scheme:
            _check_database(uri)
        elif scheme not in ("databricks", "databricks-uc"):
            raise AebenchError(
                f"the tracking store {uri} cannot be used: give a database (sqlite:///mlflow.db) or a server (http://…)"
            )
    except (OSError, SQLAlchemyError, ImportError, ValueError) as error:
        raise AebenchError(f"the tracking store {uri} does not answer: {one_line(error)}") from error


def _check_server(uri: str) -> None:
    """An MLflow server answers at /health; one behind a login refuses access, which shows that it is there."""
    try:
        with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=ANSWER_SECONDS):
            pass
    except urllib.error.HTTPError as error:
        error.close()
        if error.code not in (401, 403):
            raise OSError(f"{error.code} {error.reason} at /health, where an MLflow server answers 200") from error


def _check_database(uri: str) -> None:
    engine = create_engine(uri)
    try:
        with engine.connect() as connection:
            connection.execute(text("select 1"))
            if engine.dialect.name == "sqlite":  # which opens any file, and reads it with the first query
                connection.execute(text("select name from sqlite_master"))
    finally:
        engine.dispose()
