"""What a student takes from its teacher, and which of the teacher's operations each of its own comes from. Torch-free.

A block's branch is the way through its convolutions (two, in VGG one) to its activation map. The blocks of a group of a
residual network all add to one stream of channels and so share one choice of them; inside a block, and in every
block of a VGG, the channels are the block's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
from msgspec import UNSET

from transfer.blueprint import blueprint, operation_shapes
from transfer.coupling import coupling
from transfer.operations import INPUT, Conv, Norm, Operation, sources
from transfer.spec import BlockSpec, NetSpec, VggSpec

STEM = "conv1"

Depth = int | tuple[int, ...]
"""How many blocks of a group are kept: of every one as many, or one number a group."""


@dataclass(frozen=True, repr=False)
class Plan:
    """What the student takes from the teacher: student channel i is the teacher's channel [i].

    blocks: per group, the teacher's block positions. out: per group, the channels that its last block hands on. mid:
    per group and block, the channels inside (in VGG, the block's own; those of the last are `out`). stem: the channels
    of the stem; empty where the first group adds to them and so shares them. VGG's are the image's three.
    """

    blocks: tuple[tuple[int, ...], ...]
    out: tuple[tuple[int, ...], ...]
    mid: tuple[tuple[tuple[int, ...], ...], ...]
    stem: tuple[int, ...] = ()

    def __repr__(self) -> str:
        """Without an empty stem: checkpoints are named after this text and must be found again."""
        stem = f", stem={self.stem}" if self.stem else ""
        return f"Plan(blocks={self.blocks}, out={self.out}, mid={self.mid}{stem})"


def last_blocks(spec: NetSpec, depth: Depth) -> tuple[tuple[int, ...], ...]:
    """The positions of the last `depth` blocks of each group (all, where a group has fewer). Raises ValueError."""
    depths = (depth,) * len(spec.groups) if isinstance(depth, int) else depth
    if len(depths) != len(spec.groups):
        raise ValueError(f"{len(depths)} numbers of blocks for a network of {len(spec.groups)} groups: give one each")
    if min(depths) < 1:
        raise ValueError(f"{min(depths)} blocks a group: must be at least 1")
    return tuple(
        tuple(range(max(0, len(blocks) - most), len(blocks))) for blocks, most in zip(spec.groups, depths, strict=True)
    )


def branch(spec: NetSpec, group: int, position: int) -> tuple[Conv | Norm, ...]:
    """A block's operations with weights, from its first convolution to its activation map (decision 7: in a
    pre-activated network that is behind the batch norm of the block that follows)."""
    drawn = blueprint(spec)
    makers = {operation.name: operation for operation in drawn.operations}
    found: list[Conv | Norm] = []
    wanted = 1 if spec.family == "vgg" else 2
    name = drawn.blocks[group][position]
    while sum(isinstance(operation, Conv) for operation in found) < wanted:
        operation = makers[name]
        if isinstance(operation, Conv | Norm):
            found.append(operation)
        name = sources(operation)[0]  # of an Add, the branch
    return tuple(reversed(found))


def inner(spec: NetSpec, group: int, position: int) -> str:
    """The first convolution of a block."""
    return branch(spec, group, position)[0].name


def outer(spec: NetSpec, group: int, position: int) -> str:
    """The last convolution of a block; in VGG also the first."""
    return [operation.name for operation in branch(spec, group, position) if isinstance(operation, Conv)][-1]


def shortcut(spec: NetSpec, group: int) -> tuple[Operation, ...]:
    """What stands between a group's input and the sum of its first block: nothing, a Shortcut, or a Conv and a Norm."""
    names = (f"layer{group + 1}.0.shortcut", f"layer{group + 1}.0.downsample")
    return tuple(operation for operation in blueprint(spec).operations if operation.name.startswith(names))


def entering(spec: NetSpec) -> str:
    """The tensor whose channels the first group takes: the stem's or, in VGG, the image."""
    return INPUT if spec.family == "vgg" else STEM


def whole(spec: NetSpec, blocks: tuple[tuple[int, ...], ...]) -> Plan:
    """All channels of these blocks."""
    widths = coupling(blueprint(spec)).widths
    return planned(spec, blocks, {space: tuple(range(width)) for space, width in widths.items()})


def planned(spec: NetSpec, blocks: tuple[tuple[int, ...], ...], kept: Mapping[str, tuple[int, ...]]) -> Plan:
    """The plan that keeps these channels of each space (see `transfer.coupling`) of the teacher.

    Raises ValueError where blocks of a residual group differ in width.
    """
    drawn = coupling(blueprint(spec))
    shifts = {(link.source, link.target): link.shift for link in drawn.links}
    before = drawn.space[entering(spec)]
    stem = channels = kept[before]
    out = []
    for group, positions in enumerate(blocks):
        streams = {drawn.space[outer(spec, group, position)] for position in range(positions[-1] + 1)}
        if len(streams) > 1 and spec.family != "vgg":
            raise ValueError(f"the blocks of group {group + 1} differ in width; only equally wide ones can be pruned")
        stream = drawn.space[outer(spec, group, positions[-1])]
        shift = shifts.get((before, stream))
        channels = kept[stream] if shift is None else _aligned(kept[stream], channels, shift)
        out.append(channels)
        if group == 0 and stream == before:
            stem = ()
        before = stream
    mid = tuple(
        tuple(kept[drawn.space[inner(spec, group, position)]] for position in positions)
        for group, positions in enumerate(blocks)
    )
    return Plan(blocks, tuple(out), mid, stem)


def _aligned(chosen: tuple[int, ...], before: tuple[int, ...], shift: int) -> tuple[int, ...]:
    """`chosen`, ordered so that the student's shortcut hands on as many channels as can be to the right place.

    Its shortcut puts channel i of the group before at i + its own padding; there stands, if it was chosen, the
    teacher's channel that the teacher's shortcut would have fed.
    """
    padding = max(0, len(chosen) - len(before)) // 2
    places: dict[int, int] = {}
    for at, channel in enumerate(before):
        if channel + shift in chosen and at + padding < len(chosen):
            places[at + padding] = channel + shift
    rest = iter([channel for channel in chosen if channel not in places.values()])
    return tuple(places[at] if at in places else next(rest) for at in range(len(chosen)))


def shrunk_spec(spec: NetSpec, plan: Plan) -> NetSpec:
    """The student's shape. A VGG's hidden layers are left behind: the logits become a linear function of the feature,
    which is what a device can learn a category with."""
    vgg = spec.family == "vgg"
    groups = tuple(
        tuple(BlockSpec(len(inside), len(inside if vgg else out)) for inside in mids)
        for out, mids in zip(plan.out, plan.mid, strict=True)
    )
    small = msgspec.structs.replace(spec, stem_width=len(plan.stem or plan.out[0]), groups=groups, cells=UNSET)
    return msgspec.structs.replace(small, vgg=VggSpec(spec.details.norm, ())) if vgg else small


def origins(spec: NetSpec, small: NetSpec, plan: Plan) -> dict[str, str]:
    """The teacher's operation for each operation with weights of the student. A group's learned shortcut comes from the
    teacher's first block, whose place it takes; the logits from the logits."""
    drawn = blueprint(small)
    found = {operation.name: operation.name for operation in drawn.operations if operation_shapes(operation)}
    for group, positions in enumerate(plan.blocks):
        for at, position in enumerate(positions):
            pairs = zip(branch(small, group, at), branch(spec, group, position), strict=True)
            found |= {mine.name: theirs.name for mine, theirs in pairs}
    found[drawn.logits] = blueprint(spec).logits
    return found
