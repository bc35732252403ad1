"""Downloads with gdown replaced by a stand-in, and the error without network by gdown itself."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import gdown
import numpy as np
import pytest

from src.data import DATASETS, download, load_images
from src.data.beton import read_beton, read_sidecar, write_beton
from src.data.download import download_drive_file, fetch_betons

CONTENT = b"some weights" * 100
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def drive(monkeypatch):
    """Drive as a dict from file id to content, or to the error it ends in; and the ids it was asked for."""
    files, asked = {"abc": CONTENT}, []

    def fake_download(*, id, output, **_):
        asked.append(id)
        if isinstance(files[id], Exception):
            Path(f"{output}x1y2.part").write_bytes(b"first bytes")  # gdown leaves such of a broken transfer
            raise files[id]
        Path(output).write_bytes(files[id])
        return output

    monkeypatch.setattr(gdown, "download", fake_download)
    return SimpleNamespace(files=files, asked=asked)


def test_a_file_is_fetched_once_and_its_checksum_recorded(drive, tmp_path):
    target = tmp_path / "new" / "weights.pt"
    assert download_drive_file("abc", target) == target
    assert download_drive_file("abc", target) == target
    assert drive.asked == ["abc"]
    assert target.read_bytes() == CONTENT
    assert json.loads((tmp_path / "new" / "weights.pt.json").read_text())["sha256"] == SHA256
    assert sorted(p.name for p in target.parent.iterdir()) == ["weights.pt", "weights.pt.json"]


def test_a_file_that_changed_since_is_refused_and_not_fetched_again(drive, tmp_path):
    target = download_drive_file("abc", tmp_path / "weights.pt")
    target.write_bytes(CONTENT[:-1])
    with pytest.raises(ValueError, match=f"sha256 [0-9a-f]+, expected {SHA256}: remove weights.pt and"):
        download_drive_file("abc", target)
    assert drive.asked == ["abc"]


def test_another_file_under_the_same_id_is_not_kept(drive, tmp_path):
    target = download_drive_file("abc", tmp_path / "weights.pt")
    target.unlink()
    drive.files["abc"] = b"other weights"
    with pytest.raises(ValueError, match="Drive now gives another file for abc; it is not kept"):
        download_drive_file("abc", target)
    assert [p.name for p in tmp_path.iterdir()] == ["weights.pt.json"]


def test_a_checksum_that_is_known_beforehand_is_compared(drive, tmp_path):
    with pytest.raises(ValueError, match="expected 00ff"):
        download_drive_file("abc", tmp_path / "weights.pt", sha256="00ff")
    assert not list(tmp_path.iterdir())
    download_drive_file("abc", tmp_path / "weights.pt", sha256=SHA256)
    with pytest.raises(ValueError, match="expected 00ff"):
        download_drive_file("abc", tmp_path / "weights.pt", sha256="00ff")


def test_a_file_put_there_by_hand_is_taken_and_recorded(drive, tmp_path):
    target = tmp_path / "weights.pt"
    target.write_bytes(CONTENT)
    download_drive_file("abc", target)
    assert drive.asked == []
    target.write_bytes(b"changed")
    with pytest.raises(ValueError, match="expected"):
        download_drive_file("abc", target)


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        (ConnectionError("Failed to resolve 'drive.google.com'"), "Failed to resolve"),
        (gdown.DownloadError("Download is incomplete: received 15 bytes\nmore"), "received 15 bytes"),
        (gdown.FileURLRetrievalError("Cannot retrieve the public link"), "Cannot retrieve the public link"),
        (b"<!DOCTYPE html><html>Quota exceeded</html>", "Drive sent a web page"),
    ],
)
def test_a_failed_download_says_what_to_do_and_leaves_nothing(drive, tmp_path, result, reason):
    drive.files["abc"] = result
    with pytest.raises(RuntimeError) as caught:
        download_drive_file("abc", tmp_path / "weights.pt")
    message = str(caught.value)
    for part in ("weights.pt cannot be fetched", reason, "go online", "uc?id=abc", f"{tmp_path}/weights.pt"):
        assert part in message
    assert "\n" not in message
    assert not list(tmp_path.iterdir())


def test_gdown_itself_fails_with_the_same_error_where_it_cannot_connect(monkeypatch, tmp_path):
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")  # nobody listens on the discard port
    monkeypatch.setattr(download, "RETRIES", 0)
    with pytest.raises(RuntimeError, match=r"weights.pt cannot be fetched .*What to do: go online"):
        download_drive_file("abc", tmp_path / "weights.pt")
    with pytest.raises(RuntimeError, match=r"folders/15e2AWuY_vVyGluxiVlgRZnswT-We0RfA cannot be listed"):
        fetch_betons(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def beton_drive(drive, monkeypatch, tmp_path):
    """The study's Drive folder with small betons in it, each with its own images."""
    images = load_images("fashion_mnist", "test").subset(40, seed=0).images
    paths = [f"cifar10/{name}_32.beton" for name in ("train", "val")]
    paths += [f"cifar100/{name}_32.beton" for name in ("train", "test")]
    for i in range(len(paths)):
        write_beton(tmp_path / "made.beton", images[10 * i : 10 * i + 10], np.arange(10))
        drive.files[f"id{i}"] = (tmp_path / "made.beton").read_bytes()
    listing = [SimpleNamespace(id=f"id{i}", path=path) for i, path in enumerate(paths)]
    monkeypatch.setattr(gdown, "download_folder", lambda **_: listing)
    for name in ("cifar10", "cifar100"):
        monkeypatch.setitem(DATASETS, name, replace(DATASETS[name], sizes={"train": 10, "test": 10}, checksums={}))
    return SimpleNamespace(files=drive.files, asked=drive.asked, listing=listing, paths=paths, images=images)


def test_betons_land_where_load_images_looks_with_their_sidecars(beton_drive, monkeypatch, tmp_path, capsys):
    folder = tmp_path / "data"
    assert fetch_betons(folder) == [folder / path for path in beton_drive.paths]
    monkeypatch.setattr("src.data.load.DATA", folder)
    for i, (name, split) in enumerate([("cifar10", "train"), ("cifar10", "test"), ("cifar100", "train")]):
        loaded = load_images(name, split, source="beton")
        assert (loaded.images == beton_drive.images[10 * i : 10 * i + 10]).all()
        assert read_sidecar(folder / beton_drive.paths[i])["classes"] == list(DATASETS[name].classes)
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 4 and printed[3].startswith(f"{folder}/cifar100/test_32.beton: 10 images")
    fetch_betons(folder)
    assert len(beton_drive.asked) == 4  # nothing is fetched twice


@pytest.mark.parametrize("content", ["half", "a file of another kind"])
def test_a_half_downloaded_beton_is_not_kept_and_the_next_call_goes_on(beton_drive, tmp_path, content):
    whole = beton_drive.files["id1"]
    beton_drive.files["id1"] = whole[: len(whole) // 2] if content == "half" else b"PK\3\4" * 5000
    with pytest.raises(ValueError, match="val_32.beton"):
        fetch_betons(tmp_path / "data")
    assert not list((tmp_path / "data" / "cifar10").glob("*val*"))
    beton_drive.files["id1"] = whole
    fetch_betons(tmp_path / "data")
    assert beton_drive.asked == ["id0", "id1", "id1", "id2", "id3"]
    assert (read_beton(tmp_path / "data" / "cifar10" / "val_32.beton")[0] == beton_drive.images[10:20]).all()


@pytest.mark.parametrize("change", ["images", "labels", "size"])
def test_a_whole_beton_of_something_else_is_not_kept(beton_drive, tmp_path, change):
    images, labels = beton_drive.images[:10], np.arange(10)
    images = {"images": images[:9], "size": images[:, :28, :28]}.get(change, images)
    write_beton(tmp_path / "other.beton", images, labels[: len(images)] + (change == "labels"))
    beton_drive.files["id0"] = (tmp_path / "other.beton").read_bytes()
    with pytest.raises(ValueError, match="is not cifar10 train: images"):
        fetch_betons(tmp_path / "data")
    assert not list((tmp_path / "data" / "cifar10").iterdir())


def test_a_beton_that_the_folder_lacks_is_named(beton_drive, tmp_path):
    del beton_drive.listing[2]
    with pytest.raises(RuntimeError, match=r"lacks cifar100/train_32.beton; it has cifar10/train_32"):
        fetch_betons(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"sha256": 3}'])
def test_a_damaged_record_of_a_download_is_named(drive, tmp_path, content):
    for name, text in (("a.bin", CONTENT.decode()), ("a.bin.json", content)):
        (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=r"a\.bin\.json is damaged"):
        download_drive_file("abc", tmp_path / "a.bin")
    assert (tmp_path / "a.bin").read_bytes() == CONTENT and (tmp_path / "a.bin.json").read_text() == content


def test_the_command_ends_in_a_line(monkeypatch):
    monkeypatch.setattr("sys.argv", ["download"])
    monkeypatch.setattr(download, "fetch_betons", lambda: (_ for _ in ()).throw(RuntimeError("cannot be listed")))
    with pytest.raises(SystemExit, match="^cannot be listed$"):
        download.main()
