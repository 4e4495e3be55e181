"""The configuration: typos are named, all faults at once, and the four layers in their order."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from agent import config_file as module
from agent.config import Config, ConfigError, Source, as_document
from agent.config_file import load

KEY = "ab" * 32


def written(folder: Path, text: str) -> Path:
    path = folder / "agent.yaml"
    path.write_text(text)
    return path


def loaded(folder: Path, text: str = "source: {folder: /in}", **layers: Mapping[str, str]) -> Config:
    return load(written(folder, text), **layers)


def faults(folder: Path, text: str, **layers: Mapping[str, str]) -> list[str]:
    """Each fault, without the file's name in front."""
    with pytest.raises(ConfigError) as raised:
        loaded(folder, text, **layers)
    lines = str(raised.value).splitlines()
    assert all(line.startswith(f"{folder / 'agent.yaml'}: ") for line in lines)
    return [line.removeprefix(f"{folder / 'agent.yaml'}: ") for line in lines]


@pytest.fixture
def profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A profile `tiny`, in a folder that is the only one searched."""
    folder = tmp_path / "profiles"
    folder.mkdir()
    monkeypatch.setattr(module, "PROFILES", folder)
    (folder / "tiny.yaml").write_text(
        "about: a test\nmodel: {threads: 3}\nbudget: {margin: 0.2}\ntraining: {epochs: 4}"
    )
    return folder


# ------------------------------------------------------------------------------------------------ layers


def test_the_defaults_need_only_a_folder(tmp_path: Path) -> None:
    config = loaded(tmp_path)
    assert config.source.folder == "/in"
    assert config == Config(source=Source(folder="/in"))


def test_precedence_is_profile_then_file_then_environment_then_flag(tmp_path: Path, profile: Path) -> None:
    text = "profile: tiny\nsource: {folder: /in}\nmodel: {threads: 4}"
    variable = {"UNDERSTUDY__MODEL__THREADS": "5"}
    assert loaded(tmp_path, "profile: tiny\nsource: {folder: /in}").model.threads == 3
    assert loaded(tmp_path, text).model.threads == 4
    assert loaded(tmp_path, text, environment=variable).model.threads == 5
    assert loaded(tmp_path, text, environment=variable, flags={"model.threads": "6"}).model.threads == 6


def test_layers_meet_key_by_key(tmp_path: Path, profile: Path) -> None:
    config = loaded(
        tmp_path,
        "profile: tiny\nsource: {folder: /in}\nbudget: {sample_s: 2}",
        environment={"UNDERSTUDY__BUDGET__MIN_AVAILABLE_MIB": "50"},
    )
    assert (config.budget.margin, config.budget.sample_s, config.budget.min_available_mib) == (0.2, 2.0, 50.0)
    assert config.training.epochs == 4


@pytest.mark.parametrize("layer", ["environment", "flags"])
def test_the_profile_may_come_from_any_layer_above_it(tmp_path: Path, profile: Path, layer: str) -> None:
    name = {"environment": "UNDERSTUDY__PROFILE", "flags": "profile"}[layer]
    (profile / "other.yaml").write_text("model: {threads: 9}")
    config = loaded(tmp_path, "profile: tiny\nsource: {folder: /in}", **{layer: {name: "other"}})
    assert config.model.threads == 9


def test_without_a_file_there_are_environment_and_flags() -> None:
    config = load(None, environment={"UNDERSTUDY__SOURCE__FOLDER": "/a", "PATH": "/bin"}, flags={"log.level": "debug"})
    assert (config.source.folder, config.log.level) == ("/a", "debug")


def test_texts_from_outside_become_what_the_key_is(tmp_path: Path) -> None:
    config = loaded(
        tmp_path,
        flags={
            "mqtt.port": "8883",
            "mqtt.tls": "true",
            "source.fps": "2.5",
            "model.trusted_keys": f"{KEY}, {'cd' * 32}",
        },
    )
    assert (config.mqtt.port, config.mqtt.tls, config.source.fps) == (8883, True, 2.5)
    assert config.model.trusted_keys == (KEY, "cd" * 32)


# ------------------------------------------------------------------------------------------------ faults


def test_a_mistyped_key_is_named_with_its_nearest_neighbour(tmp_path: Path) -> None:
    assert faults(tmp_path, "source: {foldr: /in}") == [
        "source.foldr: unknown key (file); did you mean 'folder'?",
    ]


def test_a_mistyped_section_profile_variable_and_flag_are_too(tmp_path: Path, profile: Path) -> None:
    assert faults(tmp_path, "sorce: {folder: /in}") == ["sorce: unknown section (file); did you mean 'source'?"]
    (found,) = faults(tmp_path, "", environment={"UNDERSTUDY__MQTT__HOTS": "b"})
    assert found == "mqtt.hots: unknown key (environment or flag); did you mean 'host'?"
    (found,) = faults(tmp_path, "", flags={"log.lvl": "info"})
    assert "log.lvl" in found and "'level'" in found
    with pytest.raises(ConfigError, match=r"no 'tinny'; did you mean 'tiny'\?"):
        loaded(tmp_path, "profile: tinny")


def test_what_has_no_neighbour_is_answered_with_all_that_are_known(tmp_path: Path) -> None:
    (found,) = faults(tmp_path, "log: {zzzzzz: 1}")
    assert found.endswith("known are level, format, predictions_mib, metrics_port, metrics_file")


def test_all_faults_are_listed_at_once(tmp_path: Path) -> None:
    text = """
sorce: {}
source: {foldr: /in, fps: fast}
model: {threads: 0}
mqtt: {port: 70000, operator_keys: [xyz]}
device: {name: "a/b"}
log: [1]
"""
    found = faults(tmp_path, text)
    starts = ["sorce:", "source.foldr:", "log:", "source.fps:", "model.threads:", "mqtt.port:", "device.name:"]
    assert [line.split(" ")[0] for line in found] == [*starts, "mqtt.operator_keys:"]


def test_a_contradiction_does_not_repeat_what_a_typo_caused(tmp_path: Path) -> None:
    assert len(faults(tmp_path, "source: {foldr: /in}")) == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("privacy: {mode: upload}\nmqtt: {host: b, operator_keys: [KEY]}", "privacy.consent_to_upload: mode upload"),
        ("privacy: {mode: local, share_predictions: true}", "privacy.share_predictions: a label is made from"),
        ("privacy: {mode: teacher_download}", "mqtt.host: privacy.mode teacher_download needs a broker"),
        ("privacy: {mode: upload, consent_to_upload: true}", "mqtt.host: privacy.mode upload needs a broker"),
        ("mqtt: {host: b}", "mqtt.operator_keys: whose triggers"),
        ("source: {kind: camera}", "source.camera: needed"),
        ("source: {folder: ''}", "source.folder: needed"),
        ("novelty: {false_alarm_rate: 0.1, buffer_share: 0.05}", "novelty.buffer_share: must not be below"),
        ("probation: {frames: 10, min_frames: 11}", "probation.min_frames: 11 is never reached"),
    ],
)
def test_contradictions_are_refused(tmp_path: Path, text: str, says: str) -> None:
    base = "" if text.startswith("source") else "source: {folder: /in}\n"
    (found,) = faults(tmp_path, base + text.replace("KEY", KEY))
    assert found.startswith(says)


def test_uploading_is_possible_with_consent(tmp_path: Path) -> None:
    config = loaded(
        tmp_path,
        f"source: {{folder: /in}}\nprivacy: {{mode: upload, consent_to_upload: true, share_predictions: true}}\n"
        f"mqtt: {{host: b, operator_keys: [{KEY}]}}",
    )
    assert config.privacy.mode == "upload"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: [", "not YAML"),
        ("when: 2020-13-45", "not YAML: month"),
        ("a: " + "9" * 5000, "not YAML: Exceeds"),
        ("- a\n- b", "expected sections such as `source:`, found list"),
        ("source: 3", "source: expected keys, found 3"),
        ("1: {}", "1: unknown section"),
        ("source: {fps: .nan}", "source.fps: must be between"),
        ("source: {folder: }", "source.folder: Expected `str`, got `null`"),
        ("privacy: {mode: remote}", "privacy.mode: Invalid enum value 'remote'"),
        ("device: {name: " + "n" * 65 + "}", "device.name: letters"),
    ],
)
def test_other_nonsense_is_refused_with_its_place(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=r"agent\.yaml: ") as raised:
        loaded(tmp_path, text)
    assert says in str(raised.value)


def test_files_that_cannot_be_read_say_which(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: No such file"):
        load(tmp_path / "none.yaml")
    path = written(tmp_path, "")
    path.write_bytes(b"device: {name: \xff}")
    with pytest.raises(ConfigError, match="not text in UTF-8"):
        load(path)
    path.write_bytes(b"#" * (module.MAX_CONFIG_BYTES + 1))
    with pytest.raises(ConfigError, match="is this the right file"):
        load(path)


def test_a_value_that_aliases_make_immense_is_refused_in_a_short_line(tmp_path: Path) -> None:
    lines = ["l0: &l0 [x, x, x, x, x, x, x, x]"]
    lines += [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 8)}]" for n in range(1, 30)]
    lines += ["source: *l29", "log: {level: *l29}"]
    found = faults(tmp_path, "\n".join(lines))
    assert all(len(line) < 400 for line in found)
    assert any(line.startswith("log.level") for line in found)


def test_a_section_set_like_a_key_is_a_fault_and_no_crash() -> None:
    for flags in ({"source": "x", "source.folder": "/in"}, {"source.folder": "/in", "source": "x"}):
        with pytest.raises(ConfigError, match=r"source: expected keys, found 'x'"):
            load(None, flags=flags)


# ------------------------------------------------------------------------------------------------ every key


def numbers() -> list[str]:
    return [
        f"{section.name}.{key}"
        for section in dataclasses.fields(Config)
        for key, kind in get_type_hints(section.default_factory).items()
        if kind in (int, float)
    ]


@pytest.mark.parametrize("dotted", numbers())
def test_every_number_is_bounded_on_both_sides(dotted: str) -> None:
    for value in ("-1e18", "1e18", "nan", "-1" + "0" * 18, "1" + "0" * 18):
        with pytest.raises(ConfigError, match=dotted):
            load(None, flags={"source.folder": "/in", dotted: value})


def test_every_key_says_what_it_means() -> None:
    for section in dataclasses.fields(Config):
        kind: Any = section.default_factory
        assert all(field.metadata["says"] for field in dataclasses.fields(kind)), section.name


def test_the_document_is_the_configuration_again(tmp_path: Path) -> None:
    config = loaded(tmp_path, f"source: {{folder: /in}}\nmodel: {{threads: 2, trusted_keys: [{KEY}]}}")
    document = {
        s: {k: list(v) if isinstance(v, tuple) else v for k, v in d.items()} for s, d in as_document(config).items()
    }
    assert loaded(tmp_path, yaml.safe_dump(document)) == config


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6) | st.integers(), inner, max_size=3),
    max_leaves=8,
)
sections = st.sampled_from([f.name for f in dataclasses.fields(Config)]) | st.text(max_size=6)
keys = st.sampled_from([n.split(".")[1] for n in numbers()] + ["kind", "mode", "tls", "name"]) | st.text(max_size=6)


@settings(deadline=None, max_examples=100)
@given(document=st.dictionaries(sections, values | st.dictionaries(keys, values, max_size=4), max_size=4))
def test_any_document_is_a_configuration_or_a_clear_error(
    document: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(yaml.safe_dump(document, allow_unicode=True), encoding="utf-8")
    try:
        assert isinstance(load(path), Config)
    except ConfigError as error:
        assert str(error).startswith(str(path))
