"""The device's command line: through main() where that is the whole of it, as a process where that matters."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_world import World

from agent import config_file as config_module
from agent.__main__ import main
from agent.adapters.control import Control
from agent.adapters.model_store import ModelStore
from agent.adapters.state_file import StateFile
from agent.core.state import Models, Phase, Round, State, Wish
from agent.home import Home

KEY = "ab" * 32


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A good configuration whose state folder does not exist yet."""
    (tmp_path / "in").mkdir()
    path = tmp_path / "agent.yaml"
    sections = {
        "device": {"name": "cam", "state_dir": str(tmp_path / "state")},
        "source": {"folder": str(tmp_path / "in")},
    }
    path.write_text(yaml.safe_dump(sections))
    return path


@pytest.fixture
def state(tmp_path: Path) -> Path:
    (tmp_path / "state").mkdir()
    return tmp_path / "state"


def two_generations(state: Path, world: World) -> ModelStore:
    store = ModelStore(state)
    for _ in range(2):
        store.promote(store.import_bundle(world.student, [world.public]))
    return store


@contextlib.contextmanager
def daemon(state: Path, **answers: Any) -> Iterator[list[dict[str, Any]]]:
    """Something that answers at the control socket, as a daemon would; yields what it was asked."""
    asked: list[dict[str, Any]] = []

    def answer(request: dict[str, Any]) -> dict[str, Any]:
        asked.append(request)
        return dict(answers[request["do"]])

    control = Control(Home(state).control, answer)
    try:
        yield asked
    finally:
        control.close()


def run(root: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "agent", *arguments]
    return subprocess.run(
        command, cwd=root, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )


# ------------------------------------------------------------------------------------------------ help


def test_without_a_command_there_is_help_and_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "check-config" in capsys.readouterr().out


def test_help_teaches_by_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    text = capsys.readouterr().out
    assert ended.value.code == 0
    for part in ("examples:", "understudy agent run --config", "--set source.folder=", "rollback", "doctor"):
        assert part in text


@pytest.mark.parametrize(
    "command", ["run", "status", "check-config", "show-config", "doctor", "install", "rollback", "cancel"]
)
def test_every_command_says_what_it_does_and_takes(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    text = capsys.readouterr().out
    assert ended.value.code == 0
    assert "SECTION.KEY=VALUE" in text and "--json" in text and "UNDERSTUDY__SECTION__KEY" in text


def test_an_unknown_command_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["rn"])
    assert ended.value.code == 2 and "rn" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------ configuration


def test_a_good_configuration_is_good(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-config", "--config", str(config)]) == 0
    assert capsys.readouterr().out == "the configuration is good\n"
    assert main(["check-config", "--config", str(config), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"ok": True, "faults": []}


def test_faults_go_to_standard_error_or_into_the_json(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["check-config", "--config", str(config), "--set", "source.foldr=x", "--set", "log.level=loud"]
    assert main(arguments) == 2
    told = capsys.readouterr()
    assert told.out == "" and "did you mean 'folder'?" in told.err and "log.level" in told.err
    assert main([*arguments, "--json"]) == 2
    told = capsys.readouterr()
    assert told.err == "" and len(json.loads(told.out)["faults"]) == 2


def test_a_set_without_a_value_is_refused(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show-config", "--config", str(config), "--set", "source.folder"]) == 2
    assert "expected SECTION.KEY=VALUE" in capsys.readouterr().err


def test_show_config_shows_what_would_be_used(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNDERSTUDY__MODEL__THREADS", "3")
    monkeypatch.setenv("UNDERSTUDY__TRAINING__EPOCHS", "4")
    arguments = [
        "show-config",
        "--config",
        str(config),
        "--set",
        f"model.trusted_keys={KEY}",
        "--set",
        "training.epochs=5",
    ]
    assert main([*arguments, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["model"]["threads"], document["training"]["epochs"]) == (3, 5)
    assert document["model"]["trusted_keys"] == [KEY]


@pytest.mark.parametrize("explain", [[], ["--explain"]])
def test_show_config_is_a_configuration_again(
    config: Path, tmp_path: Path, explain: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--config", str(config), "--set", f"model.trusted_keys={KEY}", "--set", "device.fleet=a.b"]
    assert main(["show-config", *arguments, *explain]) == 0
    text = capsys.readouterr().out
    assert ("# where images come from" in text) == bool(explain)
    copy = tmp_path / "copy.yaml"
    copy.write_text(text)
    assert config_module.load(copy).model.trusted_keys == (KEY,)
    assert main(["show-config", "--config", str(copy), *explain]) == 0
    assert capsys.readouterr().out == text


# ------------------------------------------------------------------------------------------------ status


def test_the_status_of_a_stopped_daemon(config: Path, state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--config", str(config)]) == 3
    assert "cam  not running" in capsys.readouterr().out
    assert main(["status", "--config", str(config), "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["online"] is False
    assert list(state.iterdir()) == []


def test_the_status_of_a_running_daemon(config: Path, state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = {"device": "cam", "online": True, "phase": "idle", "labels": ["a"], "generation": 4, "privacy": "local"}
    with daemon(state, status=said) as asked:
        assert main(["status", "--config", str(config), "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == said
        assert main(["status", "--config", str(config)]) == 0
    assert "cam  running" in capsys.readouterr().out
    assert asked == [{"do": "status"}] * 2


def test_a_daemon_that_cannot_say_is_an_error(config: Path, state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with daemon(state, status={"error": "RuntimeError: no"}):
        assert main(["status", "--config", str(config)]) == 1
    told = capsys.readouterr()
    assert told.out == "" and told.err == "understudy agent: RuntimeError: no\n"


@pytest.mark.parametrize("command", ["status", "rollback", "cancel"])
def test_another_users_state_folder_is_named(
    command: str, config: Path, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    user = os.geteuid()
    state.chmod(0)
    try:
        if user == 0:
            os.seteuid(65_534)  # to root nothing is denied
        code = main([command, "--config", str(config)])
    except PermissionError:
        pytest.skip("the folder above cannot be entered by another user either")
    finally:
        os.seteuid(user)
        state.chmod(0o750)
    told = capsys.readouterr()
    assert code in (1, 2) and told.out == "" and "ermission denied" in told.err and "Traceback" not in told.err


# ------------------------------------------------------------------------------------------------ rollback, cancel


@pytest.mark.spec("14.1")
def test_rollback_without_a_daemon_goes_back(
    config: Path, state: Path, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    store = two_generations(state, world)
    assert main(["rollback", "--config", str(config)]) == 0
    assert capsys.readouterr().out == "generation 1 is active\n"
    active = store.active()
    assert active is not None and active[0] == 1


@pytest.mark.parametrize("json_wanted", [False, True])
def test_rollback_with_nothing_to_go_back_to(
    json_wanted: bool, config: Path, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["rollback", "--config", str(config), *(["--json"] if json_wanted else [])]) == 1
    told = capsys.readouterr()
    assert "no previous generation" in (json.loads(told.out)["error"] if json_wanted else told.err)


def test_rollback_in_a_folder_that_is_not_there_makes_none(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rollback", "--config", str(config)]) == 1
    assert "there is no such state folder" in capsys.readouterr().err
    assert not (config.parent / "state").exists()


def test_rollback_beneath_a_daemon_that_does_not_answer_is_refused(
    config: Path, state: Path, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    store = two_generations(state, world)
    Home(state).take()
    assert main(["rollback", "--config", str(config)]) == 1
    assert "another daemon is using this state folder" in capsys.readouterr().err
    active = store.active()
    assert active is not None and active[0] == 2


def test_rollback_is_ordered_from_a_running_daemon(
    config: Path, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with daemon(state, rollback={"accepted": "rollback", "generation": 2, "previous": 1}):
        assert main(["rollback", "--config", str(config)]) == 0
    assert capsys.readouterr().out == "rollback: ordered\n"
    with daemon(state, rollback={"accepted": "rollback", "generation": 1, "previous": None}):
        assert main(["rollback", "--config", str(config)]) == 1
    assert "no previous generation" in capsys.readouterr().err


@pytest.mark.spec("14.1")
def test_cancel_without_a_daemon_is_written_down(config: Path, state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wish = Wish("t1", ("lime",), 30)
    under_way = State(models=Models(1), phase=Phase.TRAINING, round=Round("job-000001", wish, "head", False))
    StateFile(Home(state).state).save(under_way)
    assert main(["cancel", "--config", str(config)]) == 0
    assert "cancel: written down" in capsys.readouterr().out
    left = StateFile(Home(state).state).load()
    assert left is not None and left.phase is Phase.IDLE and left.last_ending is not None
    assert left.last_ending.report.state == "CANCELED" and left.last_ending.report.trigger_id == "t1"
    assert main(["cancel", "--config", str(config)]) == 1
    assert "no learning round is under way" in capsys.readouterr().err


def test_cancel_is_ordered_from_a_running_daemon(config: Path, state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with daemon(state, cancel={"accepted": "cancel", "generation": 1, "previous": None}):
        assert main(["cancel", "--config", str(config)]) == 0
    assert capsys.readouterr().out == "cancel: ordered\n"


# ------------------------------------------------------------------------------------------------ run, doctor


def test_run_says_in_a_line_why_it_cannot(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--config", str(config)]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == "understudy agent: there is no model yet: name one with model.bundle"


@pytest.mark.spec("12.2")
def test_doctor_fails_where_something_fails(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["doctor", "--config", str(config), "--set", f"model.bundle={config.parent}"]
    assert main([*arguments, "--json"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert said["ok"] is False and set(said["device"]) == {"name", "profile", "why"}
    found = {finding["what"]: finding for finding in said["findings"]}
    assert found["bundle"]["state"] == "fails" and found["bundle"]["advice"]
    assert said["device"]["profile"] in found["device"]["detail"]


# ------------------------------------------------------------------------------------------------ as a process


def test_as_a_process_errors_are_one_line_and_a_code(root: Path, config: Path) -> None:
    ended = run(root, "run", "--config", str(config), UNDERSTUDY__PRIVACY__MODE="upload")
    assert ended.returncode == 2 and ended.stdout == ""
    assert [line.split(": ")[1] for line in ended.stderr.splitlines()] == ["privacy.consent_to_upload", "mqtt.host"]


def test_as_a_process_the_answers_are_for_programs(root: Path, config: Path) -> None:
    ended = run(root, "status", "--config", str(config), "--json")
    assert ended.returncode == 3 and ended.stderr == "" and json.loads(ended.stdout)["device"] == "cam"


def test_the_door_is_served_by_one_thread_only() -> None:
    assert not [thread for thread in threading.enumerate() if thread.name == "control"]


def test_the_daemon_keeps_algebra_to_one_thread_unless_told_otherwise(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for set_before in ("", "3"):
        monkeypatch.setenv("OPENBLAS_NUM_THREADS", set_before)
        if not set_before:
            monkeypatch.delenv("OPENBLAS_NUM_THREADS")
        state = config.parent / f"state{set_before}"
        assert main(["run", "--config", str(config), "--set", f"device.state_dir={state}"]) == 1
        assert "there is no model yet" in capsys.readouterr().err
        assert os.environ["OPENBLAS_NUM_THREADS"] == (set_before or "1")
