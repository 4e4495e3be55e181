"""Images come in at one end, and verdicts and samples out at the other, whatever one of them does."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog
from structlog.testing import LogCapture
from tiny_world import World, images

from agent.config import Config, Novelty, Source
from agent.core.facts import GroupView
from agent.home import Home
from agent.serving import Serving
from agent.storage import Storage
from transfer.preprocess import encode_png


class Scene:
    def __init__(self, world: World, folder: Path) -> None:
        self.inbox = folder / "inbox"
        (self.inbox / "navy").mkdir(parents=True)
        self.home, self.log = Home(folder / "state"), LogCapture()
        self.home.take()
        config = Config(source=Source(folder=str(self.inbox), folder_labels=True), novelty=Novelty(group_images=4))
        self.storage = Storage(self.home, config)
        self.published: list[str] = []
        self.stored = 0
        self.groups: list[GroupView] = []
        self.sparing = ""
        self.serving = Serving(
            config,
            world.classifier(1),
            self.storage,
            structlog.wrap_logger(None, processors=[self.log]),
            publish=lambda frame, verdict, at_utc: self.published.append(frame.origin),
            stored=self._stored,
            live=lambda view: None,
            group=self.groups.append,
            sparing=lambda: self.sparing,
        )

    def _stored(self) -> None:
        self.stored += 1

    def show(self, name: str, content: bytes) -> None:
        made = self.inbox.parent / name
        made.write_bytes(content)
        made.rename(self.inbox / "navy" / name)

    def until(self, done: Callable[[], bool]) -> None:
        until_s = time.monotonic() + 20.0
        while not done():
            assert time.monotonic() < until_s, self.log.entries
            time.sleep(0.01)


@pytest.fixture
def scene(world: World, tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(world, tmp_path)
    yield scene
    scene.storage.close()
    scene.home.leave()


def test_an_image_is_classified_recorded_and_published(scene: Scene) -> None:
    scene.serving.start()
    scene.show("one.png", encode_png(images("navy", 1, seed=1)[0]))
    assert not scene.published, "nothing is fetched before it is told to"
    scene.serving.fetch()
    scene.until(lambda: len(scene.published) == 1)
    assert all(alive() for alive in scene.serving.signs_of_life(60.0).values())
    scene.serving.close()
    assert scene.storage.samples.count() == 1 and scene.stored == 1
    assert scene.home.predictions.read_bytes().count(b"\n") == 1


def test_images_are_also_looked_at_in_groups(scene: Scene) -> None:
    scene.serving.start()
    scene.serving.fetch()
    for number, picture in enumerate(images("navy", 5, seed=1)):
        scene.show(f"{number}.png", encode_png(picture))
    scene.until(lambda: len(scene.published) == 5)
    scene.serving.close()
    (group,) = scene.groups
    assert (group.images, group.novel, group.generation) == (4, 4, 1) and group.chance < 0.01


def test_what_is_no_image_is_put_aside_and_said_and_the_next_one_is_served(scene: Scene) -> None:
    scene.serving.start()
    scene.serving.fetch()
    scene.show("bad.png", b"no image")
    scene.until(lambda: [entry["event"] for entry in scene.log.entries] == ["file_refused"])
    scene.show("good.png", encode_png(images("navy", 1, seed=1)[0]))
    scene.until(lambda: len(scene.published) == 1)
    scene.serving.close()
    assert scene.log.entries[0]["quarantined"] and len(list(scene.home.quarantine.iterdir())) >= 1


def test_where_the_card_is_to_be_spared_nothing_is_put_aside(scene: Scene) -> None:
    scene.sparing = "enough was written today"
    scene.serving.start()
    scene.serving.fetch()
    scene.show("bad.png", b"no image")
    scene.until(lambda: [entry["event"] for entry in scene.log.entries] == ["file_refused"])
    scene.serving.close()
    assert not scene.log.entries[0]["quarantined"]
    assert scene.serving.thrift.left_out["quarantined"] == 1


def test_a_part_that_has_ended_shows_no_sign_of_life(scene: Scene) -> None:
    scene.serving.start()
    scene.serving.fetch()
    scene.serving.close()
    signs = scene.serving.signs_of_life(0.0)
    assert not signs["recorder"]() and not signs["inference"]()
