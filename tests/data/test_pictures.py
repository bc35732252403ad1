"""Pictures of anyone: names, one folder for both splits, and files that are no pictures."""

import io
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from src.data import ImageSet, beton, load_images, readers
from src.data.beton import write_beton
from src.data.decoding import decode_one
from src.data.load import UNDIVIDED
from tests.data.test_beton import JPEG, as_jpeg, beton_by_hand

COUNTS = {"ant": 12, "bee": 5, "cat": 2}


@pytest.fixture
def folder(tmp_path, noise) -> Path:
    """Nineteen pictures of 24 pixels a side, a sub-folder a class, each with pixels of its own."""
    pixels = iter(noise[:, :, :, :24].mul(255).byte().permute(0, 2, 3, 1).numpy())
    for name, count in COUNTS.items():
        (tmp_path / "mine" / name).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(next(pixels)).save(tmp_path / "mine" / name / f"{i:02}.png")
    return tmp_path / "mine"


def both(name: str) -> dict[str, ImageSet]:
    return {split: load_images(name, split) for split in ("train", "test")}


# --- names ---


def test_a_label_in_front_is_the_set_s_name(folder):
    assert load_images(f"mine=folder:{folder}@16", "test").name == "mine"
    assert load_images(f"folder:{folder}@16", "test").name == f"folder:{folder}@16"


# --- one folder, file or split for both ---


def check_division(parts: dict[str, ImageSet], whole: np.ndarray) -> None:
    """Parts that together are all images, in the order and with the ids of the whole, a fifth of each class test."""
    ids = {split: part.sample_ids for split, part in parts.items()}
    assert sorted([*ids["train"], *ids["test"]]) == list(range(len(whole)))
    for split, part in parts.items():
        assert (np.diff(ids[split]) > 0).all() and (np.asarray(part.images) == whole[ids[split]]).all()
        assert part.note == UNDIVIDED and UNDIVIDED in repr(part)
    assert np.bincount(parts["test"].labels).tolist() == [2, 1, 1]
    assert np.bincount(parts["train"].labels).tolist() == [10, 4, 1]


@pytest.mark.parametrize("side", ["", "@24"], ids=["decoded", "encoded"])
def test_a_folder_of_classes_is_divided(folder, side):
    files = [np.asarray(Image.open(file)) for file in sorted(folder.glob("*/*.png"))]
    parts = both(f"mine=folder:{folder}{side}")
    check_division(parts, np.stack(files))
    assert {part.name for part in parts.values()} == {"mine"} and parts["train"].classes == tuple(COUNTS)


def test_a_beton_that_names_no_split_is_divided(folder, tmp_path):
    files = np.stack([np.asarray(Image.open(file)) for file in sorted(folder.glob("*/*.png"))])
    write_beton(tmp_path / "mine.beton", files, np.repeat([0, 1, 2], list(COUNTS.values())), classes=list(COUNTS))
    parts = both(f"mine=beton:{tmp_path / 'mine.beton'}")
    check_division(parts, files)
    assert parts["test"].classes == tuple(COUNTS)


def test_a_hub_set_with_train_alone_is_divided(folder, monkeypatch):
    import datasets

    whole = datasets.load_dataset("imagefolder", data_dir=str(folder), cache_dir=str(folder.parent / "cache"))
    monkeypatch.setattr(readers, "_load_hub", lambda _: whole)
    files = [np.asarray(Image.open(file)) for file in sorted(folder.glob("*/*.png"))]
    parts = both("mine=hub:me/mine")
    check_division(parts, np.stack(files))
    assert {part.name for part in parts.values()} == {"mine"} and parts["train"].classes == tuple(COUNTS)


def test_selections_keep_the_note_and_what_files_divide_has_none(folder, clothes):
    train, validation = load_images(f"folder:{folder}", "train").split_off(3, seed=0)
    assert train.note == validation.subset(2, seed=0).note == UNDIVIDED
    assert clothes.note == ""


# --- files that are no pictures, or not as they seem ---


def test_what_programs_leave_beside_pictures_is_no_data(folder):
    before = both(f"folder:{folder}")
    hidden = ("ant/.ipynb_checkpoints/00.png", "ant/__MACOSX/._00.png", "ant/._00.png", ".cache/x/1.png")
    for name in (*hidden, "__MACOSX/ant/1.png", "ant/Thumbs.db", "ant/.DS_Store", "Thumbs.db"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"no picture")
    for split, images in both(f"folder:{folder}").items():
        assert images.classes == tuple(COUNTS)
        assert (images.sample_ids == before[split].sample_ids).all() and (images.images == before[split].images).all()


@pytest.mark.parametrize("names", [("Train", "Test"), ("training", "testing"), ("TRAIN", "Valid")])
def test_splits_are_found_by_any_common_name(folder, tmp_path, names):
    for name in names:
        shutil.copytree(folder, tmp_path / "parted" / name)
    parts = both(f"folder:{tmp_path / 'parted'}")
    assert {part.classes for part in parts.values()} == {("ant", "bee", "cat")}
    assert [(len(part), part.note) for part in parts.values()] == [(19, ""), (19, "")]


def test_a_folder_above_that_of_the_classes_is_no_class(folder, tmp_path):
    with pytest.raises(ValueError, match="has one sub-folder, mine; each class is one: name the folder that holds"):
        load_images(f"folder:{tmp_path}", "train")


def test_pictures_that_are_not_read_are_named(folder):
    Image.open(folder / "ant" / "00.png").save(folder / "ant" / "more.jfif", "JPEG")
    assert sum(map(len, both(f"folder:{folder}").values())) == 20
    (folder / "bee" / "IMG_1.HEIC").touch()
    with pytest.raises(ValueError, match="IMG_1.HEIC is a picture that is not read; convert it to one of .png"):
        load_images(f"folder:{folder}", "train")
    (folder / "bee" / "IMG_1.HEIC").unlink()
    (folder / "bee" / "more").symlink_to(folder / "ant", target_is_directory=True)
    with pytest.raises(ValueError, match="more is a link to a folder, which is not followed"):
        load_images(f"folder:{folder}", "train")


@pytest.mark.parametrize("side", ["", "@16"], ids=["decoded", "encoded"])
def test_pipes_and_broken_links_are_refused_unread(folder, side):
    os.mkfifo(folder / "bee" / "x.png")
    with pytest.raises(ValueError, match=r"bee/x.png is no file but a pipe, a device or a broken link; remove it"):
        load_images(f"folder:{folder}{side}", "test")
    (folder / "bee" / "x.png").unlink()
    (folder / "bee" / "y.png").symlink_to("nowhere.png")
    with pytest.raises(ValueError, match=r"bee/y.png is no file"):
        load_images(f"folder:{folder}{side}", "test")


@pytest.mark.parametrize("turned", range(1, 9))
def test_pictures_are_turned_as_their_exif_data_say(turned, noise):
    """The eight orientations, each as Pillow's own constants say it is undone."""
    undone_by = [None, "FLIP_LEFT_RIGHT", "ROTATE_180", "FLIP_TOP_BOTTOM", "TRANSPOSE", "ROTATE_270", "TRANSVERSE"]
    undone_by.append("ROTATE_90")
    picture, exif = Image.fromarray(noise[0].mul(255).byte().permute(1, 2, 0).numpy()), Image.Exif()
    exif[ExifTags.Base.Orientation] = turned
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", exif=exif)
    way = undone_by[turned - 1]
    expected = picture if way is None else picture.transpose(Image.Transpose[way])
    assert (decode_one(buffer.getvalue()) == np.asarray(expected)).all()


def transparent(kind: str) -> Image.Image:
    """Two pixels: a dark grey one that is solid, a black one that is transparent."""
    grey = Image.fromarray(np.array([[40, 0]], np.uint8))
    alpha = Image.fromarray(np.array([[255, 0]], np.uint8))
    with_alpha = Image.merge("LA", (grey, alpha))
    return {"LA": with_alpha, "RGBA": with_alpha.convert("RGBA")}.get(kind) or grey.convert(kind)


@pytest.mark.parametrize("kind", ["LA", "RGBA", "L", "RGB", "P"])
def test_what_is_transparent_is_white_whatever_the_file_s_kind(kind):
    picture, key = transparent(kind), {"L": 0, "RGB": (0, 0, 0)}
    if kind == "P":
        picture = transparent("L").quantize(2)
        key["P"] = picture.getpixel((1, 0))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", **({"transparency": key[kind]} if kind in key else {}))
    assert decode_one(buffer.getvalue()).tolist() == [[[40] * 3, [255] * 3]]


def test_half_transparent_pixels_are_half_white():
    buffer = io.BytesIO()
    Image.new("RGBA", (1, 1), (0, 0, 0, 51)).save(buffer, "PNG")  # a fifth black
    assert decode_one(buffer.getvalue()).tolist() == [[[204] * 3]]


@pytest.mark.parametrize("side", ["", "@16"], ids=["decoded", "encoded"])
def test_a_jpeg_in_a_beton_that_claims_too_many_pixels_takes_no_memory(tmp_path, side):
    path = tmp_path / "test.beton"
    path.write_bytes(beton_by_hand([(JPEG, 60_000, 60_000, as_jpeg(np.zeros((8, 8, 3), np.uint8)), 0)]))
    with pytest.raises(ValueError, match="sample 0 claims more than 178956970 pixels"):
        load_images(f"beton:{path}{side}", "test")


def test_a_jpeg_that_is_larger_than_its_record_is_not_decoded(tmp_path, monkeypatch):
    path = tmp_path / "test.beton"
    path.write_bytes(beton_by_hand([(JPEG, 8, 8, as_jpeg(np.zeros((16, 16, 3), np.uint8)), 0)]))
    monkeypatch.setattr(beton, "decode_jpeg", lambda *_, **__: pytest.fail("decoded"))
    with pytest.raises(ValueError, match="sample 0 is no readable JPEG.*not all of a picture of 8×8 pixels"):
        load_images(f"beton:{path}", "test")


def test_a_damaged_label_makes_no_classes(tmp_path):
    write_beton(tmp_path / "test.beton", np.zeros((3, 4, 4, 3), np.uint8), np.array([0, 10**12, 1]))
    with pytest.raises(ValueError, match=r"test.beton: label 1000000000000 of image 1 is above 99999"):
        load_images(f"beton:{tmp_path / 'test.beton'}", "test")


@pytest.mark.parametrize("place", ["csv", "imagefolder", "cifar10", ".", "/etc", "../x", "a/../b", "a/b/c", "./a/b"])
def test_the_hub_is_asked_for_owner_and_name_alone(place, monkeypatch):
    monkeypatch.setattr(readers, "_load_hub", lambda hub_id: pytest.fail(f"asked for {hub_id}"))
    with pytest.raises(ValueError, match=f"hub:{re.escape(place)} is no data set of the hub; write hub:owner/name"):
        load_images(f"hub:{place}", "test")


def test_a_folder_here_is_never_read_as_a_hub_set(folder, monkeypatch):
    monkeypatch.setattr(readers, "_load_hub", lambda hub_id: pytest.fail(f"asked for {hub_id}"))
    monkeypatch.chdir(folder.parent)
    with pytest.raises(
        ValueError, match="mine/ant is also a folder in .*, which would be read instead; write folder:mine/ant"
    ):
        load_images("hub:mine/ant", "test")


@pytest.mark.parametrize("problem", [None, "https://hub does not answer"])
def test_an_error_of_the_hub_shows_its_cause(problem, monkeypatch):
    import datasets

    def load_dataset(_):
        raise datasets.exceptions.DatasetNotFoundError("Dataset 'a/b' doesn't exist on the Hub")

    monkeypatch.setattr(readers, "hub_problem", lambda: problem)
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    cause = "DatasetNotFoundError: Dataset 'a/b' doesn't exist on the Hub"
    whole = f"{problem}; of the copies kept here: {cause}" if problem else cause
    with pytest.raises(RuntimeError, match=re.escape(f"the hub data set a/b does not come ({whole})")):
        load_images("hub:a/b", "test")
