"""Files that appear whole or not at all, and their checksums."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_whole(path: Path | str) -> Iterator[Path]:
    """Give a path beside `path` to write to; on success it is renamed to `path`, on failure removed.

    A reader sees the old file or the new one, never half of either, also after a power cut.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")  # two processes may write the same file
    try:
        yield partial
        partial.chmod(0o644)  # some writers leave a file that only its owner can read
        with open(partial, "rb") as file:
            os.fsync(file.fileno())  # a rename may reach the disk before the data does
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def sha256(path: Path | str) -> str:
    """Hexadecimal sha256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(*tensors) -> str:
    """A short checksum of the values, to tell one start or one data set from another."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.detach().cpu().contiguous().numpy())
    return digest.hexdigest()[:16]
