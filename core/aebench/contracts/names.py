"""What may be a name: it becomes part of keys in the store and of file names, so it is checked where it is given."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import StringConstraints

NAME_PATTERN = "[a-z][a-z0-9_]*"
LONGEST_NAME = 64  # characters; a key in the store, of at most 250, joins several names

Name = Annotated[str, StringConstraints(pattern=f"^{NAME_PATTERN}$", max_length=LONGEST_NAME)]
# Text that is shown in tables: not empty, and without control characters, which a terminal would obey.
Line = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]+$")]


def is_name(text: str) -> bool:
    """Whether a text is lower-case letters, digits and underscores, begins with a letter and is not too long."""
    return len(text) <= LONGEST_NAME and re.fullmatch(NAME_PATTERN, text) is not None


def check_name(kind: str, text: str) -> None:
    """Check the name of something whose record is not a pydantic model.

    Raises:
        ValueError: it is not a name.
    """
    if not is_name(text):
        raise ValueError(
            f"a {kind}'s name must match {NAME_PATTERN} and have at most {LONGEST_NAME} characters, got {text!r}"
        )
