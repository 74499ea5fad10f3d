"""What all records have in common: a name, how they are shown, their source and their parameters."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from aebench.contracts.names import Line, Name
from aebench.contracts.settings import Settings


class Params(Settings):
    """The base class of a plugin's parameters: frozen and strict; an unknown key is an error."""


class Record(BaseModel):
    """The base class of all records."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    name: Name
    title: Line
    summary: Line
    source: Line | Literal[""] = ""
    params: type[BaseModel] = Params
