"""Pictures, tables of pictures and betons that are damaged, hostile or odd: named or rightly taken, never half read."""

import gzip
import io
import json
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image, PngImagePlugin
from refusals import first_line

from src.data import load_images
from src.data.beton import write_beton
from src.data.readers import read_idx, read_parquet, read_table

Files = dict[str, bytes | Callable[[Path], None]]


def picture(size=(8, 8), kind="PNG", mode="RGB", **more) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size).save(buffer, kind, **more)
    return buffer.getvalue()


def huge_png(width: int, height: int) -> bytes:
    """A PNG of a few bytes that claims to be large."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def with_text(size: int) -> bytes:
    """A PNG with a compressed comment that unpacks to so many bytes."""
    about = PngImagePlugin.PngInfo()
    about.add_text("comment", "x" * size, zip=True)
    return picture(pnginfo=about)


def write(folder: Path, files: Files) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            content(path)


GOOD: Files = {f"{name}/{i}.png": picture() for name in ("ant", "bee") for i in range(3)}

FOLDERS = [  # files beside the good ones, or in place of them; what is asked; how the error begins
    ({}, "folder:~/ant/0.png", "no folder ~/ant/0.png (seen from "),
    ({}, "folder:~/none", "no folder ~/none (seen from "),
    ({}, "folder:~@-3", "no folder ~@-3"),
    ({}, "folder:~/ant", "~/ant has no sub-folders; each class is one"),
    ({}, "folder:~@0", "~@0 asks for images of 0 pixels a side; take 1 to 4096"),
    ({}, "folder:~@1000000", "~@1000000 asks for images of 1000000 pixels a side; take 1 to 4096"),
    ({"cat/x.txt": b""}, "folder:~", "~/cat holds no .png, .webp, .jpg"),
    ({"cat/x.svg": b"<svg/>"}, "folder:~", "~/cat holds no .png"),
    ({"cat/y.heic": b""}, "folder:~", "~/cat/y.heic is a picture that is not read; convert it to one of .png"),
    ({"cat/x.png/y.txt": b""}, "folder:~", "~/cat holds no .png"),
    ({"cat/x.png": picture()}, "folder:~", "~: class cat has one image, which cannot be in train and in test"),
    ({"train/a/0.png": picture()}, "folder:~", "~ has train, and no sub-folder test or testing or validation or valid"),
    (
        {"train/a/0.png": picture(), "test/b/0.png": picture()},
        "folder:~",
        "the class sub-folders differ between ~/train",
    ),
    (
        {"train/a/0.png": picture(), "test/A/0.png": picture()},
        "folder:~",
        "the class sub-folders differ between ~/train",
    ),
    ({"ant/x.png": b""}, "folder:~", "~: image 3 (~/ant/x.png) cannot be decoded: cannot identify image file"),
    ({"ant/x.png": b"<svg></svg>"}, "folder:~", "~: image 3 (~/ant/x.png) cannot be decoded"),
    ({"ant/x.png": picture()[:-30]}, "folder:~", "~: image 3 (~/ant/x.png) cannot be decoded"),
    ({"ant/x.jpg": picture((64, 64), "JPEG")[:-99]}, "folder:~@8", "~/ant/x.jpg cannot be decoded: "),
    ({"ant/x.png": b"\x89PNG\r\n\x1a\n" + bytes(99)}, "folder:~", "~: image 3 (~/ant/x.png) cannot be decoded"),
    (
        {"ant/x.png": huge_png(60_000, 60_000)},
        "folder:~",
        "~: image 3 (~/ant/x.png) cannot be decoded: Image size (3600",
    ),
    (
        {"ant/x.png": huge_png(60_000, 60_000)},
        "folder:~@8",
        "~/ant/x.png cannot be decoded: Image size (3600000000 pix",
    ),
    ({"ant/x.png": huge_png(0, 8)}, "folder:~", "~: image 3 (~/ant/x.png) cannot be decoded"),
    ({"ant/x.png": with_text(10**8)}, "folder:~", "~: image 3 (~/ant/x.png) cannot be decoded"),
    (
        {"ant/x.png": picture((8, 9))},
        "folder:~",
        "~: image 3 (~/ant/x.png) is 8x9 pixels, image 0 is 8x8; make them one",
    ),
    (
        {"ant/x.jpg": picture(kind="JPEG", mode="CMYK")},
        "folder:~",
        "~: image 3 (~/ant/x.jpg) cannot be decoded: mode CMYK",
    ),
    ({"ant/x.png": picture(mode="I;16")}, "folder:~", "~: image 3 (~/ant/x.png) cannot be decoded: mode I;16 is not s"),
    (
        {"ant/x.tif": picture(kind="TIFF", mode="F")},
        "folder:~@8",
        "~/ant/x.tif cannot be decoded: mode F is not supported",
    ),
    (
        {"ant/x.png": picture(kind="ICNS", size=(16, 16))},
        "folder:~",
        "~: image 3 (~/ant/x.png) cannot be decoded: cannot",
    ),
    ({"ant/x.png": os.mkfifo}, "folder:~", "~/ant/x.png is no file but a pipe, a device or a broken link; remove it"),
    (
        {"ant/x.png": lambda path: path.symlink_to("/dev/zero")},
        "folder:~",
        "~/ant/x.png is no file but a pipe, a device",
    ),
    ({"ant/x.png": lambda path: path.symlink_to(path)}, "folder:~", "~/ant/x.png is no file but a pipe, a device"),
    ({}, "beton:~", "~ should hold one beton of test; it holds []"),
    ({"a.beton": b""}, "beton:~/a.beton", "~/a.beton is not a beton: shorter than a header, or a folder"),
    ({"a.beton": os.mkfifo}, "beton:~/a.beton", "~/a.beton is not a beton: shorter than a header, or a folder"),
    ({"a.beton": picture()}, "beton:~/a.beton", "~/a.beton is not a beton"),
    ({"train.beton": b""}, "beton:~/train.beton", "~/train.beton holds train by its name, not test; name the folder"),
    (
        {"test_a.beton": b"", "test_b.beton": b""},
        "beton:~",
        "~ should hold one beton of test; it holds ['test_a.beton', ",
    ),
]


@pytest.mark.parametrize(("files", "name", "says"), FOLDERS, ids=lambda value: str(value).split(" at 0x")[0][:50])
def test_pictures_that_cannot_be_read_are_named(files, name, says, tmp_path):
    write(tmp_path, GOOD | files)
    asked = name.replace("~", str(tmp_path))
    both = lambda: [np.asarray(load_images(asked, split).images) for split in ("test", "train")]  # noqa: E731
    assert first_line(both, tmp_path).startswith(says)


TAKEN = [  # files beside the good ones; numbers of classes and of images
    ({"ant/x.PNG": picture()}, 2, 7),
    ({"ant/x.jpg": picture()}, 2, 7),  # a PNG all the same
    ({"ant/x.gif": picture(kind="GIF", mode="P", save_all=True, append_images=[Image.new("P", (8, 8), 1)])}, 2, 7),
    ({"ant/x.png": picture(mode="1")}, 2, 7),
    ({"ant/x.png": picture(mode="LA")}, 2, 7),
    ({"ant/deep/er/x.png": picture()}, 2, 7),
    ({"é t é/1 2.png": picture(), "é t é/3\n4.png": picture()}, 3, 8),
    ({"$(touch F)/1.png": picture(), "$(touch F)/; touch F.png": picture()}, 3, 8),
    ({"<b>x</b>/1.png": picture(), "<b>x</b>/2.png": picture()}, 3, 8),
    ({".git/x.png": b"", "ant/.ipynb_checkpoints/x.png": b"", "__MACOSX/._x.png": b"", "Thumbs.db": b""}, 2, 6),
    ({"ant/x.png": lambda path: path.symlink_to("0.png")}, 2, 7),
]


@pytest.mark.parametrize(("files", "n_classes", "n"), TAKEN, ids=lambda value: str(value).split(" at 0x")[0][:50])
def test_odd_pictures_that_are_right_are_taken(files, n_classes, n, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "own", GOOD | files)
    for name in ("folder:own", f"a=folder:{tmp_path}/own@4"):
        parts = [load_images(name, split) for split in ("train", "test")]
        assert {len(part.classes) for part in parts} == {n_classes} and sum(map(len, parts)) == n
    assert [path.name for path in tmp_path.iterdir()] == ["own"]


CELLS = [{"bytes": picture(), "path": None}] * 2

TABLES = [  # columns, metadata, how the error goes on after the file's name
    ({"img": CELLS}, {}, "no column label; it has img"),
    ({"img": [1, 2], "label": [0, 1]}, {}, "column img does not hold images (a struct of bytes and path)"),
    ({"img": [{"bytes": None, "path": None}] * 2, "label": [0, 1]}, {}, "column img does not hold images"),
    ({"img": [{"bytes": None, "path": "none.png"}] * 2, "label": [0, 1]}, {}, "a picture that it names cannot be read"),
    ({"img": [{"bytes": None, "path": "/etc"}] * 2, "label": [0, 1]}, {}, "a picture that it names cannot be read"),
    ({"img": [{"bytes": b"x", "path": "a.png"}] * 2, "label": [0, 1]}, {}, "image 0 cannot be decoded"),
    ({"img": CELLS, "label": ["a", "b"]}, {}, "label should be integers, is string with 0 empty"),
    ({"img": CELLS, "label": [0.0, 1.0]}, {}, "label should be integers, is double with 0 empty"),
    ({"img": CELLS, "label": [0, None]}, {}, "label should be integers, is int64 with 1 empty"),
    (
        {"img": CELLS, "label": [0, 1], "sample_id": [0.5, 1]},
        {},
        "sample_id should be integers, is double with 0 empty",
    ),
    (
        {"img": CELLS, "label": [0, 1], "sample_id": [0, None]},
        {},
        "sample_id should be integers, is int64 with 1 empty",
    ),
    ({"img": CELLS, "label": [0, 1]}, "{", "its metadata are damaged (Expecting property name"),
    ({"img": CELLS, "label": [0, 1]}, "[]", "its metadata are damaged ('list' object has no attribute 'get')"),
    ({"img": CELLS, "label": [0, 1]}, '{"info": 3}', "its metadata are damaged ("),
    ({"img": CELLS, "label": [0, 1]}, '{"info": {"features": []}}', "its metadata are damaged ("),
    ({"img": CELLS, "label": [0, 1]}, "abc", "names of classes should be a list of texts, not 'abc'"),
    ({"img": CELLS, "label": [0, 1]}, [0, 1], "names of classes should be a list of texts, not [0, 1]"),
    ({"img": CELLS, "label": [0, 1]}, {"a": 0}, "names of classes should be a list of texts, not {'a': 0}"),
]


@pytest.mark.parametrize(("columns", "names", "says"), TABLES, ids=lambda value: str(value).split(" at 0x")[0][:50])
def test_a_table_of_pictures_that_is_none_is_refused_by_name(columns, names, says, tmp_path):
    raw = names if isinstance(names, str) and names != "abc" else None
    about = raw or json.dumps({"info": {"features": {"label": {"names": names}}}})
    table = pa.table(columns).replace_schema_metadata({"huggingface": about})
    said = first_line(lambda: read_table(table, "here", "img", "label"), tmp_path)
    assert said.startswith(f"here: {says}")


def test_a_table_with_a_column_twice_is_refused(tmp_path):
    table = pa.table([pa.array(CELLS), pa.array(CELLS), pa.array([0, 1])], names=["img", "img", "label"])
    assert first_line(lambda: read_table(table, "here", "img", "label"), tmp_path).startswith(
        "here: no column img; it has"
    )


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + bytes(99) + b"PAR1", picture()])
def test_a_foreign_parquet_file_is_refused_by_name(content, tmp_path):
    (tmp_path / "test-00000-of-00001.parquet").write_bytes(content)
    said = first_line(lambda: read_parquet(tmp_path, "test", "img", "label"), tmp_path)
    assert said.startswith("~/test-00000-of-00001.parquet: cut off, or not a parquet file (")


IDX = [
    b"",
    struct.pack(">4I", 0x803, 2**32 - 1, 2**16, 2**16),
    struct.pack(">4I", 0x803, 2, 8, 8) + bytes(127),
    struct.pack(">4I", 0x803, 2, 8, 8) + bytes(129),
    struct.pack(">4I", 0x801, 2, 8, 8) + bytes(128),
]


@pytest.mark.parametrize("content", IDX, ids=repr)
@pytest.mark.parametrize("zipped", [True, False])
def test_idx_files_that_claim_another_size_are_refused_by_name(content, zipped, tmp_path):
    name = "t10k-images-idx3-ubyte" + ".gz" * zipped
    (tmp_path / name).write_bytes(gzip.compress(content) if zipped else content)
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(struct.pack(">2I", 0x801, 2) + bytes(2))
    said = first_line(lambda: read_idx(tmp_path, "test"), tmp_path)
    assert said.startswith(f"~/{name}: cut off, or not an idx file (")


CLASSES = [
    (["a", 1], "~/test.beton: names of classes should be a list of texts, not ['a', 1]"),
    ([["a"], ["b"]], "~/test.beton: names of classes should be a list of texts, not [['a'], ['b']]"),
    (["a", "a"], "~/test.beton: classes must be a tuple of different names, not ('a', 'a')"),
    (["a"], "~/test.beton: label 1 of image 1 is outside 0 to 0"),
    ("ab", "~/test.beton.json is not JSON with n, classes, sha256; write the beton again"),
]


@pytest.mark.parametrize(("classes", "says"), CLASSES, ids=str)
def test_classes_of_a_beton_that_are_no_names_are_refused(classes, says, tmp_path):
    write_beton(tmp_path / "test.beton", np.zeros((2, 4, 4, 3), np.uint8), [0, 1], classes=["a", "b"])
    beside = tmp_path / "test.beton.json"
    beside.write_text(json.dumps(json.loads(beside.read_text()) | {"classes": classes}))
    assert first_line(lambda: load_images(f"beton:{tmp_path}", "test"), tmp_path).startswith(says)
