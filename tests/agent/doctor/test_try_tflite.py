"""The doctor's own arithmetic: it is what libraries are judged by, so it is held against a slow and plain one."""

from __future__ import annotations

import numpy as np

from agent.doctor.try_tflite import SIDE, _convolved, computed, network
from transfer.graph import Conv, Dense


def plainly(conv: Conv, image: np.ndarray, row: int, column: int, channel: int) -> float:
    """One output, by the definition of a convolution that pads both sides by one."""
    total = float(conv.bias[channel])
    for down in range(3):
        for across in range(3):
            r, c = row * conv.stride + down - 1, column * conv.stride + across - 1
            if 0 <= r < image.shape[0] and 0 <= c < image.shape[1]:
                total += float(image[r, c] @ conv.weight[channel, down, across])
    return max(total, 0.0)


def test_convolutions_are_those_of_the_definition() -> None:
    first, second, _, dense = network().operations
    assert isinstance(first, Conv) and isinstance(second, Conv) and isinstance(dense, Dense)
    image = np.random.default_rng(5).standard_normal((SIDE, SIDE, 3)).astype(np.float32)
    for conv, maps in ((first, image), (second, _convolved(first, image))):
        made = _convolved(conv, maps)
        assert made.shape == (SIDE // conv.stride, SIDE // conv.stride, len(conv.bias))
        for row, column, channel in ((0, 0, 0), (3, 7, 5), (made.shape[0] - 1, made.shape[1] - 1, 9)):
            assert np.isclose(made[row, column, channel], plainly(conv, maps, row, column, channel), atol=1e-5)
    logits, feature = computed(network(), image)
    assert feature.shape == (64,) and np.allclose(logits, dense.weight @ feature + dense.bias)
