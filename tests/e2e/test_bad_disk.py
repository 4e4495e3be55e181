"""A disk that is full, or returns errors: every image is classified, nothing that was good is damaged, and it is said
once. When the disk recovers, so does what is stored."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import paho.mqtt.publish
import pytest
from bad_disk import Device, fill, small_disk
from tiny_world import NEW, World, make

from demo.broker import Broker
from transfer import signing, wire

if TYPE_CHECKING:
    from nacl.signing import SigningKey

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

FAILING = "fsync,fdatasync,pwrite64,ftruncate"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make(tmp_path_factory.mktemp("world"))


@pytest.fixture
def mqtt() -> dict[str, Any]:
    """The device's broker, where a test has one."""
    return {}


@pytest.fixture
def device(tmp_path: Path, world: World, mqtt: dict[str, Any]) -> Iterator[Device]:
    with small_disk(tmp_path / "disk", mib=12) as disk:
        made = Device(tmp_path / "scene", world, disk / "state", mqtt)
        yield made
        if made.process is not None:
            made.stop(signal.SIGKILL)


def serve(device: Device, count: int) -> None:
    """Show so many, and wait until this start has classified them and all that came before."""
    before = int(device.status()["frames"])
    device.show(count)
    device.await_frames(before + count)


@pytest.mark.spec("5.4", "7.4")
def test_a_full_disk_costs_no_verdict_and_no_sample_that_was_stored(device: Device) -> None:
    device.start()
    serve(device, 5)
    device.until(lambda: len(device.sample_ids()) == 5, "the samples were not stored")
    good, before = device.sample_ids(), device.lines()
    ballast = fill(device.state.parent)
    serve(device, 40)
    status = device.status()
    assert status["frames"] == 45 and status["errors"] == 0
    device.until(lambda: device.status()["disk_refused"].get("samples", 0) > 0, "nothing was counted")
    assert good <= device.sample_ids() and device.lines() >= before
    device.until(lambda: device.events("disk_refuses") != [], "nobody said anything")

    ballast.unlink()
    serve(device, 5)
    device.until(lambda: len(device.sample_ids()) >= len(good) + 5, "nothing is stored although there is room")
    device.until(lambda: device.events("disk_takes_again") != [], "nobody said that it is over")
    told = [line["which"] for line in device.events("disk_refuses")]
    assert len(told) == len(set(told)), f"said more than once: {told}"
    assert device.stop() == 0


@pytest.mark.spec("5.4", "4.1")
def test_it_starts_and_classifies_on_a_full_disk(device: Device) -> None:
    device.start()
    serve(device, 3)
    device.until(lambda: len(device.sample_ids()) == 3, "the samples were not stored")
    device.stop(signal.SIGKILL)
    ballast = fill(device.state.parent)
    device.start()
    serve(device, 10)
    assert device.status()["errors"] == 0
    assert [line["which"] for line in device.events("file_not_usable")] == ["session"]
    device.stop(signal.SIGKILL)
    ballast.unlink()
    device.start()
    assert device.events("file_not_usable") == [] and len(device.sample_ids()) >= 3
    assert device.stop() == 0


class TestWithABroker:
    @pytest.fixture
    def operator(self, tmp_path: Path) -> SigningKey:
        return signing.generate(tmp_path / "operator.key")

    @pytest.fixture
    def mqtt(self, mosquitto: Broker, operator: SigningKey) -> dict[str, Any]:
        return {"host": "127.0.0.1", "port": mosquitto.port, "operator_keys": [signing.public_key_hex(operator)]}

    @pytest.mark.spec("7.1", "7.4")
    def test_an_order_that_the_disk_refused_comes_again_after_a_power_cut(
        self, device: Device, operator: SigningKey, mosquitto: Broker
    ) -> None:
        """Nothing of it was stored, so the broker must not have been told that it arrived."""
        topic = wire.Topics("understudy", "home", "small").trigger
        now_utc = time.time()
        order = wire.Trigger(
            id="t1", categories=(NEW,), samples_wanted=30, issued_utc=now_utc, expires_utc=now_utc + 600
        )
        order = msgspec.structs.replace(order, signature=signing.sign(operator, wire.signing_bytes(order)))
        device.start()
        device.until(lambda: device.status()["connected"], "there is no link")
        ballast = fill(device.state.parent)
        paho.mqtt.publish.single(topic, wire.encode(order), qos=1, hostname="127.0.0.1", port=mosquitto.port)
        device.until(lambda: device.status()["disk_refused"].get("state", 0) > 0, "the state was written")
        assert device.status()["phase"] == "collecting"
        device.stop(signal.SIGKILL)
        ballast.unlink()
        device.start()
        device.until(lambda: device.status()["phase"] == "collecting", "the order is lost")

        device.stop(signal.SIGKILL)
        device.start()
        device.until(lambda: device.status()["connected"], "there is no link")
        assert device.status()["phase"] == "collecting" and device.status()["rounds_begun"] == 1
        assert device.stop() == 0


@pytest.mark.spec("7.4")
def test_a_disk_that_returns_errors_damages_nothing(device: Device) -> None:
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace makes the system calls fail: install it (apt install strace)")
    device.start()
    serve(device, 5)
    device.until(lambda: len(device.sample_ids()) == 5, "the samples were not stored")
    good = device.sample_ids()
    assert device.process is not None
    command = [strace, "-f", "-p", str(device.process.pid), "-e", f"trace={FAILING}"]
    tracing = subprocess.Popen(
        [*command, "-e", f"inject={FAILING}:error=EIO", "-o", str(device.scene / "strace")],
        stderr=subprocess.PIPE,
    )
    assert tracing.stderr is not None
    attached = tracing.stderr.readline().decode()
    if "attached" not in attached:
        tracing.kill()
        pytest.skip(f"this process may not be traced (kernel.yama.ptrace_scope, or run as root): {attached}")
    try:
        serve(device, 30)
        device.until(lambda: device.status()["disk_refused"].get("samples", 0) > 0, "nothing was counted")
        device.until(lambda: device.events("disk_refuses") != [], "nobody said anything")
        assert device.status()["errors"] == 0
    finally:
        tracing.send_signal(signal.SIGINT)  # it lets go of the daemon
        tracing.wait(30)
    assert "EIO" in (device.scene / "strace").read_text(), "no call has failed: this proved nothing"
    serve(device, 5)
    device.until(lambda: len(device.sample_ids()) >= len(good) + 5, "nothing is stored although the disk is well")
    assert good <= device.sample_ids()
    assert device.events("database_quarantined") == []
    told = [line["which"] for line in device.events("disk_refuses")]
    assert len(told) == len(set(told)), f"said more than once: {told}"
    device.stop(signal.SIGKILL)
    device.start()
    assert device.events("database_quarantined") == [] and device.events("state_quarantined") == []
    assert good <= device.sample_ids()
