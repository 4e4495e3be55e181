from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud_teacher.fleet import COLUMNS, FleetView, checked, command, plain_line, trigger, watched
from transfer import signing, wire
from transfer.wire import DeviceCommand, Event, JobUpdate, Status, Topics, Trigger

if TYPE_CHECKING:
    from nacl.signing import SigningKey

NOW = 5000.0
TOPICS = Topics("understudy", "home", "edge-1")


@pytest.fixture
def key(tmp_path: Path) -> SigningKey:
    return signing.generate(tmp_path / "operator.key")


def verified(message: Trigger | DeviceCommand, key: SigningKey) -> bool:
    return signing.verify([signing.public_key_hex(key)], wire.signing_bytes(message), message.signature) is not None


def test_a_trigger_is_signed_expires_and_survives_the_wire(key: SigningKey) -> None:
    message = trigger(["nine"], key, now_utc=NOW, expires_s=60, samples=80, devices=["edge-1"])
    arrived = wire.decode(checked(message), Trigger)
    assert arrived == message and verified(arrived, key)
    assert (arrived.expires_utc, arrived.samples_wanted, arrived.devices) == (NOW + 60, 80, ("edge-1",))
    assert not verified(msgspec.structs.replace(arrived, categories=("ten",)), key)


def test_every_trigger_has_an_id_of_its_own_unless_one_is_given(key: SigningKey) -> None:
    ids = {trigger(["nine"], key, now_utc=NOW, expires_s=60, samples=80).id for _ in range(5)}
    assert len(ids) == 5
    assert trigger(["nine"], key, now_utc=NOW, expires_s=60, samples=80, trigger_id="mine").id == "mine"


@pytest.mark.parametrize(
    ("changes", "field"),
    [({"samples": 1}, "samples_wanted"), ({"categories": [""]}, "categories"), ({"devices": ["a/b"]}, "devices")],
)
def test_what_devices_would_refuse_is_refused_here(key: SigningKey, changes: dict[str, object], field: str) -> None:
    options: dict[str, object] = {"categories": ["nine"], "now_utc": NOW, "expires_s": 60, "samples": 80} | changes
    categories = options.pop("categories")
    with pytest.raises(wire.WireError, match=field):
        checked(trigger(categories, key, **options))  # type: ignore[arg-type]


def test_several_categories_that_are_the_same_are_refused_before_they_are_signed(key: SigningKey) -> None:
    with pytest.raises(ValueError, match="'nine' is named twice"):
        trigger(["nine", "ten", "nine"], key, now_utc=NOW, expires_s=60, samples=80)


def test_a_command_is_signed(key: SigningKey) -> None:
    for action in ("rollback", "cancel", "resume"):
        message = command(action, "cam", key, now_utc=NOW, expires_s=60)
        assert wire.decode(checked(message), DeviceCommand) == message and verified(message, key)
        assert message.action == action
    with pytest.raises(ValueError, match="use rollback, cancel, resume"):
        command("explode", "cam", key, now_utc=NOW, expires_s=60)


def status(session: int = 1, online: bool = True, device: str = "edge-1", **more: object) -> Status:
    return Status(device=device, session=session, online=online, at_utc=NOW, **more)  # type: ignore[arg-type]


def taken(view: FleetView, message: Status | JobUpdate | Event, topic: str = TOPICS.status) -> object:
    return view.take(topic, wire.encode(message))


def test_the_latest_of_each_device_is_shown() -> None:
    view = FleetView()
    taken(view, status(phase="IDLE"))
    taken(view, status(phase="COLLECTING", categories=("nine", "ten"), collected=3, wanted=80, labels=("a", "b")))
    job = JobUpdate(
        device="edge-1",
        session=1,
        at_utc=NOW,
        trigger_id="t",
        categories=("nine", "ten"),
        left_out=("ten",),
        state="SUCCEEDED",
        old_after=0.97,
        new_after=0.95,
    )
    taken(view, job, TOPICS.job)
    (row,) = view.rows()
    shown = dict(zip(COLUMNS, row, strict=True))
    assert (shown["device"], shown["link"], shown["phase"], shown["known"]) == ("edge-1", "online", "COLLECTING", "2")
    assert shown["collecting"] == "nine, ten 3/80"
    assert shown["job"] == "nine, ten SUCCEEDED (old 97%, new 95%)"


def test_the_late_will_of_an_earlier_session_is_ignored() -> None:
    view = FleetView()
    taken(view, status(session=7))
    assert taken(view, status(session=6, online=False)) is None
    assert view.statuses["edge-1"].online
    assert taken(view, status(session=7, online=False)) is not None
    assert not view.statuses["edge-1"].online


def test_a_device_speaks_for_itself_only() -> None:
    view = FleetView()
    assert taken(view, status(device="edge-2")) is None
    assert not view.statuses


@settings(deadline=None)
@given(st.text(max_size=40), st.binary(max_size=100))
def test_noise_is_ignored(topic: str, payload: bytes) -> None:
    view = FleetView()
    assert view.take(topic, payload) is None and view.take(TOPICS.status, payload) is None
    assert view.rows() == []


def test_lines_for_a_person() -> None:
    assert plain_line(status(phase="IDLE", generation=2)) == "edge-1: IDLE, generation 2"
    assert plain_line(status(online=False)) == "edge-1: offline, generation 0"
    event = Event(device="edge-1", session=1, seq=1, at_utc=NOW, kind="swapped", detail={"generation": 2})
    assert plain_line(event) == "edge-1: swapped generation=2"


def test_what_is_watched_covers_every_device() -> None:
    assert watched(Topics("u", "home")) == ["u/v1/home/+/status", "u/v1/home/+/job", "u/v1/home/+/event"]
