"""Reads pickles of arrays, lists and strings; a pickle that names anything else, such as a function, is refused."""

from __future__ import annotations

import io
import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from aebench.datasets.files import corrupt
from aebench.errors import AebenchError

# What an array is made of; NumPy has moved the first one. None of them runs code that the file chooses.
ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is no part of an array")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def read_pickle(path: Path) -> Any:
    """The value in a file of Python 2 or 3; nothing that the file names is called but what makes arrays.

    Raises:
        AebenchError: the file cannot be read, or is not such a pickle.
    """
    with warnings.catch_warnings():
        # The first releases of NumPy 2.4 warn of how the NumPy of 2009 pickled a dtype.
        warnings.simplefilter("ignore", np.exceptions.VisibleDeprecationWarning)
        try:
            return _ArrayUnpickler(io.BytesIO(path.read_bytes()), encoding="latin1").load()
        except Exception as error:  # a damaged pickle can raise anything
            raise AebenchError(corrupt(path, str(error) or type(error).__name__)) from error
