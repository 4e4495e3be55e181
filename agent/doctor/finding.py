"""What the doctor found out about one thing."""

from __future__ import annotations

from typing import Literal, TypedDict

State = Literal["works", "limited", "fails"]


class Finding(TypedDict):
    """`state`: works | limited (something is lost) | fails (the daemon cannot do its work). `advice`: what to do; empty
    where it works."""

    what: str
    state: State
    detail: str
    advice: str


def works(what: str, detail: str) -> Finding:
    return Finding(what=what, state="works", detail=detail, advice="")


def limited(what: str, detail: str, advice: str) -> Finding:
    return Finding(what=what, state="limited", detail=detail, advice=advice)


def fails(what: str, detail: str, advice: str) -> Finding:
    return Finding(what=what, state="fails", detail=detail, advice=advice)
