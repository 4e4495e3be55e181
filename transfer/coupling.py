"""Which channels of a network can only be pruned together. Torch-free.

Tensors that are added must have the same channels: all convolutions that add to one stream, and all that is computed
from it channel by channel, form one *space*. Pruning channel c of a space takes filter c of every convolution that
writes it and column c of every convolution that reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from transfer.operations import INPUT, Add, Blueprint, Conv, Dense, Shortcut, sources


@dataclass(frozen=True)
class Link:
    """A shortcut without parameters: channel c of `source`, for c below `kept`, is added to c + `shift` of `target`.

    A student's own shortcut adds in the same way, by position: it adds to the right channel only where c + shift was
    kept too.
    """

    source: str
    target: str
    shift: int
    kept: int


@dataclass(frozen=True)
class Coupling:
    """space: for every tensor (and so for every operation) the name of its space, which is the first tensor in it.
    widths: the channels of each space."""

    space: Mapping[str, str]
    widths: Mapping[str, int]
    links: tuple[Link, ...]


@lru_cache(maxsize=64)
def coupling(drawn: Blueprint) -> Coupling:
    """The spaces of a network, and the shortcuts between them. What is flattened counts by channels, not by pixels."""
    widths = {INPUT: 3}
    space = {INPUT: INPUT}
    shortcuts: list[Shortcut] = []
    for operation in drawn.operations:
        name = operation.name
        if isinstance(operation, Conv | Shortcut | Dense):
            space[name] = name
            widths[name] = operation.width_out if isinstance(operation, Dense) else operation.channels_out
            if isinstance(operation, Shortcut):
                shortcuts.append(operation)
        elif isinstance(operation, Add):
            both = (space[operation.a], space[operation.b])
            first = next(tensor for tensor in widths if tensor in both)  # in the order they are made
            space = {tensor: first if old in both else old for tensor, old in space.items()} | {name: first}
        else:
            space[name] = space[sources(operation)[0]]
    links = tuple(Link(space[one.source], space[one.name], one.padding[0], one.kept) for one in shortcuts)
    return Coupling(space, {name: widths[name] for name in dict.fromkeys(space.values())}, links)
