"""What one cell of a table found."""

from __future__ import annotations

import msgspec

Extra = float | int | str | None


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """Accuracies in percent, None where a column makes no sense.

    old, new: accuracy on the test images of the categories known before, learned since. all: on all of them, each
    image counting once. harmonic: mean of old and new. seconds: of what the method itself takes, as the table says.
    extra: more columns.
    """

    params: int | None = None
    macs: int | None = None
    old: float | None = None
    new: float | None = None
    all: float | None = None
    harmonic: float | None = None
    seconds: float | None = None
    extra: dict[str, float | int | str | None] = {}
