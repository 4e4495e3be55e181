"""Numbers as people write them on a command line: 0.23M parameters, 10M multiply-accumulates, a threshold of 0.9."""

from __future__ import annotations

import argparse
import re

from transfer.plan import Depth

SUFFIXES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}


def count(text: str) -> int:
    """270000, 270k, 0.27M or 1.5G as a whole number of at least 1. Raises argparse.ArgumentTypeError."""
    found = re.fullmatch(r"(\d{1,15}(?:\.\d{1,9})?|\.\d{1,9})([kmg]?)", text.strip().lower())
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is no number; write 270000, 270k, 0.27M or 1.5G")
    # In whole numbers, for 0.23 * 10**6 is 230000.00000000003 in floats.
    whole, _, decimals = found[1].partition(".")
    value = int(whole + decimals) * SUFFIXES[found[2]] // int("1" + "0" * len(decimals))
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is less than 1; write a count such as 270000 or 0.27M")
    return value


def share_of_zeros(text: str) -> float:
    """P, the pruning threshold of eq. 2: above 0, at most 1. Raises argparse.ArgumentTypeError."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no share of zeros; it must be above 0 and at most 1 (the paper's are 0.7 to 1, the lower the "
            "thinner the student). To ask for a size instead, use --params 0.27M or --macs 10M"
        )
    return value


def blocks(text: str) -> Depth:
    """How many blocks of each group to keep: 3, or one number a group, 4,4,3. Raises argparse.ArgumentTypeError."""
    if not re.fullmatch(r"[1-9]\d{0,3}(,[1-9]\d{0,3})*", text.strip()):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no number of blocks; write 3, or one number a group such as 4,4,3"
        )
    numbers = tuple(int(part) for part in text.split(","))
    return numbers[0] if len(numbers) == 1 else numbers
