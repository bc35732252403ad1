"""Make the embedded Fashion-MNIST files: all 10,000 test images, and 10,000 of the 60,000 training images.

    python data/fashion_mnist/make_subset.py [FOLDER WITH THE FOUR idx.gz FILES] [--out FOLDER]

The folder defaults to that of Debian's package `dataset-fashion-mnist`. The training subset has 1,000
images of each class, drawn without replacement with SEED; rows keep the official order, and `sample_id` is
the index in the official split. The same input, Pillow and pyarrow give the same bytes.
"""

import argparse
import gzip
import hashlib
import io
import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

SEED = 2017
TRAIN_PER_CLASS = 1_000
SIDE = 28
CLASSES = [  # as the hub spells them
    "T - shirt / top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
]  # fmt: skip
ORIGINALS = {  # file -> (bytes before the data, sha256 of the file after gunzip)
    "train-images-idx3-ubyte": (16, "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"),
    "train-labels-idx1-ubyte": (8, "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"),
    "t10k-images-idx3-ubyte": (16, "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"),
    "t10k-labels-idx1-ubyte": (8, "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"),
}


def read_original(folder: Path, name: str) -> np.ndarray:
    """Bytes after the header of one original file; ValueError where its checksum is another."""
    header, sha256 = ORIGINALS[name]
    content = gzip.decompress((folder / f"{name}.gz").read_bytes())
    actual = hashlib.sha256(content).hexdigest()
    if actual != sha256:
        raise ValueError(f"{folder / name}.gz is not the original: sha256 {actual}, expected {sha256}")
    return np.frombuffer(content, np.uint8, offset=header)


def read_split(folder: Path, prefix: str, n: int) -> tuple[np.ndarray, np.ndarray]:
    """images uint8 [n, 28, 28] and labels int64 [n]; every class has n / 10 images."""
    images = read_original(folder, f"{prefix}-images-idx3-ubyte").reshape(n, SIDE, SIDE)
    labels = read_original(folder, f"{prefix}-labels-idx1-ubyte").astype(np.int64)
    counts = np.bincount(labels, minlength=len(CLASSES)).tolist()
    if counts != [n // len(CLASSES)] * len(CLASSES):
        raise ValueError(f"{prefix}: images a class {counts}, expected {n // len(CLASSES)} of each")
    return images, labels


def draw_stratified(labels: np.ndarray, per_class: int, seed: int) -> np.ndarray:
    """Sorted indices of per_class images of each class."""
    rng = np.random.default_rng(seed)
    picks = [rng.choice(np.flatnonzero(labels == k), per_class, replace=False) for k in range(len(CLASSES))]
    return np.sort(np.concatenate(picks))


def encode_png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def write_parquet(path: Path, images: np.ndarray, labels: np.ndarray, sample_ids: np.ndarray) -> None:
    """Write one split in the hub's layout, plus `sample_id`; the file appears whole or not at all."""
    features = {
        "image": {"_type": "Image"},
        "label": {"names": CLASSES, "_type": "ClassLabel"},
        "sample_id": {"dtype": "int64", "_type": "Value"},
    }
    pictures = [{"bytes": encode_png(image), "path": None} for image in images]
    table = pa.table(
        {
            "image": pa.array(pictures, pa.struct({"bytes": pa.binary(), "path": pa.string()})),
            "label": pa.array(labels, pa.int64()),
            "sample_id": pa.array(sample_ids, pa.int64()),
        }
    ).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    part = path.with_name(path.name + ".part")
    pq.write_table(table, part, compression="zstd", compression_level=19, use_dictionary=False)
    os.replace(part, path)
    content = path.read_bytes()
    print(f"{hashlib.sha256(content).hexdigest()}  {path.name}  {len(labels)} images, {len(content)} bytes")


def main() -> None:
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout)
    parser.add_argument("source", nargs="?", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent)
    args = parser.parse_args()
    missing = [f"{name}.gz" for name in ORIGINALS if not (args.source / f"{name}.gz").is_file()]
    if missing:
        parser.error(
            f"{args.source} lacks {', '.join(missing)}: apt-get install dataset-fashion-mnist, or name the "
            "folder that holds the four files of https://github.com/zalandoresearch/fashion-mnist"
        )
    args.out.mkdir(parents=True, exist_ok=True)
    images, labels = read_split(args.source, "t10k", 10_000)
    write_parquet(args.out / "test-00000-of-00001.parquet", images, labels, np.arange(len(labels)))
    images, labels = read_split(args.source, "train", 60_000)
    kept = draw_stratified(labels, TRAIN_PER_CLASS, SEED)
    write_parquet(args.out / "train-00000-of-00001.parquet", images[kept], labels[kept], kept)


if __name__ == "__main__":
    main()
