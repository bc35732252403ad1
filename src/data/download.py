"""Downloads from Google Drive, whole or not at all: any public file by its id, and the study's betons.

Beside each file lies `<file>.json` with the sha256 of its first download, which it must keep.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

from src.data.beton import read_beton
from src.data.records import DATASETS, DatasetRecord
from src.files import read_json, written_whole
from src.files import sha256 as hash_file
from src.paths import DATA

BETON_FOLDER = "15e2AWuY_vVyGluxiVlgRZnswT-We0RfA"  # public, of the 2023 report
TIMEOUT = (10, 60)  # seconds to connect, and to wait for the next byte
RETRIES = 2


def download_drive_file(
    file_id: str, target: Path | str, *, sha256: str | None = None, check: Callable[[Path], dict] | None = None
) -> Path:
    """The path `target`, with the public Drive file `file_id`, fetched unless it is there.

    sha256: of the file; None takes what `<target>.json` has recorded since the first download.
    check: called with the file before it gets its name; returns what to record besides, or raises ValueError.
    Raises ValueError for a file that is not right (a new one is not kept), RuntimeError if Drive does not give it.
    """
    target, card = Path(target), Path(f"{target}.json")
    recorded = read_json(card, sha256=str) if card.exists() else {}
    wanted = sha256 or recorded.get("sha256")

    def compare(file: Path, advice: str) -> dict:
        """The facts to record of the file, if it is right."""
        actual = hash_file(file)
        if wanted and actual != wanted:
            raise ValueError(f"{file} has sha256 {actual}, expected {wanted}: {advice}")
        extra = check(file) if check and not recorded else {}
        return {**extra, "sha256": actual, "bytes": file.stat().st_size, "source": f"Google Drive file {file_id}"}

    if target.exists():
        about = compare(target, f"remove {target.name} and {card.name} to fetch it again")
    else:
        with written_whole(target) as part:
            _fetch(file_id, part, target)
            about = compare(part, f"Drive now gives another file for {file_id}; it is not kept")
    if not recorded:
        with written_whole(card) as part:
            part.write_text(json.dumps(about, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return target


def fetch_betons(folder: Path | str = DATA) -> list[Path]:
    """The study's CIFAR betons from its public Drive folder, at folder/<name>/<file>; prints what is there.

    A file that `read_beton` refuses, or with other images or classes than its split has, is not kept.
    Raises RuntimeError if Drive does not answer or lacks a file, ValueError for a file that is not right.
    """
    wanted = {f"{r.name}/{file}": (r, split) for r in DATASETS.values() for split, file in r.betons.items()}
    link = f"https://drive.google.com/drive/folders/{BETON_FOLDER}"
    import gdown  # half a second to import

    try:
        listing = gdown.download_folder(id=BETON_FOLDER, skip_download=True, quiet=True, timeout=TIMEOUT)
    except Exception as error:  # of requests, or gdown's own
        raise RuntimeError(
            f"{link} cannot be listed ({_first_line(error)}). What to do: go online and run this again, or "
            f"fetch {', '.join(wanted)} from there in a browser into {folder}."
        ) from error
    ids = {file.path: file.id for file in listing}
    missing = [path for path in wanted if path not in ids]
    if missing:
        raise RuntimeError(f"{link} lacks {', '.join(missing)}; it has {', '.join(ids) or 'nothing'}")
    targets = []
    for path, (record, split) in wanted.items():
        target = Path(folder) / path
        download_drive_file(ids[path], target, check=lambda part, r=record, s=split: _check_beton(part, r, s))
        print(f"{target}: {record.sizes[split]} images, {target.stat().st_size / 1e6:.0f} MB")
        targets.append(target)
    return targets


def _check_beton(path: Path, record: DatasetRecord, split: str) -> dict:
    """Content of the sidecar of a whole beton of this split; ValueError for any other."""
    images, labels = read_beton(path)
    n, side = record.sizes[split], record.side
    if images.shape != (n, side, side, 3) or labels.min() < 0 or labels.max() >= record.n_classes:
        raise ValueError(
            f"{path} is not {record.name} {split}: images {images.shape}, expected {(n, side, side, 3)}; "
            f"labels {labels.min()} to {labels.max()}, expected 0 to {record.n_classes - 1}"
        )
    return {"n": n, "classes": list(record.classes)}


def _fetch(file_id: str, part: Path, target: Path) -> None:
    """Download to `part`, or RuntimeError; remains of a broken transfer are removed."""
    import gdown

    try:
        gdown.download(id=file_id, output=str(part), timeout=TIMEOUT, retries=RETRIES)
        with open(part, "rb") as file:
            start = file.read(15).lower()
        if start.startswith((b"<!doctype html", b"<html")):
            raise ValueError("Drive sent a web page: too many downloads today, or the file is not public")
    except Exception as error:  # of requests, or gdown's own
        raise RuntimeError(
            f"{target.name} cannot be fetched from Google Drive ({_first_line(error)}). What to do: go online and "
            f"run this again, or fetch https://drive.google.com/uc?id={file_id} in a browser to {target}."
        ) from error
    finally:
        for rest in part.parent.glob(f"{part.name}?*"):
            os.unlink(rest)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:200]


def main() -> None:
    """Fetch the files, and end in one line where that cannot be done."""
    argparse.ArgumentParser(description="Fetch the 2023 report's CIFAR-10 and CIFAR-100 as .beton files.").parse_args()
    try:
        fetch_betons()
    except (RuntimeError, ValueError, OSError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
