"""From the teacher to the student's shape: keep the last blocks of each group, and of each convolution the filters that
say something (arXiv 2201.10947, section 3, eq. 1-2).

Equation 2 gives how many filters of a convolution to keep; which ones the paper leaves open. We keep those with the
lowest mean share of zeros, and the student inherits their weights.

Where convolutions add to one stream of channels, the stream is pruned by what the last block of the group hands on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from transfer.blueprint import blueprint
from transfer.coupling import coupling
from transfer.inheritance import shrink
from transfer.limit import Limit
from transfer.networks import Network
from transfer.operations import INPUT, Conv, Relu, sources
from transfer.plan import Depth, Plan, entering, inner, last_blocks, outer, planned, shrunk_spec
from transfer.spec import NetSpec

__all__ = [
    "FEWEST_FILTERS",
    "Plan",
    "filter_widths",
    "last_blocks",
    "plan",
    "shrink",
    "shrunk_spec",
    "widths_within",
    "zero_fractions",
]

FEWEST_FILTERS = 4
PIXELS_AT_ONCE = 128 * 64 * 64
"""The maps of so many pixels are held at a time: half a GiB for a map of 256 channels that is as large as the image."""

Widths = Mapping[str, int]
Zeros = Mapping[str, Tensor]


def zero_fractions(net: Network, images: Tensor) -> dict[str, Tensor]:
    """Eq. 2: for each convolution, by name, the share of zeros [n, filters] in its activation maps.

    An activation map is what comes out of the first ReLU behind the convolution (decision 7): for the last convolution
    of a block, the block's activation map. Learned shortcuts have none of their own. `images`: normalised,
    [n, 3, h, w].
    """
    drawn = net.blueprint
    before_relu, maps = _activation_maps(net.spec)
    shares: dict[str, list[Tensor]] = {name: [] for name in (*before_relu, *maps)}

    def counting(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
            shares[name].append(_zeros(output))

        return hook

    handles = [net.get_submodule(norm).register_forward_hook(counting(conv)) for conv, norm in before_relu.items()]
    try:
        with torch.no_grad():
            for some in chunks(images):
                outputs = net.eval()(some)
                for conv, (group, position) in maps.items():
                    shares[conv].append(_zeros(outputs.blocks[group][position]))
    finally:
        for handle in handles:
            handle.remove()
    order = [operation.name for operation in drawn.operations if operation.name in shares]
    return {name: torch.cat(shares[name]) for name in order}


def chunks(images: Tensor) -> tuple[Tensor, ...]:
    """The images, so many at a time that their maps fit into memory."""
    return torch.split(images, max(1, PIXELS_AT_ONCE // (images.shape[2] * images.shape[3])))


def _activation_maps(spec: NetSpec) -> tuple[dict[str, str], dict[str, tuple[int, int]]]:
    """By convolution: the batch norm whose output goes straight into its ReLU; or the block whose map it makes."""
    drawn = blueprint(spec)
    makers = {operation.name: operation for operation in drawn.operations}
    blocks = {name: (group, at) for group, names in enumerate(drawn.blocks) for at, name in enumerate(names)}
    norms: dict[str, str] = {}
    maps: dict[str, tuple[int, int]] = {}
    for relu in drawn.operations:
        if not isinstance(relu, Relu):
            continue
        name = relu.source
        while name != INPUT and not isinstance(makers[name], Conv):
            name = sources(makers[name])[0]
        if name == INPUT or name in norms or name in maps:
            continue
        if relu.name in blocks:
            maps[name] = blocks[relu.name]
        else:
            norms[name] = relu.source
    return norms, maps


def _zeros(maps: Tensor) -> Tensor:
    return (maps <= 0).float().mean(dim=(2, 3))


def filter_widths(zeros: Zeros, threshold: float) -> dict[str, int]:
    """How many filters of each convolution to keep: all but the mean number, over the images, of those whose map is at
    least `threshold` (P) zeros. Rounded up, at least 4 (or all, where there are fewer)."""
    if not 0 < threshold <= 1:
        raise ValueError(f"pruning threshold {threshold}: must be above 0 and at most 1")
    widths = {}
    for name, share in zeros.items():
        filters = share.shape[1]
        safe = float((share >= threshold).sum(dim=1).float().mean())
        widths[name] = max(math.ceil(filters - safe - 1e-6), min(FEWEST_FILTERS, filters))
    return widths


def plan(spec: NetSpec, zeros: Zeros, depth: Depth, widths: Widths) -> Plan:
    """The last `depth` blocks of each group, with `widths` filters of each convolution (by name)."""
    blocks = last_blocks(spec, depth)
    space = coupling(blueprint(spec)).space
    kept: dict[str, tuple[int, ...]] = {INPUT: (0, 1, 2)}
    # A stream's channels are those of the convolution that writes it last, so the order matters.
    names = [] if entering(spec) == INPUT else [entering(spec)]
    for group, positions in enumerate(blocks):
        for position in positions:
            names += [inner(spec, group, position), outer(spec, group, position)]
    for name in names:
        kept[space[name]] = _fewest_zeros(zeros[name], widths[name])
    return planned(spec, blocks, kept)


def widths_within(spec: NetSpec, zeros: Zeros, depth: Depth, limit: Limit) -> dict[str, int]:
    """The widths, each the same share of the teacher's, that fill the limit best. Raises ValueError."""

    def scaled(thousandths: int) -> dict[str, int]:
        return {
            name: max(min(FEWEST_FILTERS, share.shape[1]), share.shape[1] * thousandths // 1000)
            for name, share in zeros.items()
        }

    for thousandths in range(1000, -1, -5):
        widths = scaled(thousandths)
        if limit.allows(shrunk_spec(spec, plan(spec, zeros, depth, widths))):
            return widths
    raise ValueError(f"no student with {depth} blocks a group has only {limit}")


def _fewest_zeros(zeros: Tensor, count: int) -> tuple[int, ...]:
    """The `count` filters with the lowest mean share of zeros, in their own order."""
    order = torch.argsort(zeros.mean(dim=0), stable=True)
    return tuple(sorted(order[:count].tolist()))
