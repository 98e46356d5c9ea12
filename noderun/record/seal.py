"""A seal: the SHA-256 of a zip archive as the archive's own comment, which readers such as torch.load pass over."""

from __future__ import annotations

import hashlib
import os
import struct
from io import BufferedRandom
from pathlib import Path

DIGITS = 64


def seal(file: BufferedRandom) -> None:
    """Append the sum to an archive that has no comment; ``file`` is open for reading and writing."""
    file.seek(0)
    digest = hashlib.file_digest(file, "sha256").hexdigest().encode()
    file.seek(-2, os.SEEK_END)  # the length of the comment, 0 so far
    file.write(struct.pack("<H", DIGITS) + digest)


def unsealed(path: Path) -> bytes | None:
    """The archive as it was before it was sealed, or None if the file is not as it was written."""
    content = path.read_bytes()
    archive, digest = content[: -DIGITS - 2] + bytes(2), content[-DIGITS:]
    return archive if hashlib.sha256(archive).hexdigest().encode() == digest else None


def seal_of(path: Path) -> str:
    """The sum that the file ends with, which is not compared with its content; OSError if it is too short."""
    with path.open("rb") as file:
        file.seek(-DIGITS, os.SEEK_END)
        return file.read().decode("ascii")
