"""`load_images` and `ImageSet` against independent oracles: idx bytes, Pillow, foolbox's CIFAR files."""

import gzip
import hashlib
import importlib.util
import io
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import src.data.load
from src.data import DATASETS, ImageSet, decoding, load_images, readers
from src.data.beton import write_beton
from src.paths import DATA, ROOT

EMBEDDED = DATA / "fashion_mnist"
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
CIFAR = Path(os.environ.get("ZOOM_DATA", ROOT / "../shared/data"))  # read before the fixture below clears it
LOAD_HUB = readers._load_hub
needs_debian = pytest.mark.skipif(not DEBIAN.is_dir(), reason="Debian's dataset-fashion-mnist is not there")
needs_cifar = pytest.mark.skipif(
    not (CIFAR / "cifar10").is_dir() or not (CIFAR / "cifar100").is_dir(),
    reason=f"no cifar10/ and cifar100/ in {CIFAR} (ZOOM_DATA)",
)


@pytest.fixture(autouse=True, scope="module")
def decode_afresh():
    """Pixels always come from the decoder; tests of the cache lower this bound."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoding, "CACHE_FROM", 10**9)
        yield


@pytest.fixture(autouse=True)
def clean_surroundings(monkeypatch, tmp_path):
    """No ZOOM_DATA, no cache of earlier runs, and no hub unless a test puts one there."""
    monkeypatch.delenv("ZOOM_DATA", raising=False)
    monkeypatch.setattr(decoding, "CACHE", tmp_path / "cache")
    asked = "the hub was asked for {}"
    monkeypatch.setattr(readers, "_load_hub", lambda hub_id: pytest.fail(asked.format(hub_id)))


@pytest.fixture(scope="module")
def fashion_test() -> ImageSet:
    return load_images("fashion_mnist", "test")


@pytest.fixture(scope="module")
def fashion_train() -> ImageSet:
    return load_images("fashion_mnist", "train")


@pytest.fixture(scope="module")
def pictures(fashion_test) -> ImageSet:
    """Twenty real images of 32x32, two a class, with green mirrored so that channels can be told apart."""
    chosen = fashion_test.subset(20, seed=3)
    images = chosen.images.copy()
    images[..., 1] = images[:, :, ::-1, 1]
    return replace(chosen, images=images, sample_ids=np.arange(20))


@pytest.fixture
def small_cifar10(monkeypatch):
    """CIFAR-10 as if it had 20 images a split."""
    small = replace(DATASETS["cifar10"], sizes={"train": 20, "test": 20}, checksums={})
    monkeypatch.setitem(DATASETS, "cifar10", small)


def encode(image, kind="PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind, lossless=True)
    return buffer.getvalue()


def write_hub_parquet(path, images, labels, names, *, columns=("img", "label"), encoded=None) -> Path:
    """A parquet file as the hub has it; `encoded` replaces the pictures made of `images`."""
    encoded = encoded or [encode(image) for image in images]
    image_type = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    cells = pa.array([{"bytes": item, "path": None} for item in encoded], image_type)
    table = pa.table({columns[0]: cells, columns[1]: pa.array(labels), "lossless": [True] * len(labels)})
    features = {columns[0]: {"_type": "Image"}, columns[1]: {"names": list(names), "_type": "ClassLabel"}}
    features["lossless"] = {"dtype": "bool", "_type": "Value"}
    path.parent.mkdir(parents=True, exist_ok=True)
    about = {"huggingface": json.dumps({"info": {"features": features}})}
    pq.write_table(table.replace_schema_metadata(about), path)
    return path


def local_cifar10(tmp_path, monkeypatch, pictures, *, file="test-00000-of-00001.parquet", **changes) -> Path:
    """ZOOM_DATA with a small CIFAR-10 test split in it, all as it should be unless changed."""
    monkeypatch.setenv("ZOOM_DATA", str(tmp_path / "zoom"))
    right = {"images": pictures.images, "labels": pictures.labels, "names": DATASETS["cifar10"].classes}
    return write_hub_parquet(tmp_path / "zoom" / "cifar10" / file, **(right | changes))


# --- ImageSet ---


def test_a_checksum_tells_labels_ids_order_and_pixels_apart_and_nothing_else(pictures):
    def parts(images: ImageSet) -> list[str]:
        return images.checksum().split("-")

    labels, pixels = parts(pictures)
    assert parts(replace(pictures, name="other", note="x")) == [labels, pixels]
    for change in ({"labels": pictures.labels[::-1].copy()}, {"sample_ids": pictures.sample_ids + 1}):
        assert parts(replace(pictures, **change))[0] != labels
        assert parts(replace(pictures, **change))[1] == pixels
    one = pictures.images.copy()
    one[3, 4, 5, 1] ^= 1
    assert parts(replace(pictures, images=one))[0] == labels and parts(replace(pictures, images=one))[1] != pixels
    for one, other in zip(parts(pictures), parts(pictures.take(np.arange(20)[::-1])), strict=True):
        assert one != other


def test_images_are_shuffled_with_their_labels_and_ids(pictures):
    mixed, again = pictures.shuffled(seed=0), pictures.shuffled(seed=0)
    order = np.argsort(mixed.sample_ids)
    assert (mixed.sample_ids == again.sample_ids).all() and (np.diff(mixed.sample_ids) < 0).any()
    assert (mixed.labels[order] == pictures.labels[np.argsort(pictures.sample_ids)]).all()


def test_sizes_beyond_the_set_are_cut_with_a_note(pictures):
    assert pictures.at_most(0, seed=0) is pictures
    assert (pictures.at_most(5, seed=0).sample_ids == pictures.subset(5, seed=0).sample_ids).all()
    assert pictures.at_most(20, seed=0).note == "" and len(pictures.at_most(20, seed=0)) == 20
    cut = replace(pictures, note="one folder").at_most(3_000, seed=0)
    assert cut.note == "one folder; asked for 3,000 images, there are 20: all are taken"
    assert (cut.sample_ids == pictures.sample_ids).all()
    with pytest.raises(ValueError, match="cannot draw -1 of the 20 images"):
        pictures.at_most(-1, seed=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": np.zeros((20, 32, 32, 3), np.float32)}, "images are float32"),
        ({"images": np.zeros((20, 3, 32, 32), np.uint8)}, r"images are uint8 \(20, 3, 32, 32\)"),
        ({"images": np.zeros((0, 32, 32, 3), np.uint8)}, "n > 0"),
        ({"labels": np.zeros(20, np.int32)}, "labels are int32"),
        ({"labels": np.zeros(19, np.int64)}, r"labels are int64 \(19,\)"),
        ({"labels": np.arange(20) - 1}, "label -1 of image 0 is outside 0 to 9"),
        ({"labels": np.repeat([0, 10], [17, 3])}, "label 10 of image 17 is outside 0 to 9"),
        ({"sample_ids": np.repeat([5, 6], 10)}, "sample_ids are not unique: 18 repeated"),
        ({"classes": ["a"] * 10}, "classes must be a tuple"),
        ({"classes": ("a",) * 10}, "classes must be a tuple of different names"),
    ],
)
def test_an_image_set_that_is_not_right_cannot_be_made(pictures, change, message):
    with pytest.raises(ValueError, match=message):
        replace(pictures, **change)


def test_subset_is_even_over_classes_and_keeps_each_image_with_its_label_and_id(fashion_test):
    drawn = fashion_test.subset(205, seed=1)
    assert len(drawn) == 205
    assert sorted(np.bincount(drawn.labels)) == [20] * 5 + [21] * 5
    assert (np.diff(drawn.sample_ids) > 0).all()  # ids are positions here: order is kept
    assert (drawn.images == fashion_test.images[drawn.sample_ids]).all()
    assert (drawn.labels == fashion_test.labels[drawn.sample_ids]).all()


def test_subset_depends_on_the_seed_alone_and_grows_by_adding(fashion_test):
    ids = {n: set(fashion_test.subset(n, seed=1).sample_ids) for n in (7, 100, 1000)}
    assert ids[7] < ids[100] < ids[1000]
    assert ids[100] == set(fashion_test.subset(100, seed=1).sample_ids)
    assert len(ids[100] & set(fashion_test.subset(100, seed=2).sample_ids)) < 20  # 1 expected by chance


def test_subset_of_uneven_classes_takes_equal_numbers_while_they_last(fashion_test):
    uneven = fashion_test.take(np.flatnonzero((fashion_test.labels > 0) | (np.arange(10_000) < 30)))
    n_rare = np.bincount(uneven.labels)[0]
    assert 0 < n_rare < 10
    assert np.bincount(uneven.subset(1000, seed=0).labels)[0] == n_rare
    assert set(np.bincount(uneven.subset(10 * n_rare, seed=0).labels)) == {n_rare}


@pytest.mark.parametrize("n", [0, -3, 10_001])
def test_subset_of_more_images_than_there_are_is_refused(fashion_test, n):
    with pytest.raises(ValueError, match=f"cannot draw {n} of the 10000 images of fashion_mnist test"):
        fashion_test.subset(n, seed=0)


@pytest.mark.parametrize(("amount", "n"), [(0.1, 1000), (1000, 1000), (333, 333)])
def test_split_off_makes_two_stratified_parts_of_the_whole(fashion_train, amount, n):
    rest, held_out = fashion_train.split_off(amount, seed=4)
    assert (len(rest), len(held_out)) == (10_000 - n, n)
    both = np.concatenate([rest.sample_ids, held_out.sample_ids])
    assert sorted(both) == sorted(fashion_train.sample_ids)
    assert np.ptp(np.bincount(held_out.labels)) == (0 if n % 10 == 0 else 1)
    again = fashion_train.split_off(amount, seed=4)[1]
    assert (again.sample_ids == held_out.sample_ids).all()


def test_split_off_keeps_the_shares_of_uneven_classes(fashion_train):
    positions = np.concatenate([np.flatnonzero(fashion_train.labels == k)[: 10 * (k + 1)] for k in range(10)])
    _, held_out = fashion_train.take(positions).split_off(0.5, seed=0)
    assert np.abs(np.bincount(held_out.labels) - 5 * np.arange(1, 11)).max() <= 1


@pytest.mark.parametrize("amount", [0, 0.0, 1.0, 10_000, -5])
def test_split_off_must_leave_both_parts_with_images(fashion_train, amount):
    with pytest.raises(ValueError, match="cannot split"):
        fashion_train.split_off(amount, seed=0)


# --- the embedded Fashion-MNIST ---


def read_debian(prefix: str) -> tuple[np.ndarray, np.ndarray]:
    images = gzip.open(DEBIAN / f"{prefix}-images-idx3-ubyte.gz").read()[16:]
    labels = gzip.open(DEBIAN / f"{prefix}-labels-idx1-ubyte.gz").read()[8:]
    return np.frombuffer(images, np.uint8).reshape(-1, 28, 28), np.frombuffer(labels, np.uint8)


def test_embedded_files_are_small_and_those_of_the_readme():
    files = sorted(EMBEDDED.glob("*.parquet"))
    assert len(files) == 2 and sum(file.stat().st_size for file in files) <= 12e6
    recorded = set(re.findall(r"`([0-9a-f]{64})`", (EMBEDDED / "README.md").read_text()))
    assert recorded == {hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def test_embedded_sets_have_a_thousand_images_a_class_in_official_order(fashion_test, fashion_train):
    for images in (fashion_test, fashion_train):
        assert images.images.shape == (10_000, 32, 32, 3)
        assert np.bincount(images.labels).tolist() == [1000] * 10
    assert (fashion_test.sample_ids == np.arange(10_000)).all()
    ids = fashion_train.sample_ids
    assert (np.diff(ids) > 0).all() and ids[0] < 100 and 59_900 < ids[-1] < 60_000  # spread over all 60,000


def test_embedded_images_are_grey_in_three_channels_inside_a_black_border(fashion_test):
    images = fashion_test.images
    assert (images[..., 0] == images[..., 1]).all() and (images[..., 0] == images[..., 2]).all()
    assert not images[:, :2].any() and not images[:, -2:].any()
    assert not images[:, :, :2].any() and not images[:, :, -2:].any()
    cell = pq.read_table(EMBEDDED / "test-00000-of-00001.parquet")["image"][123].as_py()
    original = Image.open(io.BytesIO(cell["bytes"]))
    assert original.mode == "L"
    assert (images[123, 2:30, 2:30, 0] == np.asarray(original)).all()


@needs_debian
@pytest.mark.parametrize(("split", "prefix"), [("test", "t10k"), ("train", "train")])
def test_embedded_pixels_and_labels_are_the_originals(split, prefix, request):
    images, labels = read_debian(prefix)
    embedded = request.getfixturevalue(f"fashion_{split}")
    assert (embedded.images[:, 2:30, 2:30, 0] == images[embedded.sample_ids]).all()
    assert (embedded.labels == labels[embedded.sample_ids]).all()


def test_datasets_opens_the_embedded_folder(tmp_path, fashion_train):
    import datasets

    opened = datasets.load_dataset(str(EMBEDDED), cache_dir=str(tmp_path))
    assert {split: len(rows) for split, rows in opened.items()} == {"train": 10_000, "test": 10_000}
    row = opened["train"][77]
    assert isinstance(opened["train"].features["image"], datasets.Image)
    assert (np.asarray(row["image"]) == fashion_train.images[77, 2:30, 2:30, 0]).all()
    assert opened["train"].features["label"].int2str(row["label"]).replace(" ", "").lower() == (
        fashion_train.classes[fashion_train.labels[77]].replace(" ", "").lower()
    )
    assert row["sample_id"] == fashion_train.sample_ids[77]


@pytest.fixture(scope="module")
def make_subset():
    spec = importlib.util.spec_from_file_location("make_subset", EMBEDDED / "make_subset.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@needs_debian
def test_the_script_draws_the_embedded_subset_again(make_subset, fashion_train, tmp_path):
    _, labels = make_subset.read_split(DEBIAN, "train", 60_000)
    drawn = make_subset.draw_stratified(labels, make_subset.TRAIN_PER_CLASS, make_subset.SEED)
    assert (drawn == fashion_train.sample_ids).all()
    images, labels = make_subset.read_split(DEBIAN, "t10k", 10_000)
    ids = np.arange(40, 60)
    make_subset.write_parquet(tmp_path / "part.parquet", images[ids], labels[ids], ids)
    made = pq.read_table(tmp_path / "part.parquet")
    kept = pq.read_table(EMBEDDED / "test-00000-of-00001.parquet")
    assert made.schema.equals(kept.schema, check_metadata=True)
    assert made["sample_id"].to_pylist() == list(range(40, 60))
    pixels = [np.asarray(Image.open(io.BytesIO(cell["bytes"]))) for cell in made["image"].to_pylist()]
    assert (np.stack(pixels) == images[40:60]).all()


@needs_debian
def test_the_script_refuses_an_original_that_is_not_one(make_subset, tmp_path):
    labels = bytearray(gzip.open(DEBIAN / "t10k-labels-idx1-ubyte.gz").read())
    labels[100] ^= 1
    (tmp_path / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels))
    with pytest.raises(ValueError, match=r"t10k-labels-idx1-ubyte.gz is not the original: sha256"):
        make_subset.read_original(tmp_path, "t10k-labels-idx1-ubyte")


def changed(index: int, *, label: int = 0, pixel: int = 0):
    """A reader whose embedded images differ in one byte."""
    read = readers.read_parquet

    def read_parquet(*arguments):
        raw = read(*arguments)
        raw.labels[index] ^= label
        raw.images[index, 5, 5, 0] ^= pixel
        return raw

    return read_parquet


@pytest.mark.parametrize("change", [{"label": 1}, {"pixel": 1}])
def test_one_changed_byte_of_a_named_set_is_noticed(monkeypatch, change):
    monkeypatch.setattr(readers, "read_parquet", changed(7_000, **change))
    with pytest.raises(ValueError, match="that of fashion_mnist test begins 6f0260c6-f8d50c372b3e2ce3; fetch it again"):
        load_images("fashion_mnist", "test")


# --- CIFAR ---


@needs_cifar
def test_cifar10_test_equals_foolbox_s_copies_and_has_a_thousand_images_a_class(monkeypatch):
    foolbox = importlib.util.find_spec("foolbox")
    monkeypatch.setenv("ZOOM_DATA", str(CIFAR))
    cifar = load_images("cifar10", "test")
    assert cifar.images.shape == (10_000, 32, 32, 3)
    assert np.bincount(cifar.labels).tolist() == [1000] * 10
    assert cifar.classes[:2] == ("airplane", "automobile") and cifar.classes[-1] == "truck"
    mean, std = cifar.images.mean((0, 1, 2)) / 255, cifar.images.std((0, 1, 2)) / 255
    np.testing.assert_allclose(mean, DATASETS["cifar10"].mean, atol=0.005)
    np.testing.assert_allclose(std, DATASETS["cifar10"].std, atol=0.005)
    if foolbox is None:
        pytest.skip("pixels not compared: foolbox, whose wheel has 20 of them as PNG, is not installed")
    files = sorted((Path(foolbox.origin).parent / "data").glob("cifar10_*.png"))
    assert len(files) == 20
    for i, file in enumerate(files):
        assert cifar.labels[i] == int(file.stem.split("_")[2])
        assert (cifar.images[i] == np.asarray(Image.open(file))).all()


@needs_cifar
def test_cifar100_has_its_hundred_fine_classes(monkeypatch):
    monkeypatch.setenv("ZOOM_DATA", str(CIFAR))
    cifar = load_images("cifar100", "test")
    assert np.bincount(cifar.labels).tolist() == [100] * 100
    assert cifar.classes == tuple(sorted(cifar.classes)) and len(cifar.classes) == 100
    first = [cifar.classes[label] for label in cifar.labels[:3]]  # as in the official split
    assert first == ["mountain", "forest", "seal"]


def test_every_record_is_consistent():
    for name, record in DATASETS.items():
        assert record.name == name
        assert record.n_classes == {"cifar100": 100}.get(name, 10) == len(set(record.classes))
        assert set(record.sizes) == {"train", "test"}
        assert set(record.checksums) == {"test"} if name == "fashion_mnist_full" else {"train", "test"}


@needs_debian
def test_full_fashion_mnist_comes_from_idx_files_and_gives_the_record_s_normalisation():
    full = load_images("fashion_mnist_full", "train", source=f"idx:{DEBIAN}")
    images, labels = read_debian("train")
    assert (full.images[:, 2:30, 2:30, 2] == images).all() and (full.labels == labels).all()
    n_pixels = 60_000 * 32 * 32  # the border adds zeros to both sums
    mean = images.sum(dtype=np.int64) / 255 / n_pixels
    mean_square = np.square(images, dtype=np.uint16).sum(dtype=np.int64) / 255**2 / n_pixels
    record = DATASETS["fashion_mnist_full"]
    np.testing.assert_allclose(record.mean, mean, atol=5e-5)
    np.testing.assert_allclose(record.std, np.sqrt(mean_square - mean**2), atol=5e-5)


# --- names and places ---


def test_a_name_with_a_place_takes_no_source(tmp_path):
    with pytest.raises(ValueError, match="source='local' is for named sets"):
        load_images(f"folder:{tmp_path}", "test", source="local")


@pytest.mark.parametrize("nested", ["", "plain_text/", "data/"])
def test_a_local_folder_is_read_first_bit_by_bit(tmp_path, monkeypatch, small_cifar10, pictures, nested):
    webp = [encode(image, "WEBP") for image in pictures.images]
    local_cifar10(tmp_path, monkeypatch, pictures, file=f"{nested}test-00000-of-00001.parquet", encoded=webp)
    loaded = load_images("cifar10", "test")
    assert (loaded.images == pictures.images).all() and (loaded.labels == pictures.labels).all()
    assert loaded.images.dtype == np.uint8 and loaded.labels.dtype == np.int64
    assert (loaded.sample_ids == np.arange(20)).all()
    assert (loaded.name, loaded.split, loaded.classes) == ("cifar10", "test", DATASETS["cifar10"].classes)


def test_shards_are_joined_in_order(tmp_path, monkeypatch, small_cifar10, pictures):
    for part, rows in enumerate((slice(0, 7), slice(7, 20))):
        changes = {"images": pictures.images[rows], "labels": pictures.labels[rows]}
        file = f"test-{part:05d}-of-00002.parquet"
        path = local_cifar10(tmp_path, monkeypatch, pictures, file=file, **changes)
    assert (load_images("cifar10", "test").images == pictures.images).all()
    path.unlink()
    with pytest.raises(ValueError, match="parts of test are missing, or too many; there are test-00000-of"):
        load_images("cifar10", "test")


def test_two_places_that_hold_a_split_are_refused(tmp_path, monkeypatch, small_cifar10, pictures):
    local_cifar10(tmp_path, monkeypatch, pictures, file="a/test-00000-of-00001.parquet")
    local_cifar10(tmp_path, monkeypatch, pictures, file="b/test-00000-of-00001.parquet")
    with pytest.raises(ValueError, match=r"test files lie in .*/a and .*/b; keep one"):
        load_images("cifar10", "test")


def test_a_zoom_data_that_does_not_exist_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOOM_DATA", str(tmp_path / "typo"))
    with pytest.raises(FileNotFoundError, match=r"ZOOM_DATA=.*typo is no folder"):
        load_images("cifar10", "test")


def test_a_local_folder_without_the_files_is_no_reason_to_ask_the_hub(tmp_path, monkeypatch):
    (tmp_path / "cifar10").mkdir()
    monkeypatch.setenv("ZOOM_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"cifar10 holds no test-\*.parquet; complete or remove it"):
        load_images("cifar10", "test")


def test_only_the_source_asked_for_is_tried(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"Tried: \(1\) a local folder .* ZOOM_DATA is not set\)\."):
        load_images("cifar10", "test", source="local")
    monkeypatch.setattr(src.data.load, "DATA", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"val_32.beton \(no such file\)\. .*`make betons`"):
        load_images("cifar10", "test", source="beton")
    with pytest.raises(FileNotFoundError, match=r"there is none of fashion_mnist test"):
        load_images("fashion_mnist", "test", source="beton")
    with pytest.raises(FileNotFoundError, match=r"no test files embedded there\)"):
        load_images("cifar10", "test", source="embedded")
    with pytest.raises(FileNotFoundError, match=r"restore data/fashion_mnist/ from git, or run data/"):
        load_images("fashion_mnist", "test")


def test_the_hub_s_whole_training_split_does_not_pass_for_the_embedded_part(fashion_train, monkeypatch):
    whole = np.zeros((60_000, 28, 28, 3), np.uint8)
    raw = readers.RawImages("hub:x", whole, np.zeros(60_000, np.int64), None, None)
    monkeypatch.setattr(readers, "read_hub", lambda *_: raw)
    with pytest.raises(ValueError, match="60000 images, fashion_mnist train has 10000"):
        load_images("fashion_mnist", "train", source="hub")


# --- files that are not right ---


def shrunk(images) -> list[bytes]:
    encoded = [encode(image) for image in images]
    encoded[6] = encode(images[6][:, :28])
    return encoded


def damaged(images) -> list[bytes]:
    encoded = [encode(image) for image in images]
    encoded[4] = encoded[4][: len(encoded[4]) // 2]
    return encoded


BROKEN_ROWS = {
    "wrong class count": ({"names": [f"class {i}" for i in range(12)]}, "12 classes, cifar10 has 10"),
    "another set's classes": (
        {"names": DATASETS["fashion_mnist"].classes},
        "classes T-shirt/top, Trouser, Pullover, Dress, …; those of cifar10 are airplane, automobile",
    ),
    "class order": ({"names": DATASETS["cifar10"].classes[::-1]}, "classes truck, ship, horse, frog, …;"),
    "label too large": ({"labels": np.repeat([3, 10], [9, 11])}, "label 10 of image 9 is outside 0 to 9"),
    "label negative": ({"labels": np.full(20, -1)}, "label -1 of image 0 is outside 0 to 9"),
    "labels as text": ({"labels": ["cat"] * 20}, "label should be integers, is string with 0 empty"),
    "labels empty": ({"labels": [None, *[1] * 19]}, "label should be integers, is int64 with 1 empty"),
    "other columns": (
        {"columns": ("image", "fine_label")},
        "no column img, label; it has image, fine_label, lossless",
    ),
    "too few images": (
        {"images": np.zeros((9, 32, 32, 3), np.uint8), "labels": [0] * 9},
        "9 images, cifar10 test has 20",
    ),
    "one image smaller": ({"encoded": shrunk}, "image 6 is 28x32 pixels, image 0 is 32x32"),
    "all images smaller": (
        {"images": np.zeros((20, 28, 28, 3), np.uint8)},
        "image 0 is 28x28 pixels, cifar10 has 32x32",
    ),
    "image cut off": ({"encoded": damaged}, "image 4 cannot be decoded"),
    "not an image": ({"encoded": lambda images: [b"hello"] * len(images)}, "image 0 cannot be decoded"),
}


@pytest.mark.parametrize("case", BROKEN_ROWS)
def test_a_parquet_file_with_wrong_rows_is_refused(tmp_path, monkeypatch, small_cifar10, pictures, case):
    changes, message = BROKEN_ROWS[case]
    changes = {key: value(pictures.images) if callable(value) else value for key, value in changes.items()}
    path = local_cifar10(tmp_path, monkeypatch, pictures, **changes)
    with pytest.raises(ValueError) as caught:
        load_images("cifar10", "test")
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize("damage", ["half", "no end", "empty", "text", "overwritten"])
def test_a_cut_off_or_foreign_parquet_file_is_refused(tmp_path, monkeypatch, small_cifar10, pictures, damage):
    path = local_cifar10(tmp_path, monkeypatch, pictures)
    whole = path.read_bytes()
    content = {
        "half": whole[: len(whole) // 2],
        "no end": whole[:-1],
        "empty": b"",
        "text": b"<!DOCTYPE html><html>not found</html>",
        "overwritten": whole[:4] + bytes(200) + whole[204:],
    }[damage]
    path.write_bytes(content)
    with pytest.raises(ValueError, match="cut off, or not a parquet file") as caught:
        load_images("cifar10", "test")
    assert str(caught.value).startswith(str(path)) and "fetch it again" in str(caught.value)


def test_an_image_column_without_images_is_refused(tmp_path, monkeypatch, small_cifar10):
    monkeypatch.setenv("ZOOM_DATA", str(tmp_path))
    (tmp_path / "cifar10").mkdir()
    pq.write_table(pa.table({"img": [1, 2], "label": [0, 1]}), tmp_path / "cifar10" / "test.parquet")
    with pytest.raises(ValueError, match="column img does not hold images"):
        load_images("cifar10", "test")


# --- idx files ---


def write_idx(folder: Path, images: np.ndarray, labels: np.ndarray, *, suffix=".gz") -> list[Path]:
    pack = gzip.compress if suffix else bytes
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"t10k-{kind}{suffix}" for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")]
    files[0].write_bytes(pack(struct.pack(">4I", 0x803, *images.shape) + images.tobytes()))
    files[1].write_bytes(pack(struct.pack(">2I", 0x801, len(labels)) + labels.astype(np.uint8).tobytes()))
    return files


@pytest.fixture
def idx_folder(tmp_path, monkeypatch, pictures):
    record = replace(DATASETS["fashion_mnist_full"], sizes={"train": 20, "test": 20}, checksums={})
    monkeypatch.setitem(DATASETS, "fashion_mnist_full", record)
    return tmp_path / "fashion_mnist_full"


@pytest.mark.parametrize("suffix", [".gz", ""])
def test_idx_files_are_read_from_zoom_data_or_by_name(idx_folder, monkeypatch, pictures, suffix):
    grey = np.ascontiguousarray(pictures.images[:, 2:30, 2:30, 0])
    write_idx(idx_folder, grey, pictures.labels, suffix=suffix)
    by_name = load_images("fashion_mnist_full", "test", source=f"idx:{idx_folder}")
    monkeypatch.setenv("ZOOM_DATA", str(idx_folder.parent))
    for loaded in (by_name, load_images("fashion_mnist_full", "test")):
        assert (loaded.images[:, 2:30, 2:30] == grey[..., None]).all() and not loaded.images[:, :2].any()
        assert (loaded.labels == pictures.labels).all()
        assert loaded.images.shape == (20, 32, 32, 3)


def test_broken_idx_files_are_refused(idx_folder, pictures):
    grey = np.ascontiguousarray(pictures.images[:, 2:30, 2:30, 0])
    source = f"idx:{idx_folder}"
    with pytest.raises(FileNotFoundError, match="no images file and labels file of test"):
        load_images("fashion_mnist_full", "test", source=source)
    images, labels = write_idx(idx_folder, grey, pictures.labels)
    for file in (images, labels):
        whole = file.read_bytes()
        shorter = gzip.compress(gzip.decompress(whole)[:-1])
        for content in (whole[:-9], shorter, b"not gzip", gzip.compress(b"")):
            file.write_bytes(content)
            with pytest.raises(ValueError, match=f"{file}: cut off, or not an idx file"):
                load_images("fashion_mnist_full", "test", source=source)
        file.write_bytes(whole)
    shutil.copy(labels, images)
    with pytest.raises(ValueError, match="magic number 0x801, expected 0x803"):
        load_images("fashion_mnist_full", "test", source=source)
    write_idx(idx_folder, grey, pictures.labels[:-1])
    with pytest.raises(ValueError, match=r"has 20 images, t10k-labels-idx1-ubyte.gz 19 labels"):
        load_images("fashion_mnist_full", "test", source=source)


# --- image folders ---


@pytest.fixture
def photo_folder(tmp_path) -> Path:
    """foolbox's 20 CIFAR-10 photographs, a sub-folder a class, below test/; a few of them below train/."""
    foolbox = importlib.util.find_spec("foolbox")
    if foolbox is None:
        pytest.skip("foolbox, whose wheel has 20 CIFAR-10 images, is not installed")
    for file in sorted((Path(foolbox.origin).parent / "data").glob("cifar10_*.png")):
        name = DATASETS["cifar10"].classes[int(file.stem.split("_")[2])]
        for split in ("train", "test"):
            place = tmp_path / "photos" / split / name / file.name
            place.parent.mkdir(parents=True, exist_ok=True)
            if split == "test" or not any(place.parent.iterdir()):
                shutil.copy(file, place)
    return tmp_path / "photos"


def test_an_image_folder_is_read_with_sorted_classes(photo_folder):
    loaded = load_images(f"folder:{photo_folder}", "test")
    files = sorted(photo_folder.glob("test/*/*.png"))
    assert loaded.images.shape == (20, 32, 32, 3) and len(files) == 20
    assert loaded.classes == tuple(sorted({file.parent.name for file in files}))
    for i, file in enumerate(files):
        assert (loaded.images[i] == np.asarray(Image.open(file))).all()
        assert loaded.classes[loaded.labels[i]] == file.parent.name
    assert len(load_images(f"folder:{photo_folder}", "train")) == len(loaded.classes)


def test_a_folder_with_val_serves_as_test(photo_folder):
    (photo_folder / "test").rename(photo_folder / "val")
    assert len(load_images(f"folder:{photo_folder}", "test")) == 20


def test_broken_image_folders_are_refused(photo_folder, tmp_path):
    def refuse(kind, message, *, folder=photo_folder, split="test"):
        with pytest.raises(kind, match=message):
            load_images(f"folder:{folder}", split)

    refuse(FileNotFoundError, "no folder .*nowhere", folder=tmp_path / "nowhere")
    picture = next(photo_folder.glob("test/dog/*.png"))
    whole = picture.read_bytes()
    picture.write_bytes(whole[:-400])
    refuse(ValueError, rf"image \d+ \({picture}\) cannot be decoded")
    Image.open(io.BytesIO(whole)).resize((16, 32)).save(picture)
    refuse(ValueError, rf"\({picture}\) is 16x32 pixels, image 0 is 32x32")
    picture.rename(picture.with_suffix(".txt"))
    for other in picture.parent.glob("*.png"):
        other.unlink()
    refuse(ValueError, "test/dog holds no .png")
    shutil.rmtree(picture.parent)
    refuse(ValueError, "class sub-folders differ between")
    shutil.rmtree(photo_folder / "test")
    refuse(FileNotFoundError, "has train, and no sub-folder test or testing or validation")
    (tmp_path / "flat").mkdir()
    refuse(ValueError, "flat has no sub-folders; each class is one", folder=tmp_path / "flat")


# --- betons ---


def test_betons_are_read_by_file_and_by_folder(tmp_path, pictures):
    write_beton(tmp_path / "val_32.beton", pictures.images, pictures.labels, classes=pictures.classes)
    for path in (tmp_path, tmp_path / "val_32.beton"):
        loaded = load_images(f"beton:{path}", "test")
        assert (loaded.images == pictures.images).all() and (loaded.labels == pictures.labels).all()
        assert loaded.classes == pictures.classes
    with pytest.raises(FileNotFoundError, match=r"one beton of train; it holds \['val_32.beton'\]"):
        load_images(f"beton:{tmp_path}", "train")
    with pytest.raises(ValueError, match="val_32.beton holds test by its name, not train; name the folder"):
        load_images(f"beton:{tmp_path / 'val_32.beton'}", "train")
    (tmp_path / "val_32.beton.json").unlink()
    assert load_images(f"beton:{tmp_path}", "test").classes == tuple("0123456789")
    with open(tmp_path / "val_32.beton", "r+b") as file:
        file.truncate(file.seek(0, os.SEEK_END) - 50)
    with pytest.raises(ValueError, match=r"val_32.beton"):
        load_images(f"beton:{tmp_path}", "test")
    with pytest.raises(FileNotFoundError, match=r"absent.beton"):
        load_images(f"beton:{tmp_path / 'absent.beton'}", "test")


def test_the_study_s_own_betons_are_taken_only_when_asked_for(tmp_path, monkeypatch, small_cifar10, pictures):
    monkeypatch.setattr(src.data.load, "DATA", tmp_path)
    path = tmp_path / "cifar10" / "val_32.beton"
    write_beton(path, pictures.images, pictures.labels)  # without class names, as in 2023
    loaded = load_images("cifar10", "test", source="beton")
    assert (loaded.images == pictures.images).all()
    assert loaded.classes == DATASETS["cifar10"].classes
    with pytest.raises(pytest.fail.Exception, match="the hub was asked for uoft-cs/cifar10"):
        load_images("cifar10", "test")


# --- the hub ---


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """The library reads a folder where it would fetch a hub data set: (folder, ids that were asked)."""
    import datasets

    folder, asked, really_load = tmp_path / "hub", [], datasets.load_dataset

    def load_dataset(hub_id):
        asked.append(hub_id)
        return really_load(str(folder), cache_dir=str(tmp_path / "hub_cache"))

    monkeypatch.setattr(readers, "_load_hub", LOAD_HUB)
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr(readers, "hub_problem", lambda: None)
    return folder, asked


def test_a_named_set_comes_from_its_hub_id(hub, monkeypatch, pictures):
    folder, asked = hub
    record = replace(DATASETS["cifar10"], sizes={"train": 20, "test": 20}, checksums={})
    monkeypatch.setitem(DATASETS, "cifar10", record)
    for split in ("train", "test"):
        path = folder / f"{split}-00000-of-00001.parquet"
        write_hub_parquet(path, pictures.images, pictures.labels, record.classes)
    loaded = load_images("cifar10", "test")
    assert asked == ["uoft-cs/cifar10"]
    assert (loaded.images == pictures.images).all() and (loaded.labels == pictures.labels).all()


def test_the_hub_is_asked_when_zoom_data_lacks_the_set(hub, monkeypatch, tmp_path):
    folder, asked = hub
    monkeypatch.setenv("ZOOM_DATA", str(tmp_path))
    with pytest.raises(RuntimeError) as caught:  # there is nothing in the folder either
        load_images("cifar100", "test")
    assert asked == ["uoft-cs/cifar100"]
    assert f"(1) $ZOOM_DATA: {tmp_path}/cifar100 (no such folder); (2) the hub data set" in str(caught.value)


def test_any_hub_set_is_read_by_its_features(hub, pictures):
    folder, asked = hub
    path = folder / "validation-00000-of-00001.parquet"
    write_hub_parquet(path, pictures.images, pictures.labels, pictures.classes, columns=("photo", "kind"))
    loaded = load_images("hub:somebody/photos", "test")
    assert asked == ["somebody/photos"]
    assert (loaded.images == pictures.images).all() and loaded.classes == pictures.classes
    assert loaded.name == "hub:somebody/photos"
    with pytest.raises(ValueError, match="hub:somebody/photos has no split for 'train'; it has validation"):
        load_images("hub:somebody/photos", "train")


def test_a_hub_set_without_one_class_column_is_refused(hub, pictures):
    folder, _ = hub
    table = pa.table({"text": ["a"], "stars": [1]})
    folder.mkdir()
    pq.write_table(table, folder / "test-00000-of-00001.parquet")
    with pytest.raises(ValueError, match=r"hub:a/b needs an Image and a ClassLabel .*'stars': 'Value'"):
        load_images("hub:a/b", "test")


def test_without_network_the_error_names_what_was_tried_within_seconds(tmp_path):
    code = "from src.data import load_images; load_images('cifar10', 'train')"
    env = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    env.pop("ZOOM_DATA", None)
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True)
    assert time.monotonic() - start < 30
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("RuntimeError: cifar10 train was not found. Tried: (1) a local folder")
    for part in ("ZOOM_DATA is not set", "(2) the hub data set uoft-cs", "`make betons`", "go online"):
        assert part in last


def test_a_hub_that_does_not_answer_is_given_up_at_once_but_its_cache_is_asked(hub, monkeypatch):
    import datasets

    offline = []

    def load_dataset(_):
        offline.append(datasets.config.HF_HUB_OFFLINE)
        raise FileNotFoundError("not in the cache")

    monkeypatch.setattr(readers, "hub_problem", lambda: "https://hub does not answer")
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    before = datasets.config.HF_HUB_OFFLINE
    with pytest.raises(RuntimeError, match="https://hub does not answer"):
        load_images("hub:a/b", "test")
    assert offline == [True] and datasets.config.HF_HUB_OFFLINE == before


# --- decoded pixels kept on disk ---


def test_decoded_pixels_are_kept_and_found_again(monkeypatch, pictures):
    monkeypatch.setattr(decoding, "CACHE_FROM", 10)
    encoded = [encode(image) for image in pictures.images]
    first = decoding.decode_images(encoded, "here")
    assert len(list(decoding.CACHE.glob("*.npy"))) == 1 and not list(decoding.CACHE.glob("*.part"))
    monkeypatch.setattr(decoding, "decode_one", lambda item: pytest.fail("decoded again"))
    again = decoding.decode_images(encoded, "here")
    assert (first == pictures.images).all() and (again == pictures.images).all()
    with pytest.raises(pytest.fail.Exception, match="decoded again"):
        decoding.decode_images(encoded[::-1], "here")  # other content: not found


@pytest.mark.parametrize(("damage", "message"), [(b"\1\2\3", "wrong checksum"), (None, "cannot be read")])
def test_a_damaged_cache_file_is_noticed(monkeypatch, pictures, damage, message):
    monkeypatch.setattr(decoding, "CACHE_FROM", 10)
    encoded = [encode(image) for image in pictures.images]
    decoding.decode_images(encoded, "here")
    path = next(decoding.CACHE.glob("*.npy"))
    whole = path.read_bytes()
    path.write_bytes(whole[:-3] + damage if damage else whole[:5000])
    with pytest.warns(UserWarning, match=message):
        assert (decoding.decode_images(encoded, "here") == pictures.images).all()


def test_a_cache_that_cannot_be_written_costs_no_results(monkeypatch, pictures, tmp_path):
    monkeypatch.setattr(decoding, "CACHE_FROM", 10)
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.warns(UserWarning, match="decoded images are not kept"):
        loaded = decoding.decode_images([encode(image) for image in pictures.images], "here")
    assert (loaded == pictures.images).all()


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "GIF"])
def test_grey_and_palette_pictures_become_three_channels(kind, pictures):
    grey = pictures.images[0, ..., 0]
    decoded = decoding.decode_images([encode(grey, kind)], "here")
    assert decoded.shape == (1, 32, 32, 3) and (decoded[0] == grey[..., None]).all()
