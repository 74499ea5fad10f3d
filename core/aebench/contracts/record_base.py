"""What all records have in common: a name, how they are shown, their source and their parameters."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from aebench.contracts.settings import Settings

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


class Params(Settings):
    """The base class of a plugin's parameters: frozen and strict; an unknown key is an error."""


class Record(BaseModel):
    """The base class of all records."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    name: Name
    title: str
    summary: str
    source: str = ""
    params: type[BaseModel] = Params
