"""From the teacher to the student's shape: keep the last blocks of each group, and of each convolution the filters that
say something (arXiv 2201.10947, section 3, eq. 1-2).

Equation 2 gives how many filters of a convolution to keep; which ones the paper leaves open. We keep those with the
lowest mean share of zeros, and the student inherits their weights.

All blocks of a group add to the same stream of channels, so they share one choice of `out` channels (that of the last
block), and the stem shares it with the first group. Only the `mid` channels inside a block are its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from transfer.networks import ResNet
from transfer.spec import BlockSpec, NetSpec, parameters

FEWEST_FILTERS = 4
STEM = "conv1"

Array = npt.NDArray[np.float32]
Weights = Mapping[str, Array]
Widths = Mapping[str, int]
Zeros = Mapping[str, Tensor]


def zero_fractions(net: ResNet, images: Tensor) -> dict[str, Tensor]:
    """Eq. 2: for each convolution, by name, the share of zeros [n, filters] in its activation maps.

    An activation map is what comes out of the ReLU behind the convolution: for the second convolution of a block, the
    block's output. `images`: normalised, [n, 3, h, w].
    """
    shares: dict[str, Tensor] = {}

    def before_relu(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
            shares[name] = _zeros(output)

        return hook

    norms = {STEM: "bn1"} | {f"{block.name}.conv1": f"{block.name}.bn1" for block in net.spec.placed()}
    handles = [net.get_submodule(norm).register_forward_hook(before_relu(conv)) for conv, norm in norms.items()]
    try:
        with torch.no_grad():
            outputs = net.eval()(images)
    finally:
        for handle in handles:
            handle.remove()
    for block in net.spec.placed():
        shares[f"{block.name}.conv2"] = _zeros(outputs.blocks[block.group][block.position])
    return shares


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


@dataclass(frozen=True)
class Plan:
    """What the student takes from the teacher: student channel i is the teacher's channel [i].

    blocks: per group, the teacher's block positions. out: per group, the stream's channels. mid: per group and block,
    the channels inside.
    """

    blocks: tuple[tuple[int, ...], ...]
    out: tuple[tuple[int, ...], ...]
    mid: tuple[tuple[tuple[int, ...], ...], ...]


def last_blocks(spec: NetSpec, depth: int) -> tuple[tuple[int, ...], ...]:
    """The positions of the last `depth` blocks of each group (all, where a group has fewer)."""
    if depth < 1:
        raise ValueError(f"{depth} blocks a group: must be at least 1")
    return tuple(tuple(range(max(0, len(blocks) - depth), len(blocks))) for blocks in spec.groups)


def plan(spec: NetSpec, zeros: Zeros, depth: int, widths: Widths) -> Plan:
    """The last `depth` blocks of each group, with `widths` filters of each convolution (by name)."""
    blocks = last_blocks(spec, depth)
    out: list[tuple[int, ...]] = []
    mid = []
    for group, positions in enumerate(blocks):
        name = f"layer{group + 1}.{positions[-1]}.conv2"
        chosen = _fewest_zeros(zeros[name], widths[name])
        out.append(_aligned(chosen, out[-1], _shift(spec, group)) if out else chosen)
        names = [f"layer{group + 1}.{position}.conv1" for position in positions]
        mid.append(tuple(_fewest_zeros(zeros[inner], widths[inner]) for inner in names))
    return Plan(blocks, tuple(out), tuple(mid))


def widths_within(spec: NetSpec, zeros: Zeros, depth: int, most_parameters: int) -> dict[str, int]:
    """The widths, each the same share of the teacher's, that fill `most_parameters` best. Raises ValueError."""

    def scaled(thousandths: int) -> dict[str, int]:
        return {
            name: max(min(FEWEST_FILTERS, share.shape[1]), share.shape[1] * thousandths // 1000)
            for name, share in zeros.items()
        }

    for thousandths in range(1000, -1, -5):
        widths = scaled(thousandths)
        if parameters(shrunk_spec(spec, plan(spec, zeros, depth, widths))) <= most_parameters:
            return widths
    raise ValueError(f"no student with {depth} blocks a group has only {most_parameters} parameters")


def shrunk_spec(spec: NetSpec, plan: Plan) -> NetSpec:
    """The student's shape."""
    groups = tuple(
        tuple(BlockSpec(len(inner), len(out)) for inner in mids) for out, mids in zip(plan.out, plan.mid, strict=True)
    )
    return msgspec.structs.replace(spec, stem_width=len(plan.out[0]), groups=groups)


def shrink(spec: NetSpec, weights: Weights, plan: Plan) -> tuple[NetSpec, dict[str, Array]]:
    """The student's shape, and its weights, inherited from the kept filters of the kept blocks.

    The result is a start for training, not yet a good network: blocks that stood between are gone.
    """
    small = shrunk_spec(spec, plan)
    taken: dict[str, Array] = {}
    stream = list(plan.out[0])
    _take(weights, taken, STEM, STEM, stream, [0, 1, 2])
    for block in small.placed():
        position = plan.blocks[block.group][block.position]
        reads = stream
        if block.position == 0 and position > 0:
            # It stands where the teacher's first block stood, and reads the group before: these channels, as the
            # shortcut of that first block would have handed them to it.
            reads = [channel + _shift(spec, block.group) for channel in stream]
        old = f"layer{block.group + 1}.{position}"
        mid = list(plan.mid[block.group][block.position])
        stream = list(plan.out[block.group])
        _take(weights, taken, f"{old}.conv1", f"{block.name}.conv1", mid, reads)
        _take(weights, taken, f"{old}.conv2", f"{block.name}.conv2", stream, mid)
    taken["linear.weight"] = weights["linear.weight"][:, stream].copy()
    taken["linear.bias"] = weights["linear.bias"].copy()
    return small, taken


def _take(weights: Weights, taken: dict[str, Array], old: str, new: str, filters: list[int], reads: list[int]) -> None:
    """Copy a convolution and its batch norm: these filters, reading these channels (zero where the old has none)."""
    weight = weights[f"{old}.weight"]
    copied = np.zeros((len(filters), len(reads), *weight.shape[2:]), np.float32)
    there = [at for at, channel in enumerate(reads) if channel < weight.shape[1]]
    copied[:, there] = weight[np.ix_(filters, [reads[at] for at in there])]
    taken[f"{new}.weight"] = copied
    for part in ("weight", "bias", "running_mean", "running_var"):
        taken[f"{_norm(new)}.{part}"] = weights[f"{_norm(old)}.{part}"][filters].copy()


def _norm(convolution: str) -> str:
    """bn1 belongs to conv1, bn2 to conv2."""
    return convolution[: -len("conv1")] + "bn" + convolution[-1]


def _fewest_zeros(zeros: Tensor, count: int) -> tuple[int, ...]:
    """The `count` filters with the lowest mean share of zeros, in their own order."""
    order = torch.argsort(zeros.mean(dim=0), stable=True)
    return tuple(sorted(order[:count].tolist()))


def _shift(spec: NetSpec, group: int) -> int:
    """By how many channels the shortcut into this group moves the stream (half of the zeros it adds go before it)."""
    before = spec.stem_width if group == 0 else spec.groups[group - 1][-1].out
    return max(0, spec.groups[group][0].out - before) // 2


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
