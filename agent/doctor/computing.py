"""What computes: Python, TFLite and torch, each tried for real on this processor."""

from __future__ import annotations

import os
import platform
import signal
import sys
from typing import Any

from agent.doctor.finding import Finding, fails, limited, works
from agent.doctor.probe import Answer, ask

LIBRARIES = ("ai_edge_litert", "tflite_runtime")  # in the order in which the daemon tries them
FLOAT_TOLERANCE, INT8_TOLERANCE = 1e-4, 0.05
SLOWER = 1.5


def examine_python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return works("Python", f"{version} on {platform.machine()}, {os.cpu_count() or 1} cores")


def examine_tflite() -> Finding:
    """The first library that is installed is the daemon's; it has to compute what numpy computes. Another one that is
    there, too, is only mentioned."""
    absent, found = "not installed", []
    for library in LIBRARIES:
        answer = ask("tflite", {"library": library})
        if "absent" in answer.said:
            absent = str(answer.said["absent"])
        else:
            found.append(_tried(library, answer))
    if not found:
        return fails("TFLite", absent, "pip install ai-edge-litert (Termux: pkg install python-tflite-runtime)")
    first, *others = found
    also = "".join(f"; not used: {other['detail']}" for other in others)
    return Finding(what="TFLite", state=first["state"], detail=first["detail"] + also, advice=first["advice"])


def _tried(library: str, answer: Answer) -> Finding:
    if answer.signal == signal.SIGILL:
        return fails("TFLite", f"{library} dies of an illegal instruction", "install a build for this processor")
    if answer.died:
        return fails("TFLite", f"{library}: {answer.died}", f"pip install --force-reinstall {_package(library)}")
    return _judged(library, answer.said)


def _judged(library: str, said: dict[str, Any]) -> Finding:
    what = f"{library} {said['version']}".strip()
    if not said["float_error"] <= FLOAT_TOLERANCE:
        advice = f"pip install --upgrade {_package(library)}; tflite-runtime needs numpy<2"
        return fails("TFLite", f"{what} computes wrongly: off by {said['float_error']:.1%}", advice)
    times = f"right; {said['float_ms']:.2f} ms in float, {said['int8_ms']:.2f} ms in int8 (24 k parameters)"
    if not said["int8_error"] <= INT8_TOLERANCE:
        detail = f"{what} is right in float, but off by {said['int8_error']:.1%} in int8"
        return limited("TFLite", detail, "set training.quantise: none, and use a student packed in float")
    if said["int8_ms"] > SLOWER * said["float_ms"]:
        advice = "int8 is the slower one here: set training.quantise: none, and use a student packed in float"
        return limited("TFLite", f"{what}: {times}", advice)
    return works("TFLite", f"{what}: {times}")


def _package(library: str) -> str:
    return library.replace("_", "-")


def examine_torch() -> Finding:
    """Without it the device learns by the head tier, and says so: never a reason to fail."""
    answer = ask("torch")
    if answer.signal == signal.SIGILL:
        advice = "on ARMv8.0 (Cortex-A53, A57, A72) use torch>=2.6,<2.10; until then set training.tier: head"
        return limited("torch", "dies of an illegal instruction: head tier only", advice)
    if answer.died:
        advice = "pip install 'understudy[train]' (Termux: pkg install python-torch) for the other tiers"
        return limited("torch", f"head tier only: {answer.died}", advice)
    version, peak_mib = answer.said["version"], answer.said["peak_mib"]
    if not answer.said["right"]:
        return limited("torch", f"{version} computes wrongly: head tier only", "set training.tier: head; reinstall it")
    return works("torch", f"{version}: all tiers; {peak_mib:.0f} MiB for the smallest step")
