"""Certificates of any time, for tests of what a wrong clock makes of them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest


def make_certificate(folder: Path, not_before: str, not_after: str) -> tuple[Path, Path]:
    """(key, self-signed certificate of 127.0.0.1), valid between two moments as YYYYMMDDhhmmssZ."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl (apt-get install openssl)")
    key, asked, made = (folder / name for name in ("key.pem", "asked.pem", "cert.pem"))
    (folder / "issued").touch()
    (folder / "serial").write_text("01\n")
    rules = folder / "ca.cnf"
    rules.write_text(
        f"[ca]\ndefault_ca = own\n[own]\ndatabase = {folder / 'issued'}\nnew_certs_dir = {folder}\n"
        f"serial = {folder / 'serial'}\n"
        "default_md = sha256\npolicy = any\nx509_extensions = host\n[any]\ncommonName = supplied\n"
        "[host]\nsubjectAltName = IP:127.0.0.1\n"
    )
    between = ("-startdate", not_before, "-enddate", not_after)
    for command in (
        ["req", "-new", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=127.0.0.1", "-keyout", key, "-out", asked],
        [
            "ca",
            "-batch",
            "-notext",
            "-config",
            rules,
            "-selfsign",
            "-in",
            asked,
            "-keyfile",
            key,
            "-out",
            made,
            *between,
        ],
    ):
        subprocess.run(["openssl", *command], check=True, capture_output=True)
    return key, made
