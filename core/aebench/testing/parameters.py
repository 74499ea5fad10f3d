"""The check of the params class of any record."""

from __future__ import annotations

from pydantic import BaseModel, ValidationError

from aebench.testing.checks import Nonconformance, expect

UNKNOWN = "no_such_parameter"


def reject_unknown_keys(params: type[BaseModel], *, need_defaults: bool) -> int:
    """Check that `params` rejects unknown keys and, if `need_defaults`, has a default for every field.

    Returns:
        the number of things checked.

    Raises:
        Nonconformance: it accepts an unknown key, or a default is missing.
    """
    required = sorted(name for name, field in params.model_fields.items() if field.is_required())
    expect(not (need_defaults and required), "a default for every parameter", f"{', '.join(required)} have none")
    try:
        params.model_validate({UNKNOWN: 1})
    except ValidationError as error:
        refused = any(detail["type"] == "extra_forbidden" for detail in error.errors())
    else:
        refused = False
    if not refused:
        raise Nonconformance(
            "unknown parameters to be rejected (derive from aebench.contracts.Params)",
            f"{params.__name__} accepted '{UNKNOWN}'",
        )
    return 1 + len(params.model_fields)
