"""What leaves the device, seen where nobody can cheat: at the broker's socket."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from real_fleet import NEW, Fleet, learn
from tcp_tap import TcpTap

from demo.broker import Broker
from transfer.preprocess import encode_png

pytestmark = pytest.mark.e2e

WINDOW = 24


def image_bytes_in(stream: bytes, fleet: Fleet) -> int:
    """How many of the dropped images show in `stream`: as the PNG that was dropped, or as a run of its pixels."""
    found = 0
    for image in fleet.images(NEW, test=False):
        png = encode_png(image)
        pixels = np.ascontiguousarray(image).tobytes()
        middle = len(pixels) // 2
        runs = (png[60 : 60 + WINDOW], pixels[middle : middle + WINDOW * 3])
        found += any(len(set(run)) > 4 and run in stream for run in runs)
    return found


@pytest.mark.timeout(180)
@pytest.mark.parametrize("mode", ["local", "teacher_download"])
def test_no_image_leaves(
    mode: str, mosquitto: Broker, tcp_tap: Callable[[int], TcpTap], make_fleet: Callable[..., Fleet]
) -> None:
    tap = tcp_tap(mosquitto.port)
    fleet = make_fleet(
        mosquitto,
        agent_port=tap.port,
        privacy={"mode": mode, "consent_to_upload": False, "share_predictions": mode != "local"},
    )
    fleet.start_worker()
    fleet.start_agent()
    learn(fleet)
    sent = tap.upstream
    assert image_bytes_in(sent, fleet) == 0
    assert b"\x89PNG" not in sent and b"IHDR" not in sent
    ledger = fleet.status()["egress"]
    assert ledger["image"]["allowed_messages"] == 0
    if mode == "local":
        assert ledger["derived"]["allowed_messages"] == 0
        assert fleet.operator.prediction_messages == 0
        assert b'"prediction"' not in sent and NEW.encode() + b".png" not in sent
        # A whole round's operational messages, far below what its images would weigh.
        assert len(sent) < 60_000


@pytest.mark.timeout(180)
def test_with_consent_the_images_do_leave(
    mosquitto: Broker, tcp_tap: Callable[[int], TcpTap], make_fleet: Callable[..., Fleet]
) -> None:
    """The counter-proof: the same look at the same socket finds them when they pass."""
    tap = tcp_tap(mosquitto.port)
    fleet = make_fleet(mosquitto, agent_port=tap.port)
    fleet.start_worker()
    fleet.start_agent()
    learn(fleet)
    assert image_bytes_in(tap.upstream, fleet) >= 30
    assert fleet.status()["egress"]["image"]["allowed_messages"] > 0
