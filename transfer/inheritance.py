"""The weights a student starts from: those of the filters it keeps. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from transfer.blueprint import blueprint
from transfer.coupling import coupling
from transfer.operations import INPUT, Add, Conv, Dense, Join, Norm, Operation, Shortcut
from transfer.plan import Plan, branch, entering, inner, origins, outer, shortcut, shrunk_spec
from transfer.spec import NetSpec

Array = npt.NDArray[np.float32]
Weights = Mapping[str, Array]

EPSILON = 1e-5
"""What torch's batch norm adds to the variance."""
HALF = 0.5
"""What a ReLU lets through of values that are as often negative as positive."""


def shrink(spec: NetSpec, weights: Weights, plan: Plan) -> tuple[NetSpec, dict[str, Array]]:
    """The student's shape, and its weights, inherited from the kept filters of the kept blocks.

    The result is a start for training, not yet a good network: blocks that stood between are gone. With all blocks and
    all channels it is the teacher (but for a VGG's hidden layers).
    """
    small = shrunk_spec(spec, plan)
    origin = origins(spec, small, plan)
    kept = _kept(spec, plan)
    space = coupling(blueprint(spec)).space
    bridges = _bridges(spec, small, weights, plan)
    channels: dict[str, Sequence[int]] = {INPUT: range(3)}
    taken: dict[str, Array] = {}
    for operation in blueprint(small).operations:
        name = operation.name
        if isinstance(operation, Add | Join):
            channels[name] = channels[operation.a]
            continue
        reads = list(channels[operation.source])
        channels[name] = reads
        if isinstance(operation, Conv):
            channels[name] = kept[space[origin[name]]]
            weight = weights[f"{origin[name]}.weight"][list(channels[name])]
            if name in bridges:
                weight = bridges[name].before(weight)
            taken[f"{name}.weight"] = weight[:, reads]
            if operation.bias:
                taken[f"{name}.bias"] = weights[f"{origin[name]}.bias"][list(channels[name])]
        elif isinstance(operation, Norm):
            for part in ("weight", "bias", "running_mean", "running_var"):
                taken[f"{name}.{part}"] = weights[f"{origin[name]}.{part}"][reads]
        elif isinstance(operation, Dense):
            weight, bias = _classifier(spec, weights)
            taken |= {f"{name}.weight": weight[:, reads], f"{name}.bias": bias}
    return small, {name: np.ascontiguousarray(array).copy() for name, array in taken.items()}


def _kept(spec: NetSpec, plan: Plan) -> dict[str, tuple[int, ...]]:
    """The plan's channels by the teacher's spaces."""
    space = coupling(blueprint(spec)).space
    kept = {space[entering(spec)]: plan.stem}
    for group, positions in enumerate(plan.blocks):
        for position, inside in zip(positions, plan.mid[group], strict=True):
            kept[space[inner(spec, group, position)]] = inside
        kept[space[outer(spec, group, positions[-1])]] = plan.out[group]
    return kept


@dataclass(frozen=True, eq=False)
class _Bridge:
    """From the channels that a convolution reads to those that its origin in the teacher does, [teacher's, its own];
    learned, or a mere selection."""

    matrix: Array
    learned: bool

    def before(self, weight: Array) -> Array:
        """The convolution OIHW behind the bridge [I, J], as one convolution OJHW.

        Behind a learned one each filter gets its own norm back: in a VGG without batch norm nothing else would keep the
        signal as loud as it was.
        """
        made: Array = np.einsum("oihw,ij->ojhw", weight, self.matrix, optimize=True)
        if self.learned:
            made *= _norms(weight) / np.maximum(_norms(made), EPSILON)
        return made


def _norms(weight: Array) -> Array:
    norms: Array = np.sqrt(np.square(weight).sum(axis=(1, 2, 3), keepdims=True))
    return norms


def _bridges(spec: NetSpec, small: NetSpec, weights: Weights, plan: Plan) -> dict[str, _Bridge]:
    """For convolutions of the student that read what their origin never saw, because blocks between are gone.

    The first block of a group reads the group before as the shortcut of the teacher's first block would have handed it
    on. VGG has no shortcuts: there it reads it as the blocks left out would, were they linear and their input flat.
    """
    bridges: dict[str, _Bridge] = {}
    for group, positions in enumerate(plan.blocks):
        if positions[0] == 0:
            continue
        gone: Sequence[Operation] = shortcut(spec, group)
        if spec.family == "vgg":
            gone = [operation for position in range(positions[0]) for operation in branch(spec, group, position)]
        matrix: Array = np.eye(_width_before(spec, group), dtype=np.float32)
        for operation in gone:
            matrix = np.asarray(_linear(operation, weights) @ matrix, np.float32)
        learned = any(isinstance(operation, Conv) for operation in gone)
        bridges[inner(small, group, 0)] = _Bridge(matrix, learned)
    return bridges


def _width_before(spec: NetSpec, group: int) -> int:
    return spec.groups[group - 1][-1].out if group else spec.stem_width


def _linear(operation: Operation, weights: Weights) -> Array:
    """What the operation does to flat maps, its offset left out, as a matrix [channels out, channels in]."""
    if isinstance(operation, Shortcut):
        matrix: Array = np.zeros((operation.channels_out, operation.channels_in), np.float32)
        kept = np.arange(operation.kept)
        matrix[kept + operation.padding[0], kept] = 1
        return matrix
    weight = weights[f"{operation.name}.weight"]
    if isinstance(operation, Norm):
        scale = weight / np.sqrt(weights[f"{operation.name}.running_var"] + np.float32(EPSILON))
        return np.diag(scale).astype(np.float32)
    total: Array = weight.sum(axis=(2, 3))
    return total


def _classifier(spec: NetSpec, weights: Weights) -> tuple[Array, Array]:
    """The teacher's logits as a linear function of its feature: weight [C, D] and bias [C].

    A VGG's hidden layers are multiplied together, each ReLU taken as a half, over a map that is flat at its mean.
    """
    denses = [operation for operation in blueprint(spec).operations if isinstance(operation, Dense)]
    weight = weights[f"{denses[0].name}.weight"]
    bias = weights[f"{denses[0].name}.bias"]
    weight = weight.reshape(len(weight), spec.pooled_width, -1).sum(axis=2)
    for dense in denses[1:]:
        after = weights[f"{dense.name}.weight"]
        # The half belongs to the ReLU before this layer.
        bias = np.asarray(HALF * after @ bias + weights[f"{dense.name}.bias"], np.float32)
        weight = np.asarray(HALF * after @ weight, np.float32)
    return weight, bias
