"""The first configuration: the recognised profile, where images and model are expected, and nothing it cannot know."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agent.config import Config
from agent.config_file import load
from agent.recognise import Recognised

MODEL_TO_COME = """
# Still to be done: the model. Then `understudy agent doctor --config FILE` tries everything.
#model:
#  bundle: {bundle}                      # what `understudy teacher compress` wrote
#  trusted_keys: [64 hex digits]         # what `understudy fleet keygen` printed
"""
OFFLINE = """
# Without a broker nothing leaves this device, and nobody can tell it to learn. With one:
#mqtt:
#  host: broker.lan
#  operator_keys: [64 hex digits]        # whose triggers are obeyed
#privacy:
#  mode: teacher_download                # or local, or upload
"""


def first_config(found: Recognised, profile: str, settings: Mapping[str, str], bundle: str) -> str:
    """YAML that holds `settings` (`section.key` to text, as --set takes them) on top of `profile`.

    Raises ConfigError where they are faulty.
    """
    import yaml

    config = load(None, flags={**settings, "profile": profile})
    document: dict[str, Any] = {}
    for dotted in settings:
        section, _, key = dotted.partition(".")
        document.setdefault(section, {})[key] = _plain(getattr(getattr(config, section), key))
    reason = found.why if profile == found.profile else "as asked for"
    text = f"""# The daemon's configuration, made by `understudy agent install`. It is yours: nothing overwrites it.
# Every key with its meaning: understudy agent show-config --explain --config FILE

# {found.device}: {reason}
profile: {profile}

{yaml.safe_dump(document, sort_keys=False, allow_unicode=True)}"""
    if not (config.model.bundle and config.model.trusted_keys):
        text += MODEL_TO_COME.format(bundle=bundle)
    if not config.mqtt.host:
        text += OFFLINE
    return text


def complete(config: Config, root: Path = Path("/")) -> bool:
    """A daemon can start with it: there is a model that it may trust, or it had one before. `root` is where the
    configuration's system is mounted."""
    bundle, state = (
        root / Path(path).expanduser().absolute().relative_to("/") for path in (config.model.bundle, config.state_dir)
    )
    trusted = bool(config.model.bundle and config.model.trusted_keys)
    return (trusted and bundle.exists()) or (state / "models").is_dir()


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
