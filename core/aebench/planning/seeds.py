"""Derives a seed for each random choice from its purpose, so that a subset of a matrix gives the same numbers."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def canonical_json(value: Any) -> str:
    """One text for one value: sorted keys, no white space."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def content_hash(value: Any) -> str:
    """64 bits of SHA-256 over the canonical JSON, as 16 hexadecimal digits."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:16]


def derive_seed(suite_seed: int, **purpose: Any) -> int:
    """A seed in 0..2**32-1 for one purpose, from the suite's seed and what it is for."""
    return int(content_hash({"suite_seed": suite_seed, **purpose})[:8], 16)


def splits_seed(suite_seed: int) -> int:
    """The seed that cuts a data set into its splits."""
    return derive_seed(suite_seed, use="splits")
