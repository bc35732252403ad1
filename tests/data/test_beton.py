"""`.beton` files against two independent sources: FFCV itself, and the format spelt out with `struct`."""

import gc
import hashlib
import io
import json
import os
import struct
from types import SimpleNamespace

import numpy as np
import pytest

from src.data.beton import read_beton, read_sidecar, sidecar_path, write_beton

MIB = 1 << 20
RAW, JPEG = 1, 0


def pictures(n: int, h: int, w: int, seed: int = 0) -> np.ndarray:
    """Colour gradients with a little noise: as smooth as photographs, so that JPEG hardly changes them."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0 : 1 : h * 1j, 0 : 1 : w * 1j]
    slopes = random.uniform(-120, 120, (2, n, 1, 1, 3))
    smooth = 128 + slopes[0] * (y[..., None] - 0.5) + slopes[1] * (x[..., None] - 0.5)
    return np.clip(smooth + random.normal(0, 6, (n, h, w, 3)), 0, 255).astype(np.uint8)


def any_labels(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-(2**62), 2**62, n)


def beton_by_hand(samples, *, fields=((2, "image"), (1, "label")), page_size=2 * MIB, version=2) -> bytes:
    """The format as DESIGN.md spells it out, one struct at a time.

    samples: rows (mode, height, width, encoded image, label).  fields: (type, name), RGB first and then
    scalars of eight bytes, each of which holds the label.
    """
    scalars = len(fields) - 1
    head = 24 + 1041 * len(fields) + (16 + 8 * scalars) * len(samples)
    pages, table, records = bytearray(), b"", b""
    start = (head + page_size - 1) // page_size * page_size
    for i, (mode, h, w, encoded, label) in enumerate(samples):
        if len(pages) % page_size + len(encoded) > page_size:
            pages += bytes(-len(pages) % page_size)
        table += struct.pack("<QQQ", i, start + len(pages), len(encoded))
        records += struct.pack("<BHHQ3x", mode, w, h, start + len(pages)) + struct.pack("<q", label) * scalars
        pages += encoded
    pages += bytes(-len(pages) % page_size)
    header = struct.pack("<HHIQQ", version, len(fields), page_size, len(samples), start + len(pages))
    described = b"".join(struct.pack("<B16s1024x", kind, name.encode()) for kind, name in fields)
    return (header + described + records).ljust(start, b"\0") + bytes(pages) + table


def raw_samples(images, labels) -> list:
    return [(RAW, *image.shape[:2], image.tobytes(), int(label)) for image, label in zip(images, labels, strict=True)]


# Shapes that try the page rules: one page; two pages of 682 images and one more image; two full pages; images
# of more than half a page; a large page; the smallest image.
SHAPES = [(5, 32, 32, 2 * MIB), (1365, 32, 32, 2 * MIB), (1364, 32, 32, 2 * MIB)]
SHAPES += [(3, 700, 800, 2 * MIB), (40, 27, 41, 8 * MIB), (2, 1, 1, 4 * MIB)]


@pytest.mark.parametrize(("n", "h", "w", "page_size"), SHAPES)
def test_writes_the_format_byte_for_byte_and_reads_it_back(tmp_path, n, h, w, page_size):
    images, labels = pictures(n, h, w), any_labels(n)
    write_beton(tmp_path / "a.beton", images, labels, page_size=page_size)
    assert (tmp_path / "a.beton").read_bytes() == beton_by_hand(raw_samples(images, labels), page_size=page_size)
    read_images, read_labels = read_beton(tmp_path / "a.beton")
    assert read_images.dtype == np.uint8 and read_labels.dtype == np.int64
    assert np.array_equal(read_images, images) and np.array_equal(read_labels, labels)
    assert read_images.flags.writeable and read_images.flags.c_contiguous  # ours to change, not the file


def test_takes_views_lists_and_small_integers(tmp_path):
    images = pictures(4, 8, 8)
    write_beton(str(tmp_path / "new" / "a.beton"), images[::-1].transpose(0, 2, 1, 3), [3, 0, 1, 2])
    read_images, read_labels = read_beton(str(tmp_path / "new" / "a.beton"))
    assert np.array_equal(read_images, images[::-1].transpose(0, 2, 1, 3))
    assert read_labels.tolist() == [3, 0, 1, 2]


# JPEG -------------------------------------------------------------------------------------------------------


def as_jpeg(image: np.ndarray) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=90)
    return file.getvalue()


def mixed_samples(n: int = 6, h: int = 24, w: int = 40) -> tuple[np.ndarray, list]:
    images = pictures(n, h, w)
    kinds = [(JPEG, as_jpeg) if i % 2 else (RAW, np.ndarray.tobytes) for i in range(n)]
    return images, [
        (mode, h, w, encode(image), i) for i, ((mode, encode), image) in enumerate(zip(kinds, images, strict=True))
    ]


def test_reads_jpeg_and_raw_samples_in_one_file(tmp_path):
    images, samples = mixed_samples()
    (tmp_path / "a.beton").write_bytes(beton_by_hand(samples))
    read_images, labels = read_beton(tmp_path / "a.beton")
    assert np.array_equal(read_images[::2], images[::2]) and labels.tolist() == [0, 1, 2, 3, 4, 5]
    error = np.abs(read_images[1::2].astype(int) - images[1::2])
    assert error.max() > 0 and error.mean() < 6  # JPEG loses the noise, not the picture


@pytest.mark.parametrize("spoil", [
    lambda jpeg: jpeg[: len(jpeg) // 2],
    lambda jpeg: jpeg[:-1],
    lambda jpeg: b"",
    lambda jpeg: bytes(len(jpeg)),
    lambda jpeg: as_jpeg(pictures(1, 40, 24)[0]),
], ids=["half", "one byte short", "empty", "zeros", "another size"])  # fmt: skip
def test_refuses_a_spoilt_jpeg_sample(tmp_path, spoil):
    _, samples = mixed_samples()
    mode, h, w, encoded, label = samples[3]
    samples[3] = (mode, h, w, spoil(encoded), label)
    (tmp_path / "a.beton").write_bytes(beton_by_hand(samples))
    with pytest.raises(ValueError, match=r"a\.beton.* sample 3 is no readable JPEG.* write it again"):
        read_beton(tmp_path / "a.beton")


# Damage -----------------------------------------------------------------------------------------------------


@pytest.fixture(params=["raw", "mixed"])
def whole(request, tmp_path):
    """A small file without a sidecar: its path, its bytes, and what a reader should find in it."""
    samples = raw_samples(pictures(6, 24, 40), range(6)) if request.param == "raw" else mixed_samples()[1]
    path = tmp_path / "a.beton"
    path.write_bytes(beton_by_hand(samples))
    return path, path.read_bytes(), read_beton(path)


def test_refuses_a_file_cut_off_anywhere(whole):
    path, content, _ = whole
    random = np.random.default_rng(0)
    records, pages, table = 24 + 2 * 1041, 2 * MIB, 4 * MIB
    assert struct.unpack_from("<Q", content, 16) == (table,) and len(content) == table + 6 * 24
    edges = [
        0,
        1,
        2,
        23,
        24,
        25,
        records - 1,
        records,
        records + 1,
        pages,
        pages + 1,
        table - 1,
        table,
        table + 1,
    ]
    inside_pages = random.integers(pages, table, 200).tolist()
    for length in sorted({*edges, *inside_pages, *range(table, len(content))}, reverse=True):
        with path.open("r+b") as file:
            file.truncate(length)
        with pytest.raises(ValueError, match=r"a\.beton"):
            read_beton(path)


def test_refuses_bytes_added_at_the_end(whole):
    path, content, _ = whole
    for added in (b"\0", bytes(24), content[-24:], struct.pack("<QQQ", 0, 4 * MIB, 0)):
        path.write_bytes(content + added)
        with pytest.raises(ValueError, match=r"a\.beton is cut off or overwritten"):
            read_beton(path)


def overwritten(path, content: bytes, place: int, value: bytes):
    """What `read_beton` gives when the bytes at `place` are replaced, or None if it refuses."""
    with path.open("r+b") as file:
        file.seek(place)
        file.write(value)
    try:
        return read_beton(path)
    except ValueError as error:
        assert "a.beton" in str(error)
        return None
    finally:
        with path.open("r+b") as file:
            file.seek(place)
            file.write(content[place : place + len(value)])


def structure_bytes() -> tuple[list[int], list[int]]:
    """Places that mean something to a reader of that file (not labels and pixels), and places that do not."""
    field, record, table = [24, 24 + 1041], 24 + 2 * 1041, 4 * MIB
    meaning = [*range(24), *field, *range(table, table + 6 * 24)]
    idle = [place for start in field for place in range(start + 1, start + 1041)]
    for i in range(6):
        meaning += range(record + 24 * i, record + 24 * i + 13)
        idle += range(record + 24 * i + 13, record + 24 * i + 16)
    return meaning, idle


def test_refuses_any_overwritten_byte_of_the_structure(whole):
    path, content, (images, labels) = whole
    random = np.random.default_rng(0)
    meaning, idle = structure_bytes()
    for place in meaning:
        for flip in {1, 128, 255, *random.integers(1, 256, 3).tolist()}:
            assert overwritten(path, content, place, bytes([content[place] ^ flip])) is None, (place, flip)
    for place in random.choice(idle, 300).tolist():  # names of fields, padding: nothing reads them
        result = overwritten(path, content, place, b"\xff")
        assert result is not None and np.array_equal(result[0], images) and np.array_equal(result[1], labels)


def test_overwritten_stretches_of_the_structure_never_give_other_pixels(whole):
    path, content, (images, _) = whole
    random = np.random.default_rng(1)
    meaning, _ = structure_bytes()
    refused = 0
    for _ in range(2000):
        place, length = int(random.choice(meaning)), int(random.integers(1, 40))
        stretch = min(length, len(content) - place)
        if random.random() < 0.5:
            value = random.bytes(stretch)
        else:  # something that stands elsewhere in the structure: plausible, but not here
            source = int(random.choice(meaning))
            value = content[source : source + stretch].ljust(stretch, b"\0")
        result = overwritten(path, content, place, value)
        refused += result is None
        assert result is None or np.array_equal(result[0], images), (place, value)
    assert refused > 1000


def swapped(samples: list, first: int, second: int, *, table: bool) -> bytes:
    """A file in which two samples have exchanged pointers, in the records or in the allocation table."""
    content = bytearray(beton_by_hand(samples))
    start, step, pointer = (4 * MIB, 24, 8) if table else (24 + 2 * 1041, 24, 5)
    a, b = start + step * first + pointer, start + step * second + pointer
    content[a : a + 8], content[b : b + 8] = content[b : b + 8], content[a : a + 8]
    return bytes(content)


@pytest.mark.parametrize("table", [False, True])
def test_refuses_exchanged_pointers(tmp_path, table):
    samples = raw_samples(pictures(6, 24, 40), range(6))
    (tmp_path / "a.beton").write_bytes(swapped(samples, 1, 4, table=table))
    with pytest.raises(ValueError, match="2 of 6 pointers differ from its allocation table"):
        read_beton(tmp_path / "a.beton")


def altered(samples: list, i: int, *, pointer: int | None = None, size: int | None = None) -> bytes:
    """A file that says, in the record and in the allocation table alike, that sample i lies elsewhere."""
    content = bytearray(beton_by_hand(samples))
    table = struct.unpack_from("<Q", content, 16)[0]
    if pointer is not None:
        struct.pack_into("<Q", content, 24 + 2 * 1041 + 24 * i + 5, pointer)
        struct.pack_into("<Q", content, table + 24 * i + 8, pointer)
    if size is not None:
        struct.pack_into("<Q", content, table + 24 * i + 16, size)
    return bytes(content)


START, PICTURE = 2 * MIB, 24 * 40 * 3  # first byte of the pages, bytes of a picture


@pytest.mark.parametrize("place", [
    (1, START + PICTURE - 1, PICTURE, "overlap"),
    (1, START, PICTURE, "overlap"),
    (0, START - 1, PICTURE, "outside the data"),
    (0, 0, PICTURE, "outside the data"),
    (5, 2 * START - PICTURE + 1, PICTURE, "overlap, or cross"),
    (5, 2 * START, PICTURE, "overlap, or cross"),
    (5, 2 * START + 1, PICTURE, "outside the data"),
    (5, 2**63, PICTURE, "outside the data"),
    (5, 2**64 - PICTURE, PICTURE, "outside the data"),
    (5, START + 5 * PICTURE, 2**64 - 1, "outside the data"),
    (5, START + 5 * PICTURE, 2**63, "outside the data"),
    (5, START + 5 * PICTURE, 2 * MIB + 1, "outside the data"),
    (5, START + 5 * PICTURE, 2 * MIB, "overlap, or cross"),
])  # fmt: skip
def test_refuses_places_that_cannot_be_even_where_records_and_table_agree(tmp_path, place):
    i, pointer, size, message = place
    samples = raw_samples(pictures(6, 24, 40), range(6))
    (tmp_path / "a.beton").write_bytes(altered(samples, i, pointer=pointer, size=size))
    with pytest.raises(ValueError, match=message):
        read_beton(tmp_path / "a.beton")


def test_refuses_an_image_across_two_pages(tmp_path):
    samples = raw_samples(pictures(683, 32, 32), range(683))  # 682 fill the first page but for 2,048 bytes
    (tmp_path / "a.beton").write_bytes(altered(samples, 682, pointer=4 * MIB - 2000))
    with pytest.raises(ValueError, match="overlap, or cross a page"):
        read_beton(tmp_path / "a.beton")


def test_rows_of_the_allocation_table_may_stand_in_any_order(whole):
    path, content, (images, labels) = whole  # as FFCV's workers leave them
    rows = [content[4 * MIB :][24 * i : 24 * i + 24] for i in (3, 0, 5, 4, 1, 2)]
    path.write_bytes(content[: 4 * MIB] + b"".join(rows))
    read_images, read_labels = read_beton(path)
    assert np.array_equal(read_images, images) and np.array_equal(read_labels, labels)


# Sidecar ----------------------------------------------------------------------------------------------------


def test_sidecar_holds_classes_and_checksum(tmp_path):
    path = tmp_path / "a.beton"
    write_beton(path, pictures(3, 8, 8), [0, 2, 1], classes=["cat", "dög", "owl"])
    assert sidecar_path(path) == tmp_path / "a.beton.json"
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    expected = {"n": 3, "classes": ["cat", "dög", "owl"], "sha256": sha256}
    assert read_sidecar(path) == expected == json.loads(sidecar_path(path).read_text(encoding="utf-8"))
    write_beton(path, pictures(2, 8, 8), [7, -1])
    assert read_sidecar(path)["classes"] is None and read_sidecar(path)["n"] == 2
    sidecar_path(path).unlink()
    assert read_sidecar(path) is None
    assert len(read_beton(path)[1]) == 2  # a beton of FFCV's own has no sidecar


def test_with_a_sidecar_any_overwritten_byte_is_refused(tmp_path):
    path = tmp_path / "a.beton"
    write_beton(path, pictures(6, 24, 40), np.arange(6), page_size=2 * MIB)
    content = path.read_bytes()
    random = np.random.default_rng(0)
    pixels = random.integers(2 * MIB, 2 * MIB + 6 * 24 * 40 * 3, 60).tolist()
    labels = [24 + 2 * 1041 + 24 * i + 16 + k for i in range(6) for k in range(8)]
    for place in [*pixels, *labels, *random.integers(0, len(content), 40).tolist()]:
        assert overwritten(path, content, place, bytes([content[place] ^ 1])) is None, place
    assert np.array_equal(read_beton(path)[0], pictures(6, 24, 40))


@pytest.mark.parametrize("text", ["", "{", "[]", '{"n": 3}', '{"n": "3", "classes": null, "sha256": ""}', "\xff"])
def test_refuses_a_broken_sidecar(tmp_path, text):
    write_beton(tmp_path / "a.beton", pictures(3, 8, 8), [0, 1, 2])
    sidecar_path(tmp_path / "a.beton").write_text(text, encoding="latin1")
    with pytest.raises(ValueError, match=r"a\.beton\.json .*sha256.* write the beton again"):
        read_beton(tmp_path / "a.beton")


def test_refuses_the_sidecar_of_another_file(tmp_path):
    for name in "ab":
        write_beton(tmp_path / f"{name}.beton", pictures(3, 8, 8, seed=ord(name)), [0, 1, 2])
    sidecar_path(tmp_path / "a.beton").replace(sidecar_path(tmp_path / "b.beton"))
    with pytest.raises(ValueError, match=r"b\.beton is not the file that b\.beton\.json was written for"):
        read_beton(tmp_path / "b.beton")


def test_refuses_a_sidecar_with_another_count(tmp_path):
    path = tmp_path / "a.beton"
    write_beton(path, pictures(3, 8, 8), [0, 1, 2])
    sidecar_path(path).write_text(json.dumps(read_sidecar(path) | {"n": 2}))
    with pytest.raises(ValueError, match="was written for"):
        read_beton(path)


@pytest.mark.parametrize("step", ["src.data.beton.write_file", "src.data.beton.json.dumps", "src.files.os.replace"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, step):
    path = tmp_path / "a.beton"
    write_beton(path, pictures(3, 8, 8), [0, 1, 2])
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}

    def fail(*arguments, **options):
        if step.endswith("write_file"):
            arguments[0].write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(step, fail)
    with pytest.raises(OSError, match="disk full"):
        write_beton(path, pictures(5, 8, 8), range(5))
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


# Refusals ---------------------------------------------------------------------------------------------------


def foreign_files() -> dict[str, bytes]:
    from PIL import Image

    png = io.BytesIO()
    Image.fromarray(pictures(1, 64, 64)[0]).save(png, "PNG")
    random = np.random.default_rng(0)
    files = {"png": png.getvalue(), "empty": b"", "text": b"sample,label\n" * 99, "zeros": bytes(MIB)}
    files["version 1"] = beton_by_hand(raw_samples(pictures(2, 8, 8), [0, 1]), version=1)
    return files | {f"random {i}": random.bytes(5000) for i in range(20)}


@pytest.mark.parametrize("content", foreign_files().values(), ids=foreign_files())
def test_refuses_a_foreign_file(tmp_path, content):
    (tmp_path / "a.beton").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.beton is not a beton.*(give a file|check the path)"):
        read_beton(tmp_path / "a.beton")


def test_refuses_random_bytes_behind_the_right_version(tmp_path):
    random = np.random.default_rng(0)
    for _ in range(200):
        (tmp_path / "a.beton").write_bytes(b"\2\0" + random.bytes(int(random.integers(1, 9000))))
        with pytest.raises(ValueError, match=r"a\.beton"):
            read_beton(tmp_path / "a.beton")


def test_refuses_a_missing_file_and_a_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no beton at .*gone\.beton; check the path"):
        read_beton(tmp_path / "gone.beton")
    with pytest.raises(ValueError, match="is not a beton"):
        read_beton(tmp_path)


def test_refuses_images_without_pixels(tmp_path):
    (tmp_path / "a.beton").write_bytes(beton_by_hand([(RAW, 0, 8, b"", 1), (RAW, 0, 8, b"", 2)], page_size=2 * MIB))
    with pytest.raises(ValueError, match=r"one size, but has heights \[0\]"):
        read_beton(tmp_path / "a.beton")


def test_refuses_images_of_different_sizes(tmp_path):
    samples = raw_samples([*pictures(2, 8, 9), *pictures(1, 8, 7)], range(3))
    (tmp_path / "a.beton").write_bytes(beton_by_hand(samples))
    with pytest.raises(ValueError, match=r"one size, but has heights \[8\] and widths \[7, 9\]; add @SIDE"):
        read_beton(tmp_path / "a.beton")


IMAGE = (2, "image")
CHOICES = {  # fields of a file -> what is said about them, None where the label is found
    (IMAGE, (1, "target")): None,
    (IMAGE, (1, "index"), (1, "label")): None,
    (IMAGE, (0, "label"), (1, "class")): None,
    (IMAGE, (0, "label")): "one int field, .*it has none",
    (IMAGE, (1, "fine"), (1, "coarse")): "one called label among several; it has fine, coarse",
    (IMAGE, (1, "label"), (1, "label")): "it has label, label",
    (IMAGE, (255, "own"), (1, "label")): r"fields of types \[255\], not 0 to 6",
}


@pytest.mark.parametrize("fields", CHOICES, ids=str)
def test_picks_the_label_or_says_why_not(tmp_path, fields):
    images = pictures(3, 8, 8)
    (tmp_path / "a.beton").write_bytes(beton_by_hand(raw_samples(images, [5, 6, 7]), fields=fields))
    if CHOICES[fields] is None:
        assert np.array_equal(read_beton(tmp_path / "a.beton")[0], images)
        assert read_beton(tmp_path / "a.beton")[1].tolist() == [5, 6, 7]
    else:
        with pytest.raises(ValueError, match=CHOICES[fields]):
            read_beton(tmp_path / "a.beton")


GOOD = dict(images=np.zeros((3, 8, 8, 3), np.uint8), labels=[0, 1, 2])


@pytest.mark.parametrize(("change", "message"), [
    (dict(images=np.zeros((3, 8, 8, 3))), r"uint8 \[n, h, w, 3\].*float64"),
    (dict(images=np.zeros((3, 3, 8, 8), np.uint8)), r"uint8 \[n, h, w, 3\].*\(3, 3, 8, 8\)"),
    (dict(images=np.zeros((0, 8, 8, 3), np.uint8), labels=[]), "at least one"),
    (dict(images=np.zeros((1, 1, 65536, 3), np.uint8), labels=[0]), "65535"),
    (dict(labels=[0, 1]), r"labels must be int64 \[3\], not int64 \(2,\)"),
    (dict(labels=[0.0, 1.0, 2.0]), "not float64"),
    (dict(labels=np.array([0, 1, 2**63], np.uint64)), "not uint64"),
    (dict(classes=["a", "b"]), "labels 0 to 2 are not indices of 2 classes"),
    (dict(labels=[-1, 0, 1], classes=["a", "b"]), "labels -1 to 1"),
    (dict(page_size=3 * MIB), "power of two"),
    (dict(page_size=1 * MIB), "power of two from 2097152"),
    (dict(page_size=1 << 32), "power of two"),
    (dict(images=np.zeros((1, 900, 900, 3), np.uint8), labels=[0], page_size=2 * MIB), "an image of 2430000"),
])  # fmt: skip
def test_refuses_what_the_format_cannot_hold(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        write_beton(tmp_path / "a.beton", **(GOOD | change))
    assert not list(tmp_path.iterdir())


# FFCV -------------------------------------------------------------------------------------------------------

# numba complains from the garbage collector when FFCV's compiled functions go
quiet = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(scope="module")
def ffcv():
    """FFCV's `fields`, and its writer and reader as `write(path, rows, **fields)` and `read(path)`."""
    if not os.environ.get("REQUIRE_FFCV"):
        pytest.importorskip("ffcv", reason="FFCV is optional: `make ffcv` installs it")
    import torch
    from ffcv import fields
    from ffcv.fields.decoders import IntDecoder, SimpleRGBImageDecoder
    from ffcv.loader import Loader, OrderOption
    from ffcv.transforms import ToTensor
    from ffcv.writer import DatasetWriter

    threads = torch.get_num_threads()

    def write(path, rows, *, page_size=2 * MIB, workers=1, **named):
        DatasetWriter(str(path), named, page_size=page_size, num_workers=workers).from_indexed_dataset(rows)

    def read(path, os_cache=True):
        pipelines = {"image": [SimpleRGBImageDecoder(), ToTensor()], "label": [IntDecoder(), ToTensor()]}
        options = dict(num_workers=1, order=OrderOption.SEQUENTIAL, drop_last=False, pipelines=pipelines)
        loader = Loader(str(path), batch_size=7, os_cache=os_cache, **options)
        # batches are buffers that FFCV fills again
        images, labels = zip(*[(images.clone(), labels.clone()) for images, labels in loader], strict=True)
        del loader
        gc.collect()
        return torch.cat(images).numpy(), torch.cat(labels)[:, 0].numpy()

    yield SimpleNamespace(write=write, read=read, fields=fields)
    torch.set_num_threads(threads)  # FFCV sets them for the whole process


@quiet
@pytest.mark.parametrize(("n", "h", "w", "page_size"), [SHAPES[1], SHAPES[3], SHAPES[4]])
def test_ffcv_reads_what_we_write_and_writes_the_same_file(tmp_path, ffcv, n, h, w, page_size):
    images, labels = pictures(n, h, w), any_labels(n)
    write_beton(tmp_path / "ours.beton", images, labels, page_size=page_size)
    read_images, read_labels = ffcv.read(tmp_path / "ours.beton")
    assert np.array_equal(read_images, images) and np.array_equal(read_labels, labels)
    fields = dict(image=ffcv.fields.RGBImageField(), label=ffcv.fields.IntField())
    rows = list(zip(images, labels, strict=True))
    ffcv.write(tmp_path / "theirs.beton", rows, page_size=page_size, **fields)
    assert (tmp_path / "ours.beton").read_bytes() == (tmp_path / "theirs.beton").read_bytes()


@quiet
def test_ffcv_reads_our_pages_through_its_own_cache(tmp_path, ffcv):
    images, labels = pictures(1500, 32, 32), any_labels(1500)
    write_beton(tmp_path / "a.beton", images, labels, page_size=2 * MIB)
    read_images, read_labels = ffcv.read(tmp_path / "a.beton", os_cache=False)
    assert np.array_equal(read_images, images) and np.array_equal(read_labels, labels)


def test_we_read_past_every_other_kind_of_field_and_pages_of_several_workers(tmp_path, ffcv):
    import torch

    random = np.random.default_rng(0)
    n, kinds = 900, ffcv.fields
    images, labels = pictures(n, 32, 32), any_labels(n)
    blobs = [random.integers(0, 256, i % 5, np.uint8) for i in range(n)]
    arrays = [np.full((3, 5), i, np.float32) for i in range(n)]
    tensors = [torch.full((2,), i, dtype=torch.int32) for i in range(n)]
    rows = [(i / 2, blobs[i], i, arrays[i], images[i], tensors[i], {"i": i}, labels[i]) for i in range(n)]
    fields = dict(score=kinds.FloatField(), blob=kinds.BytesField(), index=kinds.IntField())
    fields |= dict(array=kinds.NDArrayField(np.dtype("f4"), (3, 5)), image=kinds.RGBImageField())
    fields |= dict(tensor=kinds.TorchTensorField(torch.int32, (2,)))  # follows 13 bytes: padded
    fields |= dict(note=kinds.JSONField(), label=kinds.IntField())
    ffcv.write(tmp_path / "a.beton", rows, workers=2, **fields)
    read_images, read_labels = read_beton(tmp_path / "a.beton")
    assert np.array_equal(read_images, images) and np.array_equal(read_labels, labels)


MODES = {
    "jpg": dict(write_mode="jpg", jpeg_quality=85),
    "smart": dict(write_mode="smart", smart_threshold=3000),
    "proportion": dict(write_mode="proportion", compress_probability=0.5),
}


@quiet
@pytest.mark.parametrize("mode", MODES)
def test_we_read_what_ffcv_compresses(tmp_path, ffcv, mode):
    images, labels = pictures(60, 48, 40), any_labels(60)
    fields = dict(image=ffcv.fields.RGBImageField(**MODES[mode]), label=ffcv.fields.IntField())
    ffcv.write(tmp_path / "a.beton", list(zip(images, labels, strict=True)), **fields)
    our_images, our_labels = read_beton(tmp_path / "a.beton")
    their_images, their_labels = ffcv.read(tmp_path / "a.beton")
    assert np.array_equal(our_labels, labels) and np.array_equal(their_labels, labels)

    raw = (their_images == images).all(axis=(1, 2, 3))
    assert 1 - raw.mean() == pytest.approx(MODES[mode].get("compress_probability", 1), abs=0.3)
    assert np.array_equal(our_images, their_images)
