"""Parameters that accept names which they do not have: a defect that every kind of plugin can have."""

from __future__ import annotations

from pydantic import BaseModel


class LaxParams(BaseModel):
    width: int = 1
