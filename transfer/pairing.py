"""Which block of the teacher a block of the student learns from (arXiv 2201.10947, eq. 3-4).

A student's block is compared with the teacher's blocks of the same group. Three ways to choose:

    last        the group's last block: the one whose weights the student inherited
    per_batch   the paper: the most similar block, chosen anew for every batch
    fixed       the most similar one over a calibration set, chosen once; then only its map crosses the wire

Since Jb = sqrt(2 - 2 cos), the most similar block is also the one that leaves the least to learn; `histogram` shows how
the choice spreads.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from transfer.losses import unit


def pad_tail(maps: Tensor, channels: int) -> Tensor:
    """The paper's zero padding: [n, K, h, w] to [n, channels, h, w], zeros behind."""
    return scatter(maps, range(maps.shape[1]), channels)


def scatter(maps: Tensor, kept: Sequence[int], channels: int) -> Tensor:
    """[n, K, h, w] to [n, channels, h, w]: channel i goes to kept[i], the teacher's channel it was inherited from."""
    if len(kept) != maps.shape[1] or len(set(kept)) != len(kept) or not all(0 <= at < channels for at in kept):
        raise ValueError(f"{maps.shape[1]} channels cannot be scattered to {len(kept)} places among {channels}")
    whole = maps.new_zeros(len(maps), channels, *maps.shape[2:])
    whole[:, list(kept)] = maps
    return whole


def cosine(student: Tensor, teacher: Tensor) -> Tensor:
    """[n]: eq. 3 for each sample, from maps [n, C, h, w] of equal shape."""
    return (unit(student) * unit(teacher)).sum(dim=(1, 2, 3))


def similarities(student: Tensor, blocks: Sequence[Tensor], kept: Sequence[int] | None = None) -> Tensor:
    """[blocks]: mean cosine over the batch of the student's map with each block of the teacher's group.

    The student's map is padded to the teacher's width: at the tail, or scattered to `kept`.
    """
    width = blocks[0].shape[1]
    whole = pad_tail(student, width) if kept is None else scatter(student, kept, width)
    return torch.stack([cosine(whole, block).mean() for block in blocks])


def last(groups: Sequence[Sequence[object]]) -> tuple[int, ...]:
    """The last block of each of the teacher's groups."""
    return tuple(len(blocks) - 1 for blocks in groups)


def per_batch(
    student: Sequence[Tensor], teacher: Sequence[Sequence[Tensor]], kept: Sequence[Sequence[int] | None]
) -> tuple[int, ...]:
    """For each group, the teacher's block most similar to the student's map on this batch."""
    return tuple(
        int(similarities(map_, blocks, where).argmax())
        for map_, blocks, where in zip(student, teacher, kept, strict=True)
    )


Batch = tuple[Sequence[Tensor], Sequence[Sequence[Tensor]]]


def fixed(batches: Iterable[Batch], kept: Sequence[Sequence[int] | None]) -> tuple[int, ...]:
    """For each group, the block most similar over all `batches`, each (student maps, teacher's block maps).

    Every sample counts the same, whatever the batch sizes. Raises ValueError where there is no batch.
    """
    sums: list[Tensor] | None = None
    for student, teacher in batches:
        found = [
            similarities(map_, blocks, where) * len(map_)
            for map_, blocks, where in zip(student, teacher, kept, strict=True)
        ]
        sums = found if sums is None else [total + more for total, more in zip(sums, found, strict=True)]
    if sums is None:
        raise ValueError("pairing by calibration needs at least one batch")
    return tuple(int(total.argmax()) for total in sums)


def histogram(choices: Iterable[Sequence[int]]) -> list[Counter[int]]:
    """For each group, how often each of the teacher's blocks was chosen."""
    counts: list[Counter[int]] = []
    for choice in choices:
        counts = counts or [Counter() for _ in choice]
        for count, block in zip(counts, choice, strict=True):
            count[block] += 1
    return counts
