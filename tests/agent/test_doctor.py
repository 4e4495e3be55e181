"""The doctor tries the real things of this machine, and a few that are broken on purpose."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_world import World

from agent import doctor
from agent.config import Config, Device, Model, Mqtt, Source
from agent.doctor import Finding, examine, render


@pytest.fixture(scope="module")
def findings() -> dict[str, Finding]:
    return {finding["what"]: finding for finding in examine(None)}


def test_every_need_of_the_daemon_is_tried(findings: dict[str, Finding]) -> None:
    assert set(findings) == {"Python", "TFLite", "torch", "inotify", "camera", "clock", "memory", "disk"}


def test_what_works_here_works_and_only_the_rest_has_advice(findings: dict[str, Finding]) -> None:
    # The interpreter that all other tests use; anything else may be missing on a developer's machine.
    assert findings["Python"]["state"] == findings["TFLite"]["state"] == findings["disk"]["state"] == "works"
    assert all((finding["state"] == "works") == (finding["advice"] == "") for finding in findings.values())


def test_the_doctor_itself_loads_nothing_heavy(root: Path) -> None:
    code = "import sys, agent.doctor; print([m for m in ('torch', 'av', 'ai_edge_litert') if m in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"


def test_a_probe_that_dies_does_not_take_the_doctor_with_it() -> None:
    assert doctor._in_subprocess("import os, signal; os.kill(os.getpid(), signal.SIGILL)")[0] == -4
    assert doctor._in_subprocess("print('a'); print('b')") == (0, "b")
    status, line = doctor._in_subprocess("import no_such_module_at_all")
    assert status == 1 and "no_such_module_at_all" in line


def test_a_probe_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "PROBE_TIMEOUT_S", 0.2)
    status, line = doctor._in_subprocess("import time; time.sleep(60)")
    assert status == 124 and "no end within" in line


def test_a_configuration_is_tried_too(tmp_path: Path, world: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        config = Config(
            device=Device(state_dir=str(tmp_path / "not" / "yet")),
            source=Source(folder=str(tmp_path)),
            model=Model(bundle=str(world.student), trusted_keys=(world.public,)),
            mqtt=Mqtt(host="127.0.0.1", port=server.getsockname()[1]),
        )
        found = {finding["what"]: finding for finding in doctor._of_config(config)}
    assert {name: finding["state"] for name, finding in found.items()} == dict.fromkeys(
        ("broker", "source", "bundle"), "works"
    )
    assert "amber" in found["bundle"]["detail"]


def test_a_configuration_that_cannot_work_says_what_to_do(tmp_path: Path, world: World, free_port: int) -> None:
    config = Config(
        source=Source(folder=str(tmp_path / "none")),
        model=Model(bundle=str(world.student), trusted_keys=("00" * 32,)),
        mqtt=Mqtt(host="127.0.0.1", port=free_port),
    )
    found = {finding["what"]: finding for finding in doctor._of_config(config)}
    assert {name: finding["state"] for name, finding in found.items()} == {
        "broker": "limited",
        "source": "limited",
        "bundle": "fails",
    }
    assert "model.trusted_keys" in found["bundle"]["advice"] and "mqtt.port" in found["broker"]["advice"]


def test_the_disk_is_tried_where_the_state_will_be(tmp_path: Path) -> None:
    assert str(tmp_path) in doctor._disk(tmp_path / "a" / "b")["detail"]
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    assert doctor._disk(tmp_path / "file")["state"] == "fails"


def test_findings_in_lines() -> None:
    findings = [
        Finding(what="broker", state="limited", detail="refused", advice="check mqtt.host"),
        Finding(what="disk", state="works", detail="1.0 ms", advice=""),
    ]
    assert render(findings, colour=False).splitlines() == [
        "limited  broker             refused",
        " " * 28 + "-> check mqtt.host",
        "works    disk               1.0 ms",
    ]
    assert "\033[33mlimited" in render(findings, colour=True)
