"""Reading pickles of arrays and nothing else: the unpickler used here builds no other object and calls no function."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from cloud_teacher.datasets import DatasetError


def load(path: Path, what: str, most_bytes: int) -> dict[object, object]:
    """The dictionary in a pickle of numbers, strings, lists, dictionaries and plain arrays; Python 2's strings come as
    bytes. `what` names the expected content in the DatasetError that anything else raises."""
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size > most_bytes:
                raise DatasetError(f"it is larger than {most_bytes} bytes: no {what}")
            content = _ArraysOnly(file, encoding="bytes").load()
    except DatasetError as error:
        raise DatasetError(f"{path}: {error}") from error
    except Exception as error:  # a damaged pickle raises anything: EOFError, KeyError, struct.error, ...
        raise DatasetError(f"{path} cannot be read as a {what}: {error!r}") from error
    if not isinstance(content, dict):
        raise DatasetError(f"{path} holds no dictionary: no {what}")
    return content


class _ArraysOnly(pickle.Unpickler):
    """A pickle may name any callable to be called. This one finds three: all that an array of numbers needs."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in (("numpy", "ndarray"), ("numpy", "dtype")):
            return getattr(np, name)
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "_reconstruct":
            return _reconstruct
        raise DatasetError(f"it must hold arrays only, but asks for {module}.{name}")


def _reconstruct(kind: type, shape: tuple[int, ...], code: bytes) -> np.ndarray[Any, Any]:
    """What numpy's own function of this name does, for plain arrays: an empty one, which its state then fills."""
    if shape != (0,):
        raise DatasetError(f"it must hold plain arrays only, but one is made with shape {shape}")
    array: np.ndarray[Any, Any] = np.ndarray(shape, np.dtype(code.decode()))
    return array
