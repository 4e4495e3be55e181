"""What the cloud computes on: a GPU where there is one, and bfloat16 where the processor multiplies it by itself.

Weights, their updates and every loss stay float32; only convolutions and what lies between them are rounded. On
ResNet-56 and CIFAR-10 the logits then differ by 0.05 (root mean square, of some 10) and a step takes two thirds.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cache

import torch


@cache
def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@cache
def has_bfloat16() -> bool:
    """Whether bfloat16 is fast here. Emulated, it would be slower than float32."""
    if device().type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(getattr(torch.cpu, "_is_avx512_bf16_supported", bool)())


@cache
def has_tiles() -> bool:
    """Whether the processor multiplies bfloat16 in tiles (AMX), which oneDNN then does."""
    return device().type == "cpu" and bool(getattr(torch.cpu, "_is_amx_tile_supported", bool)())


def rounded() -> AbstractContextManager[object]:
    """Inside, networks run in bfloat16 where that is fast. Their outputs may be bfloat16: take `.float()` of them.

    With several threads on a processor that has tiles only what needs no gradient does: some backward convolutions then
    take a slow path (16 to 32 channels, stride 2, 64 maps of 16 x 16: 516 ms with two threads, 1 ms with one). So there
    one thread trains about as fast as two, and two trainings side by side twice as fast. One with AVX-512 alone has no
    such path (1 ms with one, 1.5 with two), and two threads train 1.9 times as fast as one.
    """
    slow = has_tiles() and torch.is_grad_enabled() and torch.get_num_threads() > 1
    return torch.autocast(device().type, torch.bfloat16, enabled=has_bfloat16() and not slow)
