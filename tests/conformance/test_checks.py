"""A check examines something, and names a page that explains it."""

from __future__ import annotations

import importlib

from aebench.testing import autoencoders, backbones, datasets, samplers, tasks
from aebench.testing.checks import check


def test_a_check_that_finds_nothing_to_check_fails():
    @check("aebench.contracts.Autoencoder")
    def empty(subject):
        """Check nothing."""
        return 0

    result = empty(None)
    assert (result.ok, result.expected, result.actual) == (False, "something to check", "found nothing")
    assert result.title == "Check nothing"


def test_every_check_names_an_object_that_has_a_docstring():
    for one in (*autoencoders.CHECKS, *tasks.CHECKS, *datasets.CHECKS, *backbones.CHECKS, *samplers.CHECKS):
        assert one.title
        module, _, rest = one.docs.partition(".contracts.")
        if not rest:
            module, _, rest = one.docs.rpartition(".")
        found = importlib.import_module(f"{module}.contracts" if ".contracts." in one.docs else module)
        for part in rest.split("."):
            found = getattr(found, part)
        assert found.__doc__
