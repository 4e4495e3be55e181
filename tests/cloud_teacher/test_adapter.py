from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from cloud_teacher.adapter import POOLED, Adapted, AdapterError, measured
from transfer.spec import InputSpec

INPUT = InputSpec(16, 16, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
GROUPS = (("first", "second"), ("third",))


class Stranger(nn.Module):
    """Somebody's network: two blocks, a third at half the size, an embedding, logits."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
        self.second = nn.Conv2d(4, 6, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.third = nn.Conv2d(6, 8, 3, stride=2, padding=1)
        self.embedding = nn.Linear(8, 5)
        self.linear = nn.Linear(5, classes)
        self.unused = nn.Linear(1, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.third(self.relu(self.second(self.first(x))))
        logits: Tensor = self.linear(self.embedding(x.mean(dim=(2, 3))))
        return logits


def test_outputs_are_the_modules_own() -> None:
    torch.manual_seed(0)
    inner, x = Stranger().eval(), torch.randn(2, 3, 16, 16)
    net = Adapted(inner, GROUPS)
    outputs = net(x)
    first = inner.first(x)
    second = inner.second(first)
    third = inner.third(second.relu())
    for group, wanted in zip(outputs.blocks, [[first, second], [third]], strict=True):
        assert all(torch.equal(one, other) for one, other in zip(group, wanted, strict=True))
    assert torch.equal(outputs.feature, third.mean(dim=(2, 3)))
    assert torch.equal(outputs.logits, inner(x))


def test_an_in_place_relu_does_not_reach_back_into_a_map() -> None:
    torch.manual_seed(0)
    net = Adapted(Stranger().eval(), GROUPS)
    assert (net(torch.randn(2, 3, 16, 16)).blocks[0][1] < 0).any()


def test_widths_and_feature_are_measured() -> None:
    assert measured(Adapted(Stranger(), GROUPS), INPUT, 3) == (((4, 6), (8,)), 8)
    assert measured(Adapted(Stranger(), GROUPS, "embedding"), INPUT, 3) == (((4, 6), (8,)), 5)
    assert measured(Adapted(Stranger(), GROUPS, "second"), INPUT, 3)[1] == 6


def test_gradients_flow_and_every_call_hears_its_own_maps() -> None:
    net = Adapted(Stranger(), GROUPS).train()
    first, second = (net(torch.randn(2, 3, 16, 16)) for _ in range(2))
    assert not torch.equal(first.blocks[0][0], second.blocks[0][0])
    first.feature.sum().backward()
    assert net.get_submodule("inner.first.0").weight.grad is not None


@pytest.mark.parametrize(
    ("groups", "feature", "says"),
    [
        ((("frist",), ("third",)), POOLED, "no module 'frist'; nearest are 'first'"),
        ((("",),), POOLED, "no module ''"),
        (GROUPS, "embeding", "no module 'embeding'; nearest are 'embedding'"),
        ((("unused",),), POOLED, "'unused' did not run"),
        ((("linear",),), POOLED, r"block 'linear' gives \(2, 3\); a block's map is"),
        ((("second", "third"),), POOLED, r"group 1 have maps of different sizes \(16 x 16, 8 x 8\)"),
    ],
)
def test_what_is_said_wrong_is_found(groups: tuple[tuple[str, ...], ...], feature: str, says: str) -> None:
    with pytest.raises(AdapterError, match=says):
        measured(Adapted(Stranger(), groups, feature), INPUT, 3)


def test_the_number_of_labels_must_be_that_of_the_logits() -> None:
    with pytest.raises(AdapterError, match=r"gives \(2, 3\) for 2 images; with 4 labels it must be \(2, 4\)"):
        measured(Adapted(Stranger(), GROUPS), INPUT, 4)


class Odd(Stranger):
    """Does what it does in a way that cannot be listened to."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way

    def forward(self, x: Tensor) -> Tensor:
        first = self.first(x)
        if self.way == "in place":
            functional.relu(first.sub_(0.1), inplace=True)
        if self.way == "twice":
            self.first(x)
        if self.way == "fails":
            raise RuntimeError("only on Sundays")
        second = self.second(first)
        logits: Tensor = self.linear(self.embedding(self.third(second).mean(dim=(2, 3))))
        return (logits,) if self.way == "tuple" else logits  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("way", "says"),
    [
        ("in place", "map of block 'first' is changed in place"),
        ("twice", "'first' runs more than once"),
        ("fails", "fails on images of 16 x 16: .*only on Sundays"),
        ("tuple", "gives tuple for 2 images"),
    ],
)
def test_modules_that_cannot_be_listened_to(way: str, says: str) -> None:
    with pytest.raises(AdapterError, match=says):
        measured(Adapted(Odd(way), GROUPS), INPUT, 3)
    assert measured(Adapted(Odd("well"), GROUPS), INPUT, 3)[1] == 8


def test_a_block_must_give_one_tensor() -> None:
    class Two(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x, x

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.two = Two()

        def forward(self, x: Tensor) -> Tensor:
            both: tuple[Tensor, Tensor] = self.two(x)
            return both[0].mean(dim=(2, 3))

    with pytest.raises(AdapterError, match="'two' gives a tuple, not one tensor"):
        measured(Adapted(Net(), (("two",),)), INPUT, 3)
