"""Small networks of every family, for hypothesis and for comparisons with torch."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from transfer.blueprint import weight_shapes
from transfer.spec import BlockSpec, NetSpec, VggSpec, resnet_cifar, resnet_imagenet, vgg16, wide_resnet

Weights = dict[str, np.ndarray]

WIDTH = st.integers(1, 16)
CLASSES = st.integers(1, 12)

SMALL: dict[str, NetSpec] = {
    "resnet": resnet_cifar(8, 5, widths=(4, 7, 9)),
    "wide": wide_resnet(16, 1, 5, widths=(6, 9, 12)),
    "imagenet": resnet_imagenet(18, 5, widths=(6, 8, 9, 12)),
    "vgg": vgg16(5, norm=False, hidden=(), widths=(6, 8, 8, 9, 12)),
    "vgg, normed": vgg16(5, norm=True, hidden=(), widths=(6, 8, 8, 9, 12)),
    "vgg, hidden layers": vgg16(5, norm=True, hidden=(10, 8), widths=(6, 8, 8, 9, 12)),
}
"""One of each kind."""


def _groups(block: st.SearchStrategy[BlockSpec]) -> st.SearchStrategy[tuple[tuple[BlockSpec, ...], ...]]:
    return st.lists(st.lists(block, min_size=1, max_size=2).map(tuple), min_size=1, max_size=3).map(tuple)


SPECS: st.SearchStrategy[NetSpec] = st.builds(
    NetSpec,
    stem_width=WIDTH,
    stem_stride=st.integers(1, 2),
    groups=_groups(st.builds(BlockSpec, WIDTH, WIDTH)),
    classes=CLASSES,
    family=st.sampled_from(["resnet", "wide", "imagenet"]),
) | st.builds(
    NetSpec,
    stem_width=st.just(3),
    stem_stride=st.just(1),
    groups=_groups(WIDTH.map(lambda width: BlockSpec(width, width))),
    classes=CLASSES,
    family=st.just("vgg"),
    vgg=st.builds(VggSpec, norm=st.booleans(), hidden=st.lists(WIDTH, max_size=2).map(tuple)),
)
"""Any network of any family that takes images of 8 pixels and more."""


def random_weights(spec: NetSpec, seed: int) -> Weights:
    """Weights as a trained network may have them: batch norms that are not the identity, activations of order 1."""
    rng = np.random.default_rng(seed)
    weights: Weights = {}
    for name, shape in weight_shapes(spec).items():
        if len(shape) > 1:
            array = rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
        elif name.endswith((".weight", ".running_var")):
            array = rng.uniform(0.5, 1.5, shape)
        else:
            array = rng.standard_normal(shape) / 10
        weights[name] = array.astype(np.float32)
    return weights


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(7).standard_normal(shape).astype(np.float32)
