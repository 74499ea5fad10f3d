"""The base class of all settings that users write, in a configuration or as a plugin's parameters."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """Frozen and strict; an unknown key is an error, and so is a number that is not finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def by_name(value: Any) -> Any:
    """A bare string as settings with that name; everything else unchanged."""
    return {"name": value} if isinstance(value, str) else value
