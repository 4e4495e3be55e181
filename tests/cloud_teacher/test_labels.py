from __future__ import annotations

from pathlib import Path

import pytest

from cloud_teacher.labels import MAX_FILE_BYTES, LabelsError, checked_labels, read_labels


def test_one_name_a_line(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_text("tench\r\n\n garbage truck \nTürkis\n", encoding="utf-8")
    assert read_labels(path) == ("tench", "garbage truck", "Türkis")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "0 names"),
        (b"a\nb\na\n", "names 1 and 3 are both 'a'"),
        (b"a\nb\x00c\n", "name 2"),
        (b"x" * 65, "name 1, .* 1 to 64 characters"),
        (b"\xff\xfe", "cannot be read as a list of names"),
        (b"a\n" * MAX_FILE_BYTES, "larger than"),
    ],
)
def test_names_that_cannot_be_used(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "labels.txt"
    path.write_bytes(content)
    with pytest.raises(LabelsError, match=says) as caught:
        read_labels(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(LabelsError, match=r"absent\.txt cannot be read"):
        read_labels(tmp_path / "absent.txt")


def test_there_is_a_most() -> None:
    with pytest.raises(LabelsError, match="10001 names"):
        checked_labels([str(n) for n in range(10_001)], "labels")
