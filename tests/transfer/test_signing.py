from __future__ import annotations

from pathlib import Path

import pytest

from transfer.signing import KeyFileError, generate, load_key, public_key_hex, sign, verify


def test_a_key_survives_its_file_which_only_its_owner_reads(tmp_path: Path) -> None:
    key = generate(tmp_path / "key")
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    assert public_key_hex(load_key(tmp_path / "key")) == public_key_hex(key)
    assert len(public_key_hex(key)) == 64


def test_a_signature_names_its_key(tmp_path: Path) -> None:
    mine, other = generate(tmp_path / "mine"), generate(tmp_path / "other")
    signature = sign(mine, b"data")
    trusted = [public_key_hex(other), public_key_hex(mine)]
    assert verify(trusted, b"data", signature) == public_key_hex(mine)
    assert verify(trusted, b"datA", signature) is None
    assert verify(trusted[:1], b"data", signature) is None
    assert verify([], b"data", signature) is None
    flipped = ("0" if signature[0] != "0" else "1") + signature[1:]
    assert verify(trusted, b"data", flipped) is None


@pytest.mark.parametrize("signature", ["", "zz", "00", "é", "00" * 63, "00" * 65, "0" * 127])
def test_nonsense_signs_nothing(tmp_path: Path, signature: str) -> None:
    key = generate(tmp_path / "key")
    assert verify([public_key_hex(key), "nonsense", "00"], b"data", signature) is None


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    generate(tmp_path / "key")
    with pytest.raises(KeyFileError, match="exists already"):
        generate(tmp_path / "key")


@pytest.mark.parametrize("content", [b"", b"hello", b"00" * 31, b"00" * 33, b"\xff\xfe"])
def test_a_bad_key_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(KeyFileError, match="no signing key"):
        load_key(path)


def test_a_missing_or_public_key_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="cannot be read"):
        load_key(tmp_path / "none")
    generate(tmp_path / "key")
    (tmp_path / "key").chmod(0o644)
    with pytest.raises(KeyFileError, match="chmod 600"):
        load_key(tmp_path / "key")
