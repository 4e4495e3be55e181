"""Each step does what it says, and nothing is overwritten unasked."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.install.steps import Folder, InstallError, Remove, Run, Write, carry_out, describe, refuse_to_overwrite

pytestmark = pytest.mark.spec("17.3")


def test_what_is_described_is_what_is_done(tmp_path: Path) -> None:
    path = tmp_path / "a" / "unit"
    step = Write(path, "new", 0o755)
    assert describe(step) == f"write {path}"
    assert carry_out(step) == "" and path.read_text() == "new" and path.stat().st_mode & 0o111
    assert describe(step) == f"keep {path}: it is the same"
    assert describe(Folder(path.parent)).startswith("keep")
    carry_out(Folder(tmp_path / "b" / "c"))
    assert (tmp_path / "b" / "c").is_dir()
    assert describe(Remove(path)) == f"remove {path}"
    carry_out(Remove(path.parent))
    assert not path.parent.exists()
    carry_out(Remove(path))
    assert describe(Remove(path)) == f"nothing to remove at {path}"


def test_another_file_is_refused_and_with_force_kept_aside(tmp_path: Path) -> None:
    path = tmp_path / "unit"
    path.write_text("somebody's")
    step = Write(path, "ours")
    with pytest.raises(InstallError, match="--force") as refused:
        refuse_to_overwrite([step])
    assert str(path) in str(refused.value) and path.read_text() == "somebody's"
    for number, content in enumerate(("ours", "later", "still later")):
        old = path.read_text()
        carry_out(Write(path, content))
        assert path.read_text() == content
        assert (tmp_path / ("unit.bak" if not number else f"unit.bak{number + 1}")).read_text() == old


def test_a_masked_unit_is_somebodys_decision(tmp_path: Path) -> None:
    (tmp_path / "unit").symlink_to("/dev/null")
    with pytest.raises(InstallError):
        refuse_to_overwrite([Write(tmp_path / "unit", "")])


def test_a_configuration_is_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "agent.yaml"
    path.write_text("mine")
    step = Write(path, "ours", kept=True)
    refuse_to_overwrite([step])
    assert "it is yours" in describe(step)
    carry_out(step)
    assert path.read_text() == "mine" and list(tmp_path.iterdir()) == [path]


def test_a_command_that_fails_ends_it_unless_it_is_optional() -> None:
    with pytest.raises(InstallError, match=r"`false` failed \(1\).*\n  see the log"):
        carry_out(Run(("false",), advice="see the log"))
    assert "failed (1)" in carry_out(Run(("false",), optional=True))
    assert "No such file" in carry_out(Run(("no-such-command",), optional=True))
    assert "did not end within 0.2 s" in carry_out(Run(("sleep", "9"), optional=True, timeout_s=0.2))
    assert carry_out(Run(("true",))) == ""


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InstallError, match="file"):
        carry_out(Write(tmp_path / "file" / "unit", ""))
