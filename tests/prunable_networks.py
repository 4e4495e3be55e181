"""Random small networks that can be pruned: the blocks of a residual group are equally wide."""

from __future__ import annotations

import msgspec
from hypothesis import strategies as st
from tiny_networks import SPECS

from transfer.plan import shrunk_spec, whole
from transfer.spec import BlockSpec, NetSpec


def alike(spec: NetSpec) -> NetSpec:
    """The same with every block of a residual group as wide as its last."""
    if spec.family == "vgg":
        return spec
    groups = tuple(tuple(BlockSpec(block.mid, blocks[-1].out) for block in blocks) for blocks in spec.groups)
    return msgspec.structs.replace(spec, groups=groups)


def without_hidden(spec: NetSpec) -> NetSpec:
    """A VGG as a student has it; others as they are."""
    return shrunk_spec(spec, whole(spec, tuple(tuple(range(len(blocks))) for blocks in spec.groups)))


PRUNABLE: st.SearchStrategy[NetSpec] = SPECS.map(alike)
