"""Published files: found, verified, or one sentence about what to do."""

from __future__ import annotations

import hashlib
from pathlib import Path


class DataError(Exception):
    """A data set cannot be used; the message says which file and what to do."""


class DataMissing(DataError):
    """Files are not where they were looked for."""


def read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise DataMissing(f"no file {path.name} in {path.parent.absolute()}") from None
    except OSError as error:
        raise DataError(f"{path.absolute()} cannot be read ({error.strerror})") from error


def read_verified(path: Path, md5: str) -> bytes:
    """The file's bytes, whose MD5 is the published one; raises DataMissing or DataError."""
    content = read_bytes(path)
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != md5:
        raise corrupt(path, f"its MD5 is {found}, published is {md5}")
    return content


def corrupt(path: Path, reason: str) -> DataError:
    return DataError(f"{path.absolute()} is corrupt ({reason}); delete it and fetch the set again")
