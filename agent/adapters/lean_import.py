"""Imports that leave out what the daemon never uses of a library."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def standing_in(*names: str) -> Iterator[None]:
    """Empty modules in place of those that are not loaded yet, while something is imported that asks for them."""
    absent = [name for name in names if name not in sys.modules]
    sys.modules.update({name: types.ModuleType(name) for name in absent})
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]
