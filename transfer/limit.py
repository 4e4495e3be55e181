"""How large a student may be: a limit on its parameters or on its multiply-accumulates. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass

from transfer.blueprint import macs, parameters
from transfer.spec import NetSpec


@dataclass(frozen=True)
class Limit:
    """At most so many parameters or, where the `image` (height and width) is given, MACs of one forward pass on it."""

    most: int
    image: tuple[int, int] | None = None

    def cost(self, spec: NetSpec) -> int:
        return parameters(spec) if self.image is None else macs(spec, *self.image)

    def allows(self, spec: NetSpec) -> bool:
        return self.cost(spec) <= self.most

    def __str__(self) -> str:
        return f"{self.most:,} {'parameters' if self.image is None else 'multiply-accumulates'}"
