"""Where images come from, and the model that is to see them."""

from __future__ import annotations

import os
from itertools import islice
from pathlib import Path

from agent.config import Model, Source
from agent.doctor.finding import Finding, fails, limited, works
from agent.doctor.probe import ask

INOTIFY = Path("/proc/sys/fs/inotify")
MANY_FOLDERS = 100_000


def examine_source(source: Source) -> Finding:
    return _camera(source.camera) if source.kind == "camera" else _folder(Path(source.folder).expanduser())


def _folder(folder: Path) -> Finding:
    if not folder.is_dir():
        what = "is no folder" if folder.exists() else "is not there"
        return limited("source", f"{folder} {what}", "make it; the daemon waits until it is there")
    if not os.access(folder, os.R_OK | os.X_OK):
        return limited("source", f"{folder} cannot be read", "let the daemon's user read and enter it")
    return works("source", str(folder))


def _camera(camera: str) -> Finding:
    answer = ask("camera", {"camera": camera}, timeout_s=40)
    if answer.died:
        return limited("source", f"camera: {answer.died}", "pip install --force-reinstall av")
    said = str(answer.said["said"]).partition("; opened again")[0]  # by the daemon; the doctor looks once
    if answer.said["frame"]:
        return works("source", said)
    return limited("source", said, _camera_advice(said.lower()))


def _camera_advice(said: str) -> str:
    if "pyav" in said:
        return "pip install 'understudy[camera]', or watch a folder (source.kind: folder)"
    if "permission" in said:
        return "let the daemon's user use it: sudo usermod --append --groups video USER, then log in again"
    if "busy" in said:
        return "another program has it; the daemon itself, if it is running"
    if "no such" in said or "not found" in said:
        found = ", ".join(sorted(str(path) for path in Path("/dev").glob("video*"))) or "none"
        return f"is it plugged in? Cameras here: {found}. The daemon waits for it"
    return "see that another player can show it; the daemon tries again and again"


def examine_cameras() -> Finding:
    """Without a configuration: what could be used."""
    answer = ask("import", {"module": "av"})
    if answer.died or not answer.said["imported"]:
        return limited("camera", "PyAV is not installed: folders only", "pip install 'understudy[camera]'")
    devices = ", ".join(sorted(str(path) for path in Path("/dev").glob("video*"))) or "none"
    return works("camera", f"PyAV {answer.said['version']}; devices: {devices}")


def examine_inotify(folder: Path | None = None, *, limits: Path = INOTIFY) -> Finding:
    """`folder`: the watched one, each of whose subfolders takes a watch."""
    answer = ask("import", {"module": "inotify_simple", "call": "INotify"})
    if answer.died or not answer.said["imported"]:
        detail = answer.died or str(answer.said["error"])
        advice = f"pip install inotify-simple; raise fs.inotify.max_user_instances ({_limit(limits, 'instances')})"
        return limited("inotify", f"{detail}: folders are polled", advice)
    watches = _limit(limits, "watches")
    if folder is not None and watches is not None:
        folders = 1 + sum(len(names) for _, names, _ in islice(os.walk(folder), MANY_FOLDERS))
        if folders > watches:
            advice = (
                f"sysctl fs.inotify.max_user_watches={2 * folders}; until then the rest is found by reading it whole"
            )
            return limited("inotify", f"{folders} folders, but {watches} watches a user", advice)
    return works("inotify", f"new files are noticed at once; {watches or 'unknown'} watches a user")


def _limit(limits: Path, name: str) -> int | None:
    try:
        return int((limits / f"max_user_{name}").read_text())
    except (OSError, ValueError):
        return None


def examine_bundle(model: Model) -> Finding:
    from transfer import bundle

    path = Path(model.bundle).expanduser()
    try:
        found = bundle.load(path, trusted=model.trusted_keys).manifest
    except bundle.BundleError as error:
        return fails("bundle", str(error), "fetch it again, or add its key to model.trusted_keys")
    return works("bundle", f"{found.name}: {', '.join(found.labels)}")
