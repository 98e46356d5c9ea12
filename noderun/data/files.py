"""Published files: found, verified, or one sentence about what to do."""

from __future__ import annotations

import gzip
import hashlib
import shutil
import urllib.request
import zipfile
from pathlib import Path

from noderun.record.files import replacing
from noderun.record.folders import tried

UNPACKED, RATIO = 64 << 20, 200  # bytes that are always read, and times a file's size beyond that


class DataError(Exception):
    """A data set cannot be used; the message says which file and what to do."""


class Unbounded(DataError):
    """A table whose files are as they should be has no bounded density as it was asked for."""


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


def check_unpacked(path: Path) -> None:
    """ValueError if a packed file holds far more than numbers can be packed into so few bytes."""
    allowed = max(UNPACKED, RATIO * path.stat().st_size)
    size = 0
    if path.suffix == ".npz":
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
    elif path.suffix == ".gz":
        with gzip.open(path) as file:
            while size <= allowed and (part := file.read(1 << 20)):
                size += len(part)
    if size > allowed:
        raise ValueError(f"it unpacks to more than {allowed >> 20} MiB, {RATIO} times its size")


def first_line(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__


def corrupt(path: Path, reason: str) -> DataError:
    return DataError(f"{path.absolute()} is corrupt ({reason}); delete it and fetch the set again")


def download(address: str, path: Path, md5: str | None = None) -> None:
    """Put a published file where it is looked for, whole or not at all; DataError in one sentence if that cannot be.

    ``md5`` None: its publisher states no sum, and its reader checks what it holds.
    """
    try:
        with tried(path.parent), urllib.request.urlopen(address, timeout=60) as source, replacing(path) as new:
            if source.geturl().startswith("http://"):  # where a redirection has led
                raise OSError(f"{source.geturl()} is not encrypted")
            with new.open("wb") as file:
                shutil.copyfileobj(source, file)
            if md5 is not None:
                read_verified(new, md5)
    except OSError as error:  # URLError is one
        raise DataError(f"{address} could not be downloaded to {path.parent.absolute()} ({error})") from error


def require(path: Path) -> None:
    """Raise DataMissing if there is no such file."""
    if not path.exists():
        raise DataMissing(f"no file {path.name} in {path.parent.absolute()}")
