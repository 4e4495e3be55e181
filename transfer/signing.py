"""Ed25519 signatures. A key file holds the 32-byte seed in hex and is readable by its owner only; public keys and
signatures are hex strings, so that they can stand in a config file. PyNaCl is imported when first needed."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from transfer.durable import write_atomic

if TYPE_CHECKING:
    from nacl.signing import SigningKey


class KeyFileError(ValueError):
    """A key file that is missing, malformed or readable by others; the message says what to do."""


def generate(path: Path) -> SigningKey:
    """A new key, written to `path`. An existing file is never overwritten: a lost key cannot be brought back."""
    from nacl.signing import SigningKey

    if path.exists():
        raise KeyFileError(f"{path} exists already; move it away if you really want a new key")
    key = SigningKey.generate()
    write_atomic(path, key.encode().hex().encode() + b"\n", mode=0o600)
    return key


def load_key(path: Path) -> SigningKey:
    """The key in `path`. Raises KeyFileError."""
    from nacl.signing import SigningKey

    try:
        mode = path.stat().st_mode
        text = path.read_bytes()[:200]
    except OSError as error:
        raise KeyFileError(f"the signing key {path} cannot be read: {error}") from error
    if mode & 0o077:
        raise KeyFileError(f"the signing key {path} is open to other users; run: chmod 600 {path}")
    try:
        return SigningKey(bytes.fromhex(text.decode().strip()))
    except (ValueError, TypeError) as error:
        raise KeyFileError(f"{path} is no signing key: expected 64 hex digits") from error


def public_key_hex(key: SigningKey) -> str:
    """What others put in their list of trusted keys: 64 hex digits."""
    return bytes(key.verify_key).hex()


def sign(key: SigningKey, data: bytes) -> str:
    """The detached signature of `data`: 128 hex digits."""
    return bytes(key.sign(data).signature).hex()


def verify(trusted: Iterable[str], data: bytes, signature_hex: str) -> str | None:
    """The key of `trusted` (hex) that signed `data`, or None. Never raises: malformed input signed nothing."""
    from nacl.exceptions import CryptoError
    from nacl.signing import VerifyKey

    for public in trusted:
        try:
            VerifyKey(bytes.fromhex(public)).verify(data, bytes.fromhex(signature_hex))
        except (CryptoError, ValueError, TypeError):
            continue
        return public
    return None
