"""Files that are whole or not there at all."""

from __future__ import annotations

import contextlib
import os
import secrets


def replace(path: str | os.PathLike[str], content: bytes) -> None:
    """Puts a file in its place, on the disk when this returns. Raises OSError; the former file is then as it was.

    Several may do so at once: the last one's stays.
    """
    folder, name = os.path.split(os.fspath(path))
    beside = os.path.join(folder, f".{name}.{secrets.token_hex(4)}")
    try:
        with open(beside, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(beside)
        raise
    # Some file systems cannot flush folders: after a power cut it may be the former file there.
    with contextlib.suppress(OSError):
        sync_folder(folder or ".")


def sync_folder(folder: str) -> None:
    """Has new names in a folder survive a power cut. Raises OSError."""
    at = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(at)
    finally:
        os.close(at)
