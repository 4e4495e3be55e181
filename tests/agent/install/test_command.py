"""The command as a person types it, in a root of its own; and that nothing is overwritten unasked."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from agent.__main__ import main
from agent.config_file import chosen_profile, load
from agent.install import systemd
from agent.install.command import Wish, plan
from agent.install.steps import InstallError, Write

pytestmark = pytest.mark.spec("17.3")

KEY = "ab" * 32


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An image of a Raspberry Pi, mounted somewhere."""
    tree = tmp_path / "image"
    (tree / "proc/device-tree").mkdir(parents=True)
    (tree / "proc/device-tree/model").write_bytes(b"Raspberry Pi 5 Model B Rev 1.0\0")
    (tree / "proc/device-tree/compatible").write_bytes(b"raspberrypi,5-model-b\0brcm,bcm2712\0")
    return tree


@pytest.fixture
def systemctl() -> None:
    if shutil.which("systemctl") is None:
        pytest.skip("systemctl is not installed: apt install systemd")


@pytest.fixture(autouse=True)
def same_umask() -> object:
    umask = os.umask(0o022)
    yield
    os.umask(umask)


def files(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): path.read_text()
        for path in root.rglob("*")
        if path.is_file() and "proc" not in path.parts
    }


@pytest.mark.usefixtures("systemctl")
def test_into_an_image_with_systemd(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["install", "--systemd", "--root", str(root)]
    assert main(arguments) == 0
    told = capsys.readouterr().out
    assert "Raspberry Pi 5 Model B Rev 1.0" in told and "systemctl start understudy-agent" in told
    config = root / "etc/understudy/agent.yaml"
    assert chosen_profile(config) == "raspberry-pi-5"
    assert load(config).source.folder == "/srv/understudy/images"
    assert (root / "srv/understudy/images").is_dir()
    enabled = root / "etc/systemd/system/multi-user.target.wants" / systemd.UNIT
    assert enabled.is_symlink() and "agent.yaml" in (root / "etc/systemd/system" / systemd.UNIT).read_text()

    assert main(arguments) == 0, "a second time changes nothing"
    assert not list(root.rglob("*.bak"))
    config.write_text("profile: generic-arm64\nsource: {folder: /srv/mine}\n")
    assert main([*arguments, "--force", "--profile", "raspberry-pi-4"]) == 0
    assert "mine" in config.read_text() and "have no effect" in capsys.readouterr().out

    assert main([*arguments, "--uninstall"]) == 0
    assert "kept: /etc/understudy/agent.yaml" in capsys.readouterr().out
    assert not enabled.is_symlink() and list(files(root)) == ["etc/understudy/agent.yaml"]


@pytest.mark.usefixtures("systemctl")
def test_another_unit_of_that_name_is_refused_and_with_force_kept(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unit = root / "etc/systemd/system" / systemd.UNIT
    unit.parent.mkdir(parents=True)
    unit.write_text("mine")
    before = files(root)
    arguments = ["install", "--systemd", "--root", str(root)]
    assert main(arguments) == 1
    told = capsys.readouterr()
    assert str(unit) in told.err and "--force" in told.err and files(root) == before
    assert main([*arguments, "--force"]) == 0
    assert unit.with_name(unit.name + ".bak").read_text() == "mine" and "ExecStart" in unit.read_text()


@pytest.mark.parametrize("kind", ["--systemd", "--termux"])
def test_a_dry_run_says_everything_and_does_nothing(kind: str, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = files(root)
    assert main(["install", kind, "--dry-run", "--root", str(root)]) == 0
    told = capsys.readouterr().out
    assert told.count("would ") >= 3 and "agent.yaml" in told and files(root) == before
    assert main(["install", kind, "--dry-run", "--root", str(root), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["ok"] and said["dry_run"] and any("write" in step for step in said["steps"])


def test_into_a_fake_phone(root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PREFIX", "/data/data/com.termux/files/usr")
    monkeypatch.setenv("HOME", "/data/data/com.termux/files/home")
    assert main(["install", "--termux", "--root", str(root)]) == 0
    told = capsys.readouterr().out
    assert "pkg install termux-services" in told and "sv-enable understudy-agent" in told
    config = root / "data/data/com.termux/files/home/.config/understudy/agent.yaml"
    assert chosen_profile(config) == "pixel2-termux"
    assert load(config).device.state_dir == "/data/data/com.termux/files/home/.local/share/understudy"
    service = root / "data/data/com.termux/files/usr/var/service/understudy-agent"
    assert (service / "down").exists() and str(config.relative_to(root)) in (service / "run").read_text()
    assert main(["install", "--termux", "--root", str(root), "--uninstall"]) == 0
    assert list(files(root)) == [str(config.relative_to(root))]


def test_a_complete_configuration_is_started_and_an_incomplete_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    wish = Wish("systemd", user=True, dry_run=True, settings={"model.bundle": str(tmp_path), "model.trusted_keys": KEY})
    steps, remarks = plan(wish)
    assert any("--now" in str(step) for step in steps) and "to see it" in remarks[-1]
    steps, remarks = plan(Wish("systemd", user=True, dry_run=True))
    assert not any("--now" in str(step) for step in steps) and "not started yet" in remarks[-1]
    config = tmp_path / ".config/understudy/agent.yaml"
    config.parent.mkdir(parents=True)
    config.write_text("source: {foldr: /x}\n")
    steps, remarks = plan(wish)
    assert not any("--now" in str(step) for step in steps)
    assert any("did you mean 'folder'" in remark for remark in remarks)
    assert not any(isinstance(step, Write) and step.path == config for step in steps)


@pytest.mark.parametrize(
    ("wish", "why"),
    [
        (Wish("termux", user=True), "--user is for systemd"),
        (Wish("systemd", root=Path("/no/such/root")), "no such folder"),
        (Wish("systemd", dry_run=True, config=Path("/home/me/agent.yaml")), "lies in a home folder"),
    ],
)
def test_what_cannot_be_is_refused_with_its_reason(wish: Wish, why: str) -> None:
    with pytest.raises(InstallError, match=why):
        plan(wish)


def test_a_machine_without_systemd_or_root_is_told_so(capsys: pytest.CaptureFixture[str]) -> None:
    if Path("/run/systemd/system").is_dir() and os.geteuid() == 0:
        pytest.skip("this machine could really be installed on; run as another user")
    assert main(["install", "--systemd", "--json"]) == 1
    error = json.loads(capsys.readouterr().out)["error"]
    assert "systemd does not run" in error or "needs root" in error


def test_one_of_the_two_has_to_be_chosen(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["install"])
    assert ended.value.code == 2 and "--systemd" in capsys.readouterr().err


def test_faults_are_said_before_anything_is_written(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["install", "--systemd", "--root", str(root), "--set", "mqtt.port=0"]) == 2
    assert "mqtt.port" in capsys.readouterr().err and not files(root)


def test_it_imports_nothing_heavy() -> None:
    code = "import sys, agent.install.command; print([m for m in ('torch', 'numpy', 'paho') if m in sys.modules])"
    here = Path(__file__).resolve().parents[3]
    ran = subprocess.run([sys.executable, "-c", code], cwd=here, capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"
