"""The arithmetic of blocks on known numbers, and the real device under a stream, a few swaps of a tiny model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tiny_world import frame, images

from agent.adapters.inference import InferenceError
from benchmarks.device import model
from benchmarks.device.swap import OURS, RIVAL, WITHOUT, Block, Device, SwapError, alternating, findings
from transfer.spec import resnet_cifar

TINY = resnet_cifar(8, len(model.LABELS), widths=(4, 6, 8))


def block(kind: str, latencies_ms: list[float], *, swaps: int = 0, dropped: int = 0) -> Block:
    """A frame every 10 ms."""
    offered = 0.01 * np.arange(len(latencies_ms))
    return Block(kind, swaps, 2.0, dropped, np.stack([offered, offered + np.array(latencies_ms) / 1000], axis=1))


def test_figures_are_of_our_swaps_and_their_ratio_to_none() -> None:
    blocks = [
        block(OURS, [2.0] * 200, swaps=4),
        block(WITHOUT, [1.0] * 200),
        block(RIVAL, [50.0] * 200, swaps=4, dropped=7),
        block(WITHOUT, [1.0] * 200),
        block(OURS, [2.0] * 100 + [5.0] + [2.0] * 99, swaps=4, dropped=1),
    ]
    found = findings(blocks, 0.25)
    assert found.figures["dropped"] == 1 and found.figures["rss_growth_mib"] == 0.25
    assert found.figures["p99_ratio"] == pytest.approx(2.0)
    assert found.figures["max_gap_ms"] == pytest.approx(3.0)  # one verdict came 3 ms later than its place in the stream
    rows = {row["stream"]: row for row in found.rows}
    assert rows[OURS]["usual_max_gap_ms"] == pytest.approx(1.5)  # of two blocks, one without such a gap
    assert [rows[kind]["swaps"] for kind in (WITHOUT, OURS, RIVAL)] == [0, 8, 4]
    assert rows[OURS]["longest_ms"] == pytest.approx(5.0) and rows[OURS]["ms_a_swap"] == pytest.approx(500.0)
    assert rows[RIVAL]["dropped"] == 7 and rows[WITHOUT]["ms_a_swap"] is None
    assert set(found.targets) == set(found.figures)


def test_a_block_with_a_single_verdict_has_no_gap() -> None:
    assert block(OURS, [3.0]).gap_s == 0.0


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    opened = Device(tmp_path, TINY)
    yield opened
    opened.close()


def test_blocks_take_turns_and_every_frame_is_told(device: Device) -> None:
    said: list[str] = []
    blocks, _ = alternating(device, 3, 2, said.append)
    assert [(each.kind, each.swaps) for each in blocks] == [
        *((OURS, 2), (WITHOUT, 0), (RIVAL, 2)),
        *((OURS, 1), (WITHOUT, 0), (RIVAL, 1)),
    ]
    assert said == ["swap 0 of 3", "swap 2 of 3"]
    for each in blocks:
        assert len(each.times_s) > 0 and (each.latencies_s > 0).all()
        assert (np.diff(each.times_s[:, 0]) > 0).all() and each.seconds > 0


def test_swaps_are_the_daemons_own(device: Device, tmp_path: Path) -> None:
    """The pointer on the disk moves with what is served."""
    pointer = tmp_path / "models" / "pointer.json"
    before = pointer.read_bytes()
    device.block(OURS, 1)
    assert pointer.read_bytes() != before
    moved = pointer.read_bytes()
    device.block(RIVAL, 1)
    assert pointer.read_bytes() == moved


def test_a_generation_that_cannot_be_served_is_said(device: Device, tmp_path: Path) -> None:
    (tmp_path / "models" / "generations" / "000002" / "model.tflite").write_bytes(b"damaged")
    with pytest.raises(SwapError, match="not promoted"):
        device.block(OURS, 1)


def test_a_frame_that_fails_is_said(device: Device) -> None:
    device._failed(frame(images("teal", 1)[0]), InferenceError("no"))
    with pytest.raises(SwapError, match="not served: no"):
        device.block(WITHOUT)
