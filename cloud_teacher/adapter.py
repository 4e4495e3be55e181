"""A teacher of any torch module: its block maps are listened to by forward hooks, so the module itself stays as it is.

What such a module is to a teacher (where its blocks are, what its logits mean) a person says; see
`cloud_teacher.description`. What is said is checked by one forward pass.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from transfer.networks import Outputs
from transfer.spec import InputSpec

POOLED = "pooled last block"
"""Instead of a module's path: the feature is the mean over the last block's map."""


class AdapterError(ValueError):
    """The module is not what was said of it; the message says where, and what would be."""


class Adapted(nn.Module):
    """`inner`, answering like our own networks: normalised images float32 NCHW in, `Outputs` out.

    groups: the paths (as in `inner.named_modules()`) of the modules whose outputs are the blocks' maps, in order.
    feature: likewise, a module with output [n, D] or [n, D, h, w] (of which the mean is taken), or POOLED.
    Not for several threads at once: the maps pass through the object.
    """

    def __init__(self, inner: nn.Module, groups: Sequence[Sequence[str]], feature: str = POOLED) -> None:
        super().__init__()
        self.inner = inner
        self.groups = tuple(tuple(group) for group in groups)
        self.feature = feature
        self._seen: dict[str, Tensor] | None = None  # only while a batch passes
        modules = dict(inner.named_modules())
        for name in self._listened():
            if name not in modules or not name:
                raise AdapterError(f"the network has no module {name!r}{nearest(name, modules)}")
            modules[name].register_forward_hook(partial(self._hear, name))
        for module in modules.values():
            # It would change a block's map after the block, before anybody has looked at it.
            if getattr(module, "inplace", False) is True:
                module.inplace = False

    def _listened(self) -> list[str]:
        names = [name for group in self.groups for name in group]
        return names if self.feature in (POOLED, *names) else [*names, self.feature]

    def _hear(self, name: str, _module: nn.Module, _inputs: object, output: object) -> None:
        if self._seen is None:
            return
        if not isinstance(output, Tensor):
            raise AdapterError(f"module {name!r} gives a {type(output).__name__}, not one tensor; name one inside it")
        if name in self._seen:
            raise AdapterError(f"module {name!r} runs more than once for one batch; name modules that run once")
        self._seen[name] = output

    def forward(self, x: Tensor) -> Outputs:
        seen = self._seen = {}
        try:
            logits = self.inner(x)
        finally:
            self._seen = None
        silent = [name for name in self._listened() if name not in seen]
        if silent:
            raise AdapterError(f"module {silent[0]!r} did not run in a forward pass; name one that does")
        blocks = [[seen[name] for name in group] for group in self.groups]
        feature = blocks[-1][-1] if self.feature == POOLED else seen[self.feature]
        return Outputs(logits, feature.mean(dim=(2, 3)) if feature.ndim == 4 else feature, blocks)


def measured(net: Adapted, input: InputSpec, classes: int) -> tuple[tuple[tuple[int, ...], ...], int]:
    """The channels of each group's blocks and the length of the feature, from one forward pass. Raises AdapterError."""
    watch = _InPlace(net)
    with torch.no_grad(), watch:
        try:
            outputs = net.eval()(torch.rand(2, 3, input.height, input.width) - 0.5)
        except AdapterError:
            raise
        except Exception as error:  # somebody's module: anything may go wrong in it
            raise AdapterError(f"the network fails on images of {input.height} x {input.width}: {error!r}") from error
    watch.check()
    logits = outputs.logits
    if not isinstance(logits, Tensor) or logits.shape != (2, classes):
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise AdapterError(f"the network gives {shape} for 2 images; with {classes} labels it must be (2, {classes})")
    if outputs.feature.ndim != 2:
        raise AdapterError(
            f"feature {net.feature!r} is {tuple(outputs.feature.shape)}; it must be [n, D] or [n, D, h, w]"
        )
    for number, (names, maps) in enumerate(zip(net.groups, outputs.blocks, strict=True), 1):
        for name, one in zip(names, maps, strict=True):
            if one.ndim != 4 or len(one) != 2:
                raise AdapterError(f"block {name!r} gives {tuple(one.shape)}; a block's map is [n, channels, h, w]")
        sizes = {tuple(one.shape[2:]) for one in maps}
        if len(sizes) > 1:
            raise AdapterError(f"the blocks of group {number} have maps of different sizes ({_sizes(maps)}): split it")
    return tuple(tuple(one.shape[1] for one in maps) for maps in outputs.blocks), outputs.feature.shape[1]


class _InPlace:
    """While this context is open, finds out which blocks' maps are written to after the block."""

    def __init__(self, net: Adapted) -> None:
        self._net = net
        self._heard: list[tuple[str, Tensor, int]] = []
        self._handles: list[torch.utils.hooks.RemovableHandle] = []

    def __enter__(self) -> None:
        for name in self._net._listened():
            self._handles.append(self._net.inner.get_submodule(name).register_forward_hook(partial(self._hear, name)))

    def _hear(self, name: str, _module: nn.Module, _inputs: object, output: object) -> None:
        if isinstance(output, Tensor):
            self._heard.append((name, output, output._version))

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def check(self) -> None:
        for name, output, version in self._heard:
            if output._version != version:
                raise AdapterError(
                    f"the map of block {name!r} is changed in place after it (as by `x += y` or an in-place relu): "
                    "name the module that makes its final values"
                )


def nearest(name: str, known: Iterable[str]) -> str:
    """For the end of a message: what may have been meant."""
    close = difflib.get_close_matches(name, [one for one in known if one], n=3, cutoff=0.5)
    return f"; nearest are {', '.join(map(repr, close))}" if close else ""


def _sizes(maps: Sequence[Tensor]) -> str:
    return ", ".join(f"{one.shape[2]} x {one.shape[3]}" for one in maps)
