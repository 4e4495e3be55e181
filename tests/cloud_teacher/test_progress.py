from __future__ import annotations

import io
import json

from cloud_teacher.progress import BAR_EVERY_S, BAR_WIDTH, PLAIN_EVERY_S, for_person, json_lines


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_json_lines_are_one_object_a_call() -> None:
    stream = io.StringIO()
    report = json_lines(stream)
    report("train", 1, 4, "loss 0.5")
    report("train", 4, 4)
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert first == {"stage": "train", "done": 1, "total": 4, "detail": "loss 0.5"}
    assert second == {"stage": "train", "done": 4, "total": 4, "detail": ""}


def test_plain_lines_come_seconds_apart_and_the_last_always() -> None:
    stream, clock = io.StringIO(), Clock()
    report = for_person(stream, clock)
    for done in range(0, 101):
        report("decode", done, 100)
        clock.now_s += PLAIN_EVERY_S / 10
    lines = stream.getvalue().splitlines()
    assert lines[0].startswith("decode: 0/100")
    assert lines[-1].startswith("decode: 100/100 in 30.0 s")
    assert 10 <= len(lines) <= 13
    assert "\r" not in stream.getvalue()


def test_time_left_counts_only_what_was_done_now() -> None:
    stream, clock = io.StringIO(), Clock()
    report = for_person(stream, clock)
    report("train", 8, 10)
    clock.now_s += 60
    report("train", 9, 10)
    assert "about 1:00 left" in stream.getvalue()


def test_bar_overwrites_itself_and_ends_its_line() -> None:
    stream, clock = Terminal(), Clock()
    report = for_person(stream, clock)
    for done in range(5):
        report("fetch", done, 4, "x" * (4 - done))
        clock.now_s += BAR_EVERY_S * 2
    text = stream.getvalue()
    assert text.count("\n") == 1
    screen = ""
    for part in text.rstrip("\n").split("\r"):
        screen = part + screen[len(part) :]
    assert screen.rstrip() == f"fetch [{'#' * BAR_WIDTH}] 4/4 in 0.8 s", "nothing longer may shine through"
