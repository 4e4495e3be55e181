"""The pages are true where a program can tell: the reference is up to date, links lead somewhere, examples load."""

from __future__ import annotations

import ast
import dataclasses
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from agent.config import Config
from agent.config_file import load
from docs import make_configuration

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
PAGES = [README, ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
SUFFIXES = ("py", "db", "json", "jsonl", "key")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def blocks(page: Path, language: str) -> list[str]:
    """The contents of the fenced blocks of one language ("" = none named)."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return [content for named, content in fenced if named == language]


def test_the_reference_is_up_to_date() -> None:
    assert make_configuration.TARGET.read_text(encoding="utf-8") == make_configuration.render(), "run `make docs`"


def test_the_reference_names_every_key() -> None:
    rendered = make_configuration.render()
    for section in dataclasses.fields(Config):
        part = rendered.split(f"\n## {section.name}\n")[1].split("\n## ")[0]
        for field in dataclasses.fields(section.default_factory):  # type: ignore[arg-type]
            assert f"| `{field.name}` |" in part, f"{section.name}.{field.name}"


@pytest.mark.parametrize(("text", "status"), [("stale\n", 1), (None, 1), ("fresh", 0)])
def test_check_says_whether_it_is_stale(
    text: str | None, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "configuration.md"
    if text is not None:
        target.write_text(make_configuration.render() if text == "fresh" else text, encoding="utf-8")
    monkeypatch.setattr(make_configuration, "TARGET", target)
    assert make_configuration.main(["--check"]) == status
    said = capsys.readouterr()
    assert said.out == ""
    assert ("run `make docs`" in said.err) == (status == 1)


def test_without_check_it_prints_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    assert make_configuration.main([]) == 0
    assert capsys.readouterr().out == make_configuration.render()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        if "://" not in target and not target.startswith("#"):
            assert (page.parent / target.partition("#")[0]).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_path_in_code_marks_exists(page: Path) -> None:
    """`adapters/x.py` and the like are below agent/; what else has a slash and .py is below the root."""
    for name in re.findall(r"`([a-z_]+/[a-z_/]+\.py)`", page.read_text(encoding="utf-8")):
        assert (ROOT / name).exists() or (ROOT / "agent" / name).exists(), f"{page.name}: {name}"


def test_what_the_overview_names_exists() -> None:
    """`Class.method` must be a method of that class; a page that names functions is worth less than none when wrong."""
    members: dict[str, set[str]] = {}
    for path in (*ROOT.glob("agent/**/*.py"), *ROOT.glob("cloud_teacher/*.py"), *ROOT.glob("transfer/*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            owner = node.name if isinstance(node, ast.ClassDef) else path.stem if isinstance(node, ast.Module) else None
            if owner is not None:
                names = {child.name for child in ast.iter_child_nodes(node) if hasattr(child, "name")}
                members.setdefault(owner, set()).update(names)
    named = re.findall(r"`(\w+)\.(\w+)`", (ROOT / "docs" / "overview.md").read_text(encoding="utf-8"))
    code = [(owner, name) for owner, name in named if owner in members and name not in SUFFIXES]
    assert len(code) > 25
    for owner, name in code:
        assert name in members[owner], f"{owner}.{name}"
    classes = {owner for owner, name in named if owner[0].isupper()}
    assert classes <= set(members), classes - set(members)


def test_the_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) < 150


def test_the_readmes_configuration_loads(tmp_path: Path) -> None:
    (example,) = blocks(README, "yaml")
    path = tmp_path / "agent.yaml"
    path.write_text(example, encoding="utf-8")
    config = load(path)
    assert config.privacy.mode == "teacher_download" and config.mqtt.host == "broker.lan"


def test_the_readmes_commands_know_their_flags() -> None:
    """One `--help` for each command that the README shows, and every flag it is shown with is in it."""
    shown: dict[tuple[str, ...], set[str]] = {}
    for line in "".join(blocks(README, "")).splitlines():
        if line.startswith("understudy "):
            words = shlex.split(line, comments=True)
            command = tuple(words[1:3])
            shown.setdefault(command, set()).update(word for word in words if word.startswith("--"))
    assert len(shown) >= 8
    for command, flags in shown.items():
        asked = subprocess.run(
            [sys.executable, "-m", "understudy", *command, "--help"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        assert flags <= set(re.findall(r"--[a-z-]+", asked.stdout)), f"{' '.join(command)}: {flags}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_page_names_a_path_of_somebodys_machine(page: Path) -> None:
    assert not re.search(r"/(?:work|tmp)/|/home/[a-z]", page.read_text(encoding="utf-8"))


def test_each_decision_is_one_page_with_its_three_parts_and_is_listed() -> None:
    index = (ROOT / "docs" / "adr" / "README.md").read_text(encoding="utf-8")
    decisions = sorted((ROOT / "docs" / "adr").glob("0*.md"))
    assert [path.name[:4] for path in decisions] == [f"{number:04}" for number in range(1, len(decisions) + 1)]
    for path in decisions:
        text = path.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= 40
        assert all(f"\n## {part}\n" in text for part in ("Context", "Decision", "Consequences")), path.name
        assert f"({path.name})" in index
