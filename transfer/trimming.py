"""Channels taken from a network one after the other, the least important for its cost first, until it is small enough.

One limit holds for the whole network, so that layers come out as thin as each can be. Channels are taken from whole
spaces (see `transfer.coupling`); where a shortcut without parameters feeds a channel from one space into the next, the
feeding channel goes with the fed one, for the student's shortcut would add it elsewhere. Torch-free.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from transfer.blueprint import blueprint, tensor_shapes
from transfer.coupling import Coupling, Link, coupling
from transfer.limit import Limit
from transfer.operations import INPUT, Blueprint, Conv, Dense, Norm
from transfer.plan import Depth, Plan, last_blocks, origins, planned, shrunk_spec, whole
from transfer.spec import NetSpec

FEWEST_CHANNELS = 4

Importance = Mapping[str, npt.NDArray[np.float64]]
Numbers = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


def trimmed(spec: NetSpec, importance: Importance, depth: Depth, limit: Limit) -> Plan:
    """The last `depth` blocks of each group, without their least important channels: just as many are taken as the
    limit asks for. importance: by the teacher's spaces, [channels], finite and not negative. Raises ValueError."""
    blocks = last_blocks(spec, depth)
    full = whole(spec, blocks)
    shallow = shrunk_spec(spec, full)
    mine, theirs = coupling(blueprint(shallow)).space, coupling(blueprint(spec)).space
    origin = origins(spec, shallow, full)
    of = {mine[name]: theirs[origin[name]] for name in _convolutions(blueprint(shallow))}
    kept = trim(blueprint(shallow), {space: importance[of[space]] for space in of}, limit)
    return planned(spec, blocks, {of[space]: channels for space, channels in kept.items()} | {INPUT: (0, 1, 2)})


def trim(drawn: Blueprint, importance: Importance, limit: Limit) -> dict[str, tuple[int, ...]]:
    """The channels to keep of each space in `importance`: at least 4 (or all, where there are fewer)."""
    coupled = coupling(drawn)
    cost = _Cost(drawn, coupled, limit)
    alive = {space: np.ones(coupled.widths[space], bool) for space in importance}
    feeds = {link.target: link for link in coupled.links if link.source in alive}
    while cost.total() > limit.most:
        weighed = _units(alive, importance, cost, feeds)
        space = min(weighed, key=lambda name: weighed[name].min())
        channel = int(weighed[space].argmin())
        if not np.isfinite(weighed[space][channel]):
            raise ValueError(f"no student of this depth has only {limit}; the smallest has {cost.total():,.0f}")
        _take(alive, feeds, cost, space, channel)
    return {space: tuple(np.flatnonzero(flags).tolist()) for space, flags in alive.items()}


def _units(
    alive: Mapping[str, Flags], importance: Importance, cost: _Cost, feeds: Mapping[str, Link]
) -> dict[str, Numbers]:
    """For each channel, importance by cost of what would go with it; infinite where it may not go."""
    worth: dict[str, Numbers] = {}
    price: dict[str, Numbers] = {}
    for space, flags in alive.items():  # feeding spaces come before those they feed
        spare = flags & (flags.sum() > min(FEWEST_CHANNELS, len(flags)))
        worth[space] = np.where(spare, importance[space], np.inf)
        price[space] = np.full(len(flags), cost.of_one(space))
        link = feeds.get(space)
        if link:
            fed = slice(link.shift, link.shift + link.kept)
            there = alive[link.source][: link.kept]
            worth[space][fed] += np.where(there, worth[link.source][: link.kept], 0)
            price[space][fed] += np.where(there, price[link.source][: link.kept], 0)
    return {space: worth[space] / price[space] for space in alive}


def _take(alive: Mapping[str, Flags], feeds: Mapping[str, Link], cost: _Cost, space: str, channel: int) -> None:
    """Take the channel, and those that feed it."""
    while alive[space][channel]:
        alive[space][channel] = False
        cost.take_one(space)
        link = feeds.get(space)
        if link is None or not 0 <= channel - link.shift < link.kept:
            return
        space, channel = link.source, channel - link.shift


class _Cost:
    """What the network costs, and what one channel less of a space saves: a convolution costs in proportion to the
    width of the space it reads and to that of the one it writes."""

    def __init__(self, drawn: Blueprint, coupled: Coupling, limit: Limit) -> None:
        spaces = list(coupled.widths)
        self._at = {space: at for at, space in enumerate(spaces)}
        self._widths = np.array([coupled.widths[space] for space in spaces], np.float64)
        self._products = np.zeros((len(spaces), len(spaces)))
        self._singles = np.zeros(len(spaces))
        shapes = tensor_shapes(drawn, *limit.image) if limit.image else None
        for operation in drawn.operations:
            write = self._at[coupled.space[operation.name]]
            if isinstance(operation, Norm) and shapes is None:
                self._singles[write] += 2
            if isinstance(operation, Conv | Dense):
                read = self._at[coupled.space[operation.source]]
                pixels = 1 if shapes is None else int(np.prod(shapes[operation.name][1:]))
                kernel = operation.kernel**2 if isinstance(operation, Conv) else 1
                self._products[read, write] += kernel * pixels
                if shapes is None and (isinstance(operation, Dense) or operation.bias):
                    self._singles[write] += 1

    def total(self) -> float:
        return float(self._widths @ self._products @ self._widths + self._singles @ self._widths)

    def of_one(self, space: str) -> float:
        at = self._at[space]
        both = self._products[at] @ self._widths + self._products[:, at] @ self._widths
        return float(both - self._products[at, at] + self._singles[at])

    def take_one(self, space: str) -> None:
        self._widths[self._at[space]] -= 1


def _convolutions(drawn: Blueprint) -> Sequence[str]:
    return [operation.name for operation in drawn.operations if isinstance(operation, Conv)]
