"""scene.py FOLDER: a student, an image and a configuration for it, for a container that sees the folder as /scene."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import tiny_world
import yaml

from transfer.preprocess import encode_png

NOBODYS_UID = 10001
"""As in Dockerfile.arm64."""

scene = Path(sys.argv[1])
(scene / "world").mkdir()
world = tiny_world.make(scene / "world")
shutil.move(world.student, scene / "student")
(scene / "images").mkdir()
(scene / "images" / "a.png").write_bytes(encode_png(tiny_world.images(tiny_world.OLD[0], 1)[0]))
document = {
    "device": {"name": "container", "state_dir": "/scene/state"},
    "source": {"folder": "/scene/images"},
    "model": {"bundle": "/scene/student", "trusted_keys": [world.public]},
}
(scene / "agent.yaml").write_text(yaml.safe_dump(document))
for path in (scene, *scene.rglob("*")):
    os.chown(path, NOBODYS_UID, NOBODYS_UID)
