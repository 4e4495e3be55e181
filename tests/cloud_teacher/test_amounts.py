from __future__ import annotations

import argparse

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud_teacher.amounts import blocks, count, share_of_zeros


@pytest.mark.parametrize(
    ("text", "value"),
    [("270000", 270_000), ("270k", 270_000), ("0.27M", 270_000), (".23m", 230_000), ("1.5G", 1_500_000_000), ("1", 1)],
)
def test_counts_as_people_write_them(text: str, value: int) -> None:
    assert count(text) == value


@settings(deadline=None)
@given(st.integers(1, 10**9), st.sampled_from(["", "k", "M", "G"]))
def test_a_suffix_multiplies(number: int, suffix: str) -> None:
    assert count(f"{number}{suffix}") == number * {"": 1, "k": 10**3, "M": 10**6, "G": 10**9}[suffix]


@settings(deadline=None)
@given(st.integers(1, 10**9))
def test_six_decimals_of_a_million_are_exact(number: int) -> None:
    assert count(f"{number // 10**6}.{number % 10**6:06d}M") == number


@pytest.mark.parametrize("text", ["", "M", "0.27 Mio", "-1", "1e6", "1T", "1.2.3", "0x10", "9" * 16, "inf"])
def test_what_is_no_number_is_refused_with_examples(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=r"write 270000, 270k, 0\.27M"):
        count(text)


@pytest.mark.parametrize("text", ["0", "0.0M", "0.5"])
def test_less_than_one_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="less than 1"):
        count(text)


def test_a_threshold_is_a_share() -> None:
    assert share_of_zeros("0.9") == 0.9
    for text in ("0", "1.1", "nan", "90%", "0.23M"):
        with pytest.raises(argparse.ArgumentTypeError, match="--params"):
            share_of_zeros(text)


@settings(deadline=None)
@given(st.lists(st.integers(1, 9999), min_size=1, max_size=5))
def test_blocks_are_one_number_or_one_a_group(numbers: list[int]) -> None:
    assert blocks(",".join(map(str, numbers))) == (tuple(numbers) if len(numbers) > 1 else numbers[0])


@pytest.mark.parametrize("text", ["", "0", "3,0", "3,", "-1", "3.5", "3;4", "12345", "three"])
def test_what_is_no_number_of_blocks_is_refused_with_examples(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="such as 4,4,3"):
        blocks(text)
