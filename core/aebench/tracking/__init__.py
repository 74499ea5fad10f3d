"""Where results live: the only package that knows MLflow."""

import os

# Before MLflow is imported: its usage telemetry stays off unless the user has decided otherwise.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
# A server that is away is reported and tried again by `delivery`, not for minutes inside one call.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")

from aebench.tracking.connection import store_uri
from aebench.tracking.schema import StoredCell
from aebench.tracking.store import Store, newest_experiment
from aebench.tracking.writer import MatrixRun

__all__ = ["MatrixRun", "Store", "StoredCell", "newest_experiment", "store_uri"]
