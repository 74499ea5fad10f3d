"""What the errors of a tracking store mean for what was to be written."""

from __future__ import annotations

from mlflow.exceptions import MlflowException, RestException
from requests import RequestException
from sqlalchemy.exc import OperationalError


def is_temporary(error: Exception) -> bool:
    """Whether a store that raised this may work again later: it is locked, full, read-only or away."""
    if isinstance(error, RestException):  # the server's answer
        return error.error_code in ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED")
    if isinstance(error, MlflowException):
        cause = error.__cause__ or error.__context__
        return isinstance(cause, Exception) and is_temporary(cause)
    return isinstance(error, OSError | OperationalError | RequestException)


def is_refused(error: Exception) -> bool:
    """Whether a store will never take this update: its run is gone, or was deleted."""
    if not isinstance(error, MlflowException):
        return False
    return error.error_code == "RESOURCE_DOES_NOT_EXIST" or "must be in the 'active' state" in str(error)
