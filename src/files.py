"""Files that appear whole or not at all, and their checksums."""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from jaxtyping import UInt8


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
        os.umask(mask := os.umask(0o077))  # there is no other way to read it
        partial.chmod(0o666 & ~mask)  # some writers leave a file that only its owner can read
        with open(partial, "rb") as file:
            os.fsync(file.fileno())  # a rename may reach the disk before the data does
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_images(path: Path | str, images: UInt8[np.ndarray, "n h w 3"], **beside: np.ndarray) -> None:
    """Write images as a compressed .npz, of grey ones a single channel, with the arrays that belong beside them."""
    grey = (images == images[..., :1]).all()
    with written_whole(path) as partial, open(partial, "wb") as file:
        np.savez_compressed(file, images=images[..., :1] if grey else images, **beside)


def read_images(path: Path | str) -> dict[str, np.ndarray]:
    """The arrays of such a file, `images` in three channels again."""
    with np.load(path, allow_pickle=False) as file:
        arrays = dict(file)
    return arrays | {"images": np.broadcast_to(arrays["images"], (*arrays["images"].shape[:3], 3))}


def read_json(path: Path | str, **kinds: type) -> dict:
    """The object in a JSON file; ValueError with the file's name for a damaged one.

    kinds: the types of values that must be there, such as sha256=str; one that may be None need not be there.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError(f"a {type(content).__name__} and no object")
        if wrong := [key for key, kind in kinds.items() if not isinstance(content.get(key), kind)]:
            raise ValueError(f"without a right {', '.join(wrong)}")
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged ({error}); restore it, or delete it to have it made again") from None
    return content


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
