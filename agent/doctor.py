"""`understudy agent doctor`: tries each thing the daemon needs, the risky ones in a process of their own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypedDict

from agent.config import Config

PROBE_TIMEOUT_S = 60.0
BUILD_TIME_UTC = 1_735_689_600.0  # 2025-01-01: a clock before this was never set


class Finding(TypedDict):
    """`state`: works | limited (what is lost) | fails (the daemon cannot do its work)."""

    what: str
    state: Literal["works", "limited", "fails"]
    detail: str
    advice: str


def examine(config: Config | None) -> list[Finding]:
    """Every probe's finding; probes about the configuration only where one is given."""
    probes: list[Callable[[], Finding]] = [_python, _tflite, _torch, _inotify, _camera, _clock, _memory]
    findings = [probe() for probe in probes]
    findings.append(_disk(config.state_dir if config else Path(tempfile.gettempdir())))
    if config is not None:
        findings += _of_config(config)
    return findings


def render(findings: list[Finding], *, colour: bool) -> str:
    colours = {"works": "\033[32m", "limited": "\033[33m", "fails": "\033[31m"} if colour else {}
    lines = []
    for finding in findings:
        mark = f"{colours.get(finding['state'], '')}{finding['state']:<8}{chr(27) + '[0m' if colour else ''}"
        lines.append(f"{mark} {finding['what']:<18} {finding['detail']}")
        if finding["advice"]:
            lines.append(f"{'':9}{'':18} -> {finding['advice']}")
    return "\n".join(lines)


def _good(what: str, detail: str) -> Finding:
    return Finding(what=what, state="works", detail=detail, advice="")


def _limited(what: str, detail: str, advice: str) -> Finding:
    return Finding(what=what, state="limited", detail=detail, advice=advice)


def _bad(what: str, detail: str, advice: str) -> Finding:
    return Finding(what=what, state="fails", detail=detail, advice=advice)


def _in_subprocess(code: str) -> tuple[int, str]:
    """Exit status (negative: signal) and the last line printed. A SIGILL must kill the probe, not the doctor."""
    try:
        ran = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=PROBE_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return 124, f"no end within {PROBE_TIMEOUT_S:.0f} s"
    lines = (ran.stdout + ran.stderr).strip().splitlines() or [""]
    return ran.returncode, lines[-1][:200]


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return _good("Python", f"{version} on {os.uname().machine}")


def _tflite() -> Finding:
    for module in ("ai_edge_litert", "tflite_runtime"):
        status, line = _in_subprocess(f"from {module}.interpreter import Interpreter; print('ok')")
        if status == 0:
            return _good("TFLite", module)
        if status == -signal.SIGILL:
            return _bad("TFLite", f"{module} dies of an illegal instruction", "install a build for this processor")
    return _bad("TFLite", line, "pip install ai-edge-litert (Termux: pkg install python-tflite-runtime)")


def _torch() -> Finding:
    code = (
        "import torch; x=torch.randn(2,3,8,8,requires_grad=True); c=torch.nn.Conv2d(3,4,3);"
        "c(x).sum().backward(); print(torch.__version__)"
    )
    status, line = _in_subprocess(code)
    if status == 0:
        return _good("torch", f"{line}: all tiers of learning")
    if status == -signal.SIGILL:
        advice = "on ARMv8.0 use torch>=2.6,<2.10; until then set training.tier: head"
        return _limited("torch", "dies of an illegal instruction: head tier only", advice)
    advice = "pip install 'understudy[train]' for the other tiers; the trainer uses head until then"
    return _limited("torch", f"{line}: head tier only", advice)


def _inotify() -> Finding:
    status, line = _in_subprocess("import inotify_simple; inotify_simple.INotify().close(); print('ok')")
    if status == 0:
        return _good("inotify", "new files are noticed at once")
    return _limited("inotify", f"{line}: folders are polled", "pip install inotify-simple; raise fs.inotify.max_user_*")


def _camera() -> Finding:
    devices = sorted(str(path) for path in Path("/dev").glob("video*"))
    status, _ = _in_subprocess("import av")
    if status != 0:
        return _limited("camera", "PyAV is not installed: folders only", "pip install 'understudy[camera]'")
    return _good("camera", f"PyAV; devices: {', '.join(devices) or 'none'}")


def _clock() -> Finding:
    if time.time() < BUILD_TIME_UTC:
        return _limited("clock", time.strftime("%Y-%m-%d", time.gmtime()), "set it (NTP): expiries are judged by it")
    return _good("clock", time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()))


def _memory() -> Finding:
    try:
        fields = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        mib = int(fields["MemAvailable"].split()[0]) // 1024
    except (OSError, KeyError, ValueError):
        return _limited("memory", "cannot be read", "budget.min_available_mib has no effect here")
    if mib < 300:
        return _limited("memory", f"{mib} MiB available", "training in torch needs about 300: set training.tier: head")
    return _good("memory", f"{mib} MiB available")


def _disk(folder: Path) -> Finding:
    nearest = next(p for p in (folder, *folder.parents) if p.exists())
    try:
        with tempfile.NamedTemporaryFile(dir=nearest) as file:
            began_s = time.perf_counter()
            for _ in range(5):
                file.write(b"x" * 4096)
                file.flush()
                os.fsync(file.fileno())
            each_ms = (time.perf_counter() - began_s) / 5 * 1000
    except OSError as error:
        return _bad("disk", f"{nearest}: {error.strerror}", "choose a writable device.state_dir")
    if each_ms > 200:
        return _limited("disk", f"{nearest}: {each_ms:.0f} ms a durable write", "a faster card makes intake faster")
    return _good("disk", f"{nearest}: {each_ms:.1f} ms a durable write")


def _of_config(config: Config) -> list[Finding]:
    findings = []
    if config.mqtt.host:
        where = f"{config.mqtt.host}:{config.mqtt.port}"
        try:
            socket.create_connection((config.mqtt.host, config.mqtt.port), timeout=5).close()
            findings.append(_good("broker", where))
        except OSError as error:
            findings.append(_limited("broker", f"{where}: {error}", "check mqtt.host, mqtt.port and the firewall"))
    if config.source.kind == "folder":
        folder = Path(config.source.folder).expanduser()
        if os.access(folder, os.R_OK | os.X_OK):
            findings.append(_good("source", str(folder)))
        else:
            findings.append(
                _limited("source", f"{folder} cannot be read", "make it; the daemon waits until it is there")
            )
    if config.model.bundle:
        from transfer import bundle

        path = Path(config.model.bundle).expanduser()
        try:
            found = bundle.load(path, trusted=config.model.trusted_keys).manifest
            findings.append(_good("bundle", f"{found.name}: {', '.join(found.labels)}"))
        except bundle.BundleError as error:
            findings.append(_bad("bundle", str(error), "fetch it again, or add its key to model.trusted_keys"))
    return findings
