"""The whole examination, without and with a configuration."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tiny_world import World

from agent.config import Config, Device, Model, Mqtt, Source
from agent.doctor.examination import examine

ALWAYS = ["device", "Python", "clock", "memory", "sensors", "cgroups", "disk", "inotify", "TFLite", "torch"]


@pytest.mark.spec("12.2")
def test_every_need_of_the_daemon_is_tried_and_what_fails_has_its_advice() -> None:
    tried: list[str] = []
    findings = examine(None, trying=tried.append)
    assert [finding["what"] for finding in findings] == [*ALWAYS, "camera"]
    assert tried == ["sensors", *ALWAYS, "camera"]
    assert all((finding["state"] == "works") == (finding["advice"] == "") for finding in findings)
    found = {finding["what"]: finding["state"] for finding in findings}
    # The interpreter that all other tests use; anything else may be missing on a developer's machine.
    assert found["Python"] == found["TFLite"] == found["device"] == "works" and found["disk"] != "fails"


@pytest.mark.spec("12.2")
def test_a_configuration_is_tried_too(tmp_path: Path, world: World, free_port: int) -> None:
    config = Config(
        device=Device(state_dir=str(tmp_path / "not" / "yet")),
        source=Source(folder=str(tmp_path)),
        model=Model(bundle=str(world.student), trusted_keys=(world.public,)),
        mqtt=Mqtt(host="127.0.0.1", port=free_port),
    )
    found = {finding["what"]: finding for finding in examine(config, profile="generic-x86")}
    assert list(found) == [*ALWAYS, "budget", "source", "bundle", "broker"]
    assert found["source"]["state"] == found["bundle"]["state"] == "works"
    assert found["broker"]["state"] == "limited" and str(free_port) in found["broker"]["advice"]
    assert found["disk"]["detail"].startswith(str(tmp_path))


def test_the_doctor_itself_loads_nothing_that_may_kill_it(root: Path) -> None:
    code = "import sys, agent.doctor.command; print([m for m in ('torch', 'av', 'numpy', 'paho') if m in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"
