"""`python tests/vm/run.py --cuts 20`: boot, let the daemon work, cut the power, again and again. See README.md."""

from __future__ import annotations

import argparse
import base64
import json
import queue
import random
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]

import msgspec  # noqa: E402
from machine import Machine, MachineError, prepare  # noqa: E402

from agent.core.state import State  # noqa: E402
from benchmarks.device.model import bundle_of_half_a_million  # noqa: E402
from benchmarks.device.powercut import SPEC  # noqa: E402
from benchmarks.device.powercut_lane import is_damage  # noqa: E402
from benchmarks.device.promises import OnDisk, Promises  # noqa: E402
from transfer import signing, wire  # noqa: E402

BOOT_TIMEOUT_S = 600.0
KINDS: dict[str, Any] = {"status": wire.Status, "event": wire.Event, "job": wire.JobUpdate}


class Host:
    """Remembers what the machine has promised over all its lives."""

    def __init__(self) -> None:
        self.promises = Promises()
        self.wrong: list[str] = []
        self.cuts = 0

    def take(self, fact: dict[str, Any]) -> None:
        promises = self.promises
        if "message" in fact:
            payload = base64.b64decode(fact["message"])
            promises.hear(wire.decode(payload, KINDS[json.loads(payload)["type"]]))
        elif "sample" in fact:
            promises.samples.add(fact["sample"])
        elif "published" in fact:
            promises.published.add(fact["published"])
        elif "order" in fact:
            promises.ordered(fact["order"], rollback_to=fact["back"])
        elif "uncertain" in fact:
            promises.uncertain()
        elif "disk" in fact:
            self._look(fact["disk"], fact["log"])
        elif "failed" in fact:
            self.wrong.append(f"the daemon ended: {fact['failed']}")

    def _look(self, disk: dict[str, Any], log: str) -> None:
        self.wrong += [*disk["corrupt"], *(line for line in log.splitlines() if is_damage(line))]
        if disk["active"] is None:
            self.wrong.append("there is no active model")
        state = msgspec.json.decode(disk["state"], type=State) if disk["state"] else None
        self.promises.check(OnDisk(state, disk["active"], frozenset(disk["samples"]), tuple(disk["corrupt"])))


def life(machine: Machine, host: Host, number: int, seconds: float) -> None:
    """Boot; `seconds` after the daemon has started, cut the power. Raises MachineError where it never starts."""
    process = machine.boot(number)
    facts: queue.SimpleQueue[str] = queue.SimpleQueue()

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            facts.put(line.decode(errors="replace").rstrip())

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    said: list[str] = []
    until_s, started = time.monotonic() + BOOT_TIMEOUT_S, False
    try:
        while time.monotonic() < until_s and process.poll() is None:
            try:
                line = facts.get(timeout=0.05)
            except queue.Empty:
                continue
            if not line.startswith("@@"):
                said.append(line)
                continue
            fact = json.loads(line[2:])
            host.take(fact)
            if "disk" in fact and not started:
                started, until_s = True, time.monotonic() + seconds
    finally:
        process.kill()
        process.wait()
    reader.join(5)
    while not facts.empty():  # what was said before the power went counts; the last line may be cut off
        line = facts.get()
        try:
            host.take(json.loads(line[2:]) if line.startswith("@@") else {})
        except ValueError:
            continue
    if not started:
        raise MachineError("the daemon never started:\n" + "\n".join(said[-30:]))
    host.cuts += 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cuts", type=int, default=20, metavar="N", help="how many power cuts (default 20)")
    parser.add_argument("--folder", type=Path, required=True, metavar="DIR", help="for kernel, disk and bundle")
    parser.add_argument("--kernel", type=Path, metavar="FILE", help="a vmlinuz with 9p, virtio, ext4, overlay")
    parser.add_argument("--modules", type=Path, metavar="DIR", help="its lib/modules/VERSION")
    parser.add_argument("--emulate", action="store_true", help="without KVM: ten times slower")
    parser.add_argument("--longest", type=float, default=8.0, metavar="S", help="longest life after the start")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    scene = folder / "scene"
    if not (scene / "bundle").exists():
        scene.mkdir(parents=True, exist_ok=True)
        bundle_of_half_a_million(scene / "bundle", "none", key=signing.generate(scene / "key"), spec=SPEC)
    host, rng, began_s = Host(), random.Random(arguments.seed), time.monotonic()
    try:
        python = Path(sys.executable).absolute()
        kernel, modules = arguments.kernel, arguments.modules
        machine = prepare(folder, python, ROOT, scene, kernel, modules, kvm=not arguments.emulate)
        for number in range(arguments.cuts + 1):
            life(machine, host, number, rng.uniform(0.2, arguments.longest))
            heard = dict(host.promises.heard)
            print(f"cut {number}: {len(host.promises.samples)} samples, {heard}, {len(host.wrong)} wrong", flush=True)
    except (MachineError, subprocess.CalledProcessError) as error:
        print(f"tests/vm/run.py: {error}", file=sys.stderr)
        return 2
    wrong = [*host.wrong, *host.promises.broken, *host.promises.repeated]
    found = {"cuts": host.cuts, "wrong": wrong, "seconds": round(time.monotonic() - began_s)}
    print(json.dumps(found | dict(host.promises.heard) | {"samples": len(host.promises.samples)}))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
