"""Finds the tracking store, creates it if it is a database file, and checks that it answers."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import time
import urllib.error
import urllib.request
from pathlib import Path

import mlflow
from filelock import FileLock
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from aebench.errors import AebenchError, one_line

ANSWER_SECONDS = 5.0
SECONDS_OF_MAKING = 10.0  # without a write, after which a database is not being made any more
LONGEST_EXPERIMENT = 250  # characters; a column of MLflow's database has 256


def store_uri(uri: str | None) -> str:
    """The tracking URI to use: the given one, else MLFLOW_TRACKING_URI, else MLflow's own default."""
    return uri or str(mlflow.get_tracking_uri())


def hide_mlflow_messages() -> None:
    """Keep MLflow's own messages about its database from the terminal; what matters is reported here."""
    for name in ("alembic", "mlflow.store.db.utils", "mlflow.utils.requirements_utils"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def resolved(uri: str) -> str:
    """The same store, whatever the working directory."""
    file = _database_file(uri)
    return uri if file is None else f"sqlite:///{file}"


def create_database(uri: str) -> None:
    """Make a SQLite store that does not exist, or that another process began to make and left without content.

    MLflow takes seconds to make the tables, and cannot go on if it is killed meanwhile. So they are made under another
    name, and moved into place when they are whole.

    Raises:
        AebenchError: the file cannot be written.
    """
    file = _database_file(uri)
    if file is None or file.is_dir() or (file.exists() and not _is_half_made(file)):
        return
    if not os.access(file.parent, os.W_OK):
        raise AebenchError(f"the tracking store {uri} cannot be written: no such folder, or no permission")
    hide_mlflow_messages()
    part = file.with_name(f"{file.name}.part")
    try:
        with FileLock(file.with_name(f"{file.name}-lock")):
            if file.exists() and not _is_half_made(file):
                return  # another run has made it meanwhile
            _remove_database(part)
            MlflowClient(f"sqlite:///{part}").search_experiments(max_results=1)
            _remove_database(file)  # with its rollback journal, which must not be applied to the new file
            os.replace(part, file)
    except (OSError, MlflowException, SQLAlchemyError) as error:
        raise AebenchError(f"the tracking store {uri} cannot be created: {one_line(error)}") from error


def _database_file(uri: str) -> Path | None:
    """The file of a SQLite store; None for any other store."""
    if uri.partition(":")[0] != "sqlite":
        return None
    name = make_url(uri).database
    return None if name in (None, "", ":memory:") else Path(str(name)).absolute()


def _is_half_made(file: Path) -> bool:
    """Whether a database has some of MLflow's tables and no experiment, not even the default one.

    One that was written to a moment ago is still being made, such as by an MLflow server.
    """
    from mlflow.store.db.base_sql_model import Base

    if time.time() - file.stat().st_mtime < SECONDS_OF_MAKING:
        return False
    try:
        with contextlib.closing(sqlite3.connect(file)) as connection:
            tables = {name for (name,) in connection.execute("select name from sqlite_master where type = 'table'")}
            own = {*Base.metadata.tables, "alembic_version"}
            if any(table not in own and not table.startswith("_alembic_tmp_") for table in tables):
                return False
            return "experiments" not in tables or not connection.execute("select 1 from experiments").fetchone()
    except sqlite3.Error:
        return False  # locked, or no database: `check_answers` says so


def _remove_database(file: Path) -> None:
    for suffix in ("", "-journal", "-wal", "-shm"):
        file.with_name(file.name + suffix).unlink(missing_ok=True)


def check_experiment(name: str) -> None:
    """Check the name of an experiment, which may be any text on one line.

    Raises:
        AebenchError: it is empty, has control characters or is too long.
    """
    if not name.strip() or not name.isprintable() or len(name) > LONGEST_EXPERIMENT:
        raise AebenchError(
            f"an experiment's name must have 1 to {LONGEST_EXPERIMENT} characters on one line, got {name!r}"
        )


def check_answers(uri: str) -> None:
    """Fail at once on a store that cannot answer, where MLflow would retry for minutes.

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
            if not file.is_file():
                raise AebenchError(f"there are no results yet: {file} does not exist; 'aebench run' creates them")
            if not os.access(file, os.W_OK):
                raise AebenchError(f"the tracking store {uri} cannot be written: no permission")
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
