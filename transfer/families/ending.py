"""Behind the last map: the feature, and the logits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from transfer.operations import Dense, Join, Mean, Operation

if TYPE_CHECKING:
    from transfer.spec import NetSpec


def ending(spec: NetSpec, last: str, blocks: Sequence[Sequence[str]], logits: str) -> list[Operation]:
    """The operations from the tensor `last` on; `blocks` are the maps by group. With cells, an earlier map is averaged
    over each of them, and joined to the mean over the last one, which alone makes the logits."""
    pooled = spec.groups[-1][-1].out
    if spec.cells_a_side == 0:
        return [Mean("feature", last), Dense(logits, "feature", pooled, spec.classes)]
    group, position = spec.earlier
    return [
        Mean("pooled", last),
        Mean("parts", blocks[group][position], spec.cells_a_side),
        Join("feature", "pooled", "parts"),
        Dense(logits, "pooled", pooled, spec.classes),
    ]
