from __future__ import annotations

from benchmarks.markdown import as_markdown, table


def test_docstrings_become_lists() -> None:
    text = "About.\n\nfirst   what it is\nsecond  and so\n        on\nA sentence.  With two spaces."
    assert (
        as_markdown(text) == "About.\n\n- `first`: what it is\n- `second`: and so\n  on\nA sentence.  With two spaces."
    )


def test_a_table_has_heads_a_rule_and_lines() -> None:
    assert table(["a", "b"], [["1", "2"]]) == "| a | b |\n|---|---|\n| 1 | 2 |"
