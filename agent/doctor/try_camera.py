"""Opens a camera as the daemon does and waits for its first frame."""

from __future__ import annotations

import json
import queue

from agent.adapters.camera import CameraSource
from agent.adapters.intake import Frame
from agent.doctor.probe import request
from transfer.spec import InputSpec

WAIT_S = 20.0  # more than the time-outs of opening and reading together


def main() -> None:
    heard: queue.Queue[str | None] = queue.Queue()

    def deliver(frame: Frame) -> bool:
        heard.put(None)
        return True

    spec = InputSpec(32, 32, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    camera = CameraSource(request()["camera"], spec=spec, deliver=deliver, report=heard.put, fps=240.0)
    camera.start()
    said = "nothing came"
    try:
        while True:
            message = heard.get(timeout=WAIT_S)
            if message is None:
                print(json.dumps({"frame": True, "said": said}), flush=True)
                break
            said = message
            if ": playing" not in message:
                print(json.dumps({"frame": False, "said": said}), flush=True)
                break
    except queue.Empty:
        print(json.dumps({"frame": False, "said": f"{said}, but no frame within {WAIT_S:g} s"}), flush=True)
    camera.close()


if __name__ == "__main__":
    main()
