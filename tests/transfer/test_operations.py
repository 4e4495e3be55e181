from __future__ import annotations

import pytest

from transfer.operations import Add, Relu, Shortcut, sources


def test_operations_say_what_they_take() -> None:
    assert sources(Add("sum", "left", "right")) == ("left", "right")
    assert sources(Relu("relu", "sum")) == ("sum",)


@pytest.mark.parametrize(
    ("channels_in", "channels_out", "kept", "padding"),
    [(4, 8, 4, (2, 2)), (4, 7, 4, (1, 2)), (8, 6, 6, (0, 0)), (5, 5, 5, (0, 0))],
)
def test_a_shortcut_drops_channels_at_the_end_and_adds_them_on_both_sides(
    channels_in: int, channels_out: int, kept: int, padding: tuple[int, int]
) -> None:
    shortcut = Shortcut("s", "x", channels_in, channels_out, 2, by="pixel")
    assert (shortcut.kept, shortcut.padding) == (kept, padding)
    assert kept + sum(padding) == channels_out
