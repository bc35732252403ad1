"""Pictures of anyone: names, one folder for both splits, and files that are no pictures."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from src.data import ImageSet, load_images, readers
from src.data.beton import write_beton
from src.data.load import UNDIVIDED

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


def test_named_sets_keep_their_names_and_lend_them_to_no_other(folder):
    with pytest.raises(ValueError, match="cifar10 goes by its own name.*leave out the label c10"):
        load_images("c10=cifar10", "test")
    with pytest.raises(ValueError, match="cifar10 is a data set of its own; give folder:.* another label"):
        load_images(f"cifar10=folder:{folder}", "test")


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
    check_division(both(f"mine=folder:{folder}{side}"), np.stack(files))


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
    check_division(both("mine=hub:me/mine"), np.stack(files))


def test_a_class_of_one_picture_is_refused_by_name(folder):
    next(folder.glob("cat/*")).unlink()
    for split in ("train", "test"):
        with pytest.raises(ValueError, match="class cat has one image, which cannot be in train and in test"):
            load_images(f"folder:{folder}", split)


def test_selections_keep_the_note_and_what_files_divide_has_none(folder, clothes):
    train, validation = load_images(f"folder:{folder}", "train").split_off(3, seed=0)
    assert train.note == validation.subset(2, seed=0).note == UNDIVIDED
    assert clothes.note == ""
