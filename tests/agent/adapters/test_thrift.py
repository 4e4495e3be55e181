"""What is left unwritten is counted, and nothing is while there is no reason."""

from __future__ import annotations

import pytest

from agent.adapters.thrift import Thrift


@pytest.mark.spec("5.3", "6.2")
def test_it_counts_what_it_skips_and_skips_only_for_a_reason() -> None:
    reason = ""
    thrift = Thrift(lambda: reason)
    assert not thrift.skips("samples") and thrift.left_out == {}
    reason = "free disk 5 MiB is below 200 MiB"
    assert thrift.skips("samples") and thrift.skips("predictions", 30) and thrift.skips("samples", 2)
    reason = ""
    assert not thrift.skips("samples")
    assert thrift.left_out == {"samples": 3, "predictions": 30}


def test_without_a_reason_to_ask_for_everything_is_written() -> None:
    assert not Thrift().skips("samples")
