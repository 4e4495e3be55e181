"""The real daemon as a process of its own: its scene (bundle, keys, images, broker) and its life.

Whoever drives it holds no numpy and no LiteRT: pages that it shared with the daemon would count half.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from demo.broker import Broker, start_broker

ROOT = Path(__file__).resolve().parent.parent.parent
VERDICT_TIMEOUT_S, STOP_TIMEOUT_S, POLL_S = 60.0, 20.0, 0.005
NOT_OF_A_SERVICE = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "PYTHONDONTWRITEBYTECODE")
OF_THE_UNIT = {"PYTHONOPTIMIZE": "2"}


class DaemonFailed(RuntimeError):
    """The daemon ended or fell silent; the text ends with the last lines of its log."""


@dataclass(frozen=True)
class Scene:
    """What every daemon of a run shares. `images`: files to be shown, all different."""

    bundle: Path
    public_key: str
    images: tuple[Path, ...]
    broker: Broker


@contextmanager
def scene(folder: Path, images: int) -> Iterator[Scene]:
    """Make the bundle and the images in `folder` (in another process) and run a broker: mosquitto, or else amqtt."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as other:
        public_key = other.submit(_prepare, folder, images).result()
    running = start_broker(folder / "broker", options=("user root",) if os.geteuid() == 0 else ())
    try:
        yield Scene(folder / "bundle", public_key, tuple(sorted((folder / "images").iterdir())), running)
    finally:
        running.stop()


def _prepare(folder: Path, count: int) -> str:
    """The public key of who signed the bundle."""
    from benchmarks.device import model
    from transfer import signing
    from transfer.preprocess import encode_png

    key = signing.generate(folder / "key")
    model.bundle_of_half_a_million(folder / "bundle", model.SERVED, key=key)
    (folder / "images").mkdir()
    for number, image in enumerate(model.images(-(-count // len(model.LABELS)), seed=7)[:count]):
        (folder / "images" / f"{number:04}.png").write_bytes(encode_png(image))
    return signing.public_key_hex(key)


class Daemon:
    """`understudy agent run` at `home`, told everything by a configuration file. Where one was before, it goes on."""

    def __init__(self, home: Path, of: Scene, image: Path) -> None:
        """It has begun, and `image` lies in its folder already."""
        self._folder, self._log = home / "in", home / "log"
        self._predictions = home / "state" / "predictions.jsonl"
        self._folder.mkdir(parents=True, exist_ok=True)
        config = home / "agent.yaml"
        config.write_text(json.dumps(_configuration(home, of)), encoding="utf-8")
        self.show(image)
        command = [sys.executable, "-m", "understudy", "agent", "run", "--config", str(config)]
        with self._log.open("wb") as log:
            self.began_s = time.perf_counter()
            self.process = subprocess.Popen(command, cwd=ROOT, env=environment(), stderr=log, stdin=subprocess.DEVNULL)

    def show(self, image: Path) -> None:
        """Put an image into its folder as a careful program does: whole, under its name, by a rename."""
        shutil.copy(image, self._folder / f"{image.name}.tmp")
        (self._folder / f"{image.name}.tmp").rename(self._folder / image.name)

    def until_verdicts(self, count: int) -> float:
        """Seconds from its start until so many images had been judged and logged at its home. Raises DaemonFailed."""
        asked_s = time.perf_counter()
        while not self._predictions.exists() or self._predictions.read_bytes().count(b"\n") < count:
            if time.perf_counter() - asked_s > VERDICT_TIMEOUT_S or self.process.poll() is not None:
                raise DaemonFailed(f"the daemon gave no verdict:\n{self._log.read_text(errors='replace')[-2000:]}")
            time.sleep(POLL_S)
        return time.perf_counter() - self.began_s

    def close(self) -> None:
        """As systemd ends it. Raises DaemonFailed where it does not end well."""
        self.process.terminate()
        try:
            code = self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise DaemonFailed(f"the daemon did not end within {STOP_TIMEOUT_S:.0f} s of SIGTERM") from None
        if code:
            raise DaemonFailed(f"the daemon ended with {code}:\n{self._log.read_text(errors='replace')[-2000:]}")


def environment() -> dict[str, str]:
    """Ours with what the unit sets, and without what a service has not: bounds on the threads of libraries, of which it
    takes care itself, and sources that are compiled at every start."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    kept = {name: value for name, value in os.environ.items() if name not in NOT_OF_A_SERVICE}
    return kept | OF_THE_UNIT | {"PYTHONPATH": path}


def _configuration(home: Path, of: Scene) -> dict[str, dict[str, object]]:
    return {
        "device": {"name": "footprint", "state_dir": str(home / "state")},
        "source": {"folder": str(home / "in")},
        "model": {"bundle": str(of.bundle), "trusted_keys": [of.public_key]},
        "mqtt": {"host": "127.0.0.1", "port": of.broker.port, "operator_keys": [of.public_key]},
    }
