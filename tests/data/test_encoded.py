"""Images of any sizes, decoded in workers, are the images that Pillow and torchvision make of the same files."""

import io
import multiprocessing
import os
import pickle
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from src.data import ImageSet, load_images
from src.data.augment import Augmentation
from src.data.batches import DiskLoader, MemoryLoader
from src.data.loaders import make_loader
from src.data.on_disk import EncodedImages
from src.models import build_model
from src.models.predict import predict
from src.paths import ROOT
from tests.data.test_beton import JPEG, RAW, as_jpeg, beton_by_hand

SIDE = 16
N = 14


def pictures() -> list[np.ndarray]:
    """Pictures of different sizes and shapes, wide and high; even, as torchvision cannot cut half a pixel."""
    rng = np.random.default_rng(0)
    sizes = [(2 * int(h), 2 * int(w)) for h, w in rng.integers(9, 30, (N, 2))]
    rough = [Image.fromarray(rng.integers(0, 256, (6, 6, 3), np.uint8)) for _ in sizes]
    return [
        np.asarray(image.resize((w, h), Image.Resampling.BICUBIC)) for image, (h, w) in zip(rough, sizes, strict=True)
    ]


@pytest.fixture
def folder(tmp_path):
    """Two classes; PNG and JPEG, RGB, grey and with a palette."""
    for i, image in enumerate(pictures()):
        place = tmp_path / "set" / "test" / "ab"[i % 2]
        place.mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(image)
        picture = [picture, picture.convert("L"), picture.quantize(20)][i % 3]
        suffix = "jpg" if i % 4 == 0 and picture.mode != "P" else "png"
        picture.save(place / f"{i:02}.{suffix}")
    return tmp_path / "set"


@pytest.fixture
def beton(tmp_path):
    samples = [
        (JPEG, *image.shape[:2], as_jpeg(image), i % 2) if i % 3 else (RAW, *image.shape[:2], image.tobytes(), i % 2)
        for i, image in enumerate(pictures())
    ]
    path = tmp_path / "test.beton"
    path.write_bytes(beton_by_hand(samples))
    return path


@pytest.fixture(params=["folder", "beton"])
def encoded(request) -> ImageSet:
    return load_images(f"{request.param}:{request.getfixturevalue(request.param)}@{SIDE}", "test")


def decoded(images: ImageSet) -> ImageSet:
    return ImageSet(
        images.name, images.split, np.asarray(images.images), images.labels, images.classes, images.sample_ids
    )


def inner(found: np.ndarray, picture: Image.Image) -> np.ndarray:
    """Distance from the middle square, cut and resized with antialiasing by torchvision; without the border.

    There Pillow lets pixels outside the square contribute, which torchvision has cut off.
    """
    square = v2.functional.center_crop(picture, min(picture.size))
    expected = np.asarray(v2.functional.resize(square, [SIDE, SIDE], antialias=True))
    return np.abs(found.astype(int) - expected)[1:-1, 1:-1]


def test_a_folder_is_what_pillow_and_torchvision_make_of_its_files(folder):
    images = load_images(f"folder:{folder}@{SIDE}", "test")
    assert isinstance(images.images, EncodedImages) and images.images.shape == (N, SIDE, SIDE, 3)
    assert images.classes == ("a", "b") and images.labels.tolist() == [0] * 7 + [1] * 7
    for found, file in zip(np.asarray(images.images), sorted(folder.rglob("*.*g")), strict=True):
        assert inner(found, Image.open(file).convert("RGB")).max() <= 1, file


def test_a_beton_is_what_its_pictures_are(beton):
    images = load_images(f"beton:{beton}@{SIDE}", "test")
    assert images.labels.tolist() == [0, 1] * 7 and images.sample_ids.tolist() == list(range(N))
    for i, (found, picture) in enumerate(zip(np.asarray(images.images), pictures(), strict=True)):
        expected = Image.open(io.BytesIO(as_jpeg(picture))) if i % 3 else Image.fromarray(picture)
        difference = inner(found, expected)
        assert difference.mean() < 1.5 if i % 3 else difference.max() <= 1  # FFCV's fast transform, and Pillow's


@pytest.mark.parametrize("num_workers", [0, 1, 2])
@pytest.mark.parametrize("augment", [False, Augmentation(mixup=0.4)])
def test_batches_are_those_of_the_decoded_set_for_any_number_of_workers(encoded, num_workers, augment):
    options = dict(batch_size=5, augment=augment, shuffle=True, seed=3)
    loader = make_loader(encoded, num_workers=num_workers, **options)
    reference = make_loader(decoded(encoded), **options)
    assert type(loader) is DiskLoader and type(reference) is MemoryLoader
    for epoch in (0, 1):
        loader.epoch = reference.epoch = epoch
        for one, other in zip(loader, reference, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    (last,) = list(loader.batches(skip=2))
    assert torch.equal(last.sample_ids, other.sample_ids)


def test_selections_stay_encoded_and_keep_their_ids(encoded):
    some, whole = encoded.subset(5, seed=1), decoded(encoded).subset(5, seed=1)
    assert isinstance(some.images, EncodedImages) and some.sample_ids.tolist() == whole.sample_ids.tolist()
    assert np.array_equal(np.asarray(some.images), whole.images)
    assert np.array_equal(some.images[-1], whole.images[-1]) and some.images[1:3].shape == (2, SIDE, SIDE, 3)
    with pytest.raises(ValueError, match="without a copy"):
        np.asarray(some.images, copy=False)


def test_a_network_says_the_same_of_it(encoded):
    model = build_model("cnn", encoded, weights=None)
    expected = predict(model, make_loader(decoded(encoded), batch_size=6))
    found = predict(model, make_loader(encoded, batch_size=6, num_workers=2))
    assert found.equals(expected)


def test_workers_that_are_started_afresh_can_read_it(encoded):
    """macOS and Windows start processes without what this one has: the set has to travel."""
    again = pickle.loads(pickle.dumps(encoded.images))
    assert np.array_equal(again[3], encoded.images[3])


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_broken_picture_is_named(folder, num_workers):
    broken = folder / "test" / "b" / "07.png"
    assert broken.exists()
    broken.write_bytes(broken.read_bytes()[:60])
    images = load_images(f"folder:{folder}@{SIDE}", "test")
    with pytest.raises(ValueError, match=r"^\S*test/b/07\.png cannot be decoded: ") as error:
        list(make_loader(images, batch_size=4, num_workers=num_workers))
    assert "Traceback" not in str(error.value)


def test_a_broken_sample_of_a_beton_is_named(tmp_path):
    image = pictures()[0]
    samples = [(JPEG, *image.shape[:2], data, 0) for data in (as_jpeg(image), as_jpeg(image)[:-40])]
    (tmp_path / "test.beton").write_bytes(beton_by_hand(samples))
    images = load_images(f"beton:{tmp_path / 'test.beton'}@{SIDE}", "test")
    with pytest.raises(ValueError, match=r"test\.beton is cut off or overwritten: sample 1 is no readable JPEG"):
        list(make_loader(images, batch_size=2, num_workers=1))


def test_a_beton_whose_raw_pictures_cannot_be_what_it_says_is_refused(tmp_path):
    (tmp_path / "test.beton").write_bytes(
        beton_by_hand([(RAW, 30, 20, b"too short", 0), (RAW, 20, 20, bytes(1200), 1)])
    )
    with pytest.raises(ValueError, match="its images should be JPEG"):
        load_images(f"beton:{tmp_path / 'test.beton'}@{SIDE}", "test")


def test_without_a_side_pictures_of_different_sizes_are_refused_with_the_way_out(folder, beton):
    for name in (f"folder:{folder}", f"beton:{beton}"):
        with pytest.raises(ValueError, match=r"@"):
            load_images(name, "test")
    with pytest.raises(ValueError, match="asks for images of 0 pixels a side; take 1 to 4096"):
        load_images(f"folder:{folder}@0", "test")


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_pass_leaves_torch_s_random_numbers_alone(encoded, num_workers):
    """Dropout meets the same numbers as when the set is in memory."""
    before = torch.get_rng_state()
    list(make_loader(encoded, batch_size=5, num_workers=num_workers))
    assert torch.equal(torch.get_rng_state(), before)


def test_stopping_early_leaves_no_worker(encoded):
    before = set(multiprocessing.active_children())
    batches = iter(make_loader(encoded, batch_size=2, num_workers=2))
    next(batches)
    assert len(set(multiprocessing.active_children()) - before) == 2
    batches.close()
    del batches
    for _ in range(100):
        if not set(multiprocessing.active_children()) - before:
            return
        time.sleep(0.1)
    pytest.fail("workers go on")


def test_memory_does_not_grow_with_the_number_of_images(tmp_path):
    """The peak of a process that goes through 80 images of 300 pixels, and through 1600."""
    place = tmp_path / "test" / "a"
    place.mkdir(parents=True)
    (tmp_path / "test" / "b").mkdir()
    for i in range(8):
        noise = np.random.default_rng(i).integers(0, 256, (300, 300, 3), np.uint8)
        Image.fromarray(noise).save((place if i % 2 else tmp_path / "test" / "b") / f"{i}.jpg")
    peaks = []
    for n in (80, 1600):
        code = (
            "import sys, numpy as np\n"
            "from pathlib import Path\n"
            "from src.data import ImageSet, load_images\n"
            "from src.data.loaders import make_loader\n"
            "images = load_images(f'folder:{sys.argv[1]}@64', 'test').images\n"
            "ids = np.arange(int(sys.argv[2]))\n"
            "many = ImageSet('many', 'test', images[ids % 8], ids % 2, ('a', 'b'), ids)\n"
            "for batch in make_loader(many, batch_size=20, num_workers=0): pass\n"
            "line = [l for l in Path('/proc/self/status').read_text().splitlines() if l.startswith('VmHWM')][0]\n"
            "print(int(line.split()[1]) / 1024)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path), str(n)],
            cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=True,
        )  # fmt: skip
        peaks.append(float(done.stdout))
    assert peaks[1] < peaks[0] + 8  # MiB; the images as they are have 18 more, decoded from their files 430 more


def test_a_checksum_is_of_names_sizes_and_labels_and_the_same_elsewhere(folder, tmp_path):
    before = load_images(f"folder:{folder}@{SIDE}", "test").checksum()
    moved = folder.rename(tmp_path / "elsewhere")
    file = moved / "test" / "a" / "00.jpg"
    os.utime(file, (0, 0))  # also with another time of change
    assert load_images(f"mine=folder:{moved}@{SIDE}", "test").checksum() == before
    assert load_images(f"folder:{moved}@{SIDE + 1}", "test").checksum() != before
    file.write_bytes(file.read_bytes() + b"-")
    after = load_images(f"folder:{moved}@{SIDE}", "test").checksum()
    assert after != before and after.split("-")[0] == before.split("-")[0]


def test_a_checksum_of_a_beton_changes_with_its_samples(beton):
    images = load_images(f"beton:{beton}@{SIDE}", "test")
    checksums = {images.take(rows).checksum() for rows in (np.arange(N), np.arange(N - 1), np.arange(N)[::-1])}
    assert len(checksums) == 3 and images.checksum() in checksums
