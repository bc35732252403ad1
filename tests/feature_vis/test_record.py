"""Tables of pictures: who judges whom, which images they start from and are held against."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from src.data import load_images
from src.data.pixels import to_pixels
from src.feature_vis import image_statistics, record_classes, record_inversions
from src.feature_vis.record import judges_of
from src.models import build_model


@pytest.fixture(scope="module")
def natural(clothes):
    return image_statistics(to_pixels(clothes.images))


def test_judges_are_of_another_architecture_and_of_the_first_training_seed():
    names = ("mlp", "cnn", "cnn_robust", "vit")
    zoo = {(name, seed): nn.Identity() for name in names for seed in (2, 0)}
    assert judges_of("cnn", zoo) == {"mlp": zoo["mlp", 2], "vit": zoo["vit", 2]}
    assert list(judges_of("vit", zoo)) == ["mlp", "cnn", "cnn_robust"]
    assert judges_of("mlp", {("mlp", 0): nn.Identity()}) == {}


def test_a_published_network_does_not_judge_its_own_architecture():
    zoo = {(name, 0): nn.Identity() for name in ("cnn", "resnet18", "mlp", "mlp_b12_wi1024", "vit_small_patch16_224")}
    assert list(judges_of("cnn", zoo)) == ["mlp", "mlp_b12_wi1024", "vit_small_patch16_224"]
    assert list(judges_of("resnet18", zoo)) == ["mlp", "mlp_b12_wi1024", "vit_small_patch16_224"]


def test_the_table_of_classes_says_of_each_picture_how_it_was_made(natural):
    zoo = {("mlp", 0): build_model("mlp", "fashion_mnist")}
    images = load_images("fashion_mnist", "test")
    table, pictures = record_classes(zoo, images, natural, methods=["pixels", "from image"], n_seeds=2, steps=1)
    assert pictures.dtype == np.uint8 and table["picture"].tolist() == list(range(len(pictures))) == list(range(60))
    assert list(table["condition"].unique()) == ["pixels", "from image", "real"] and (table["model"] == "mlp").all()
    assert table["target"].tolist() == 3 * 2 * list(range(10)) and table["seed"].tolist() == 3 * (10 * [0] + 10 * [1])
    real = table[table["condition"] == "real"].reset_index(drop=True)
    by_id = {i: k for k, i in enumerate(images.sample_ids)}
    rows = [by_id[i] for i in real["sample_id"]]
    assert (images.labels[rows] == real["target"]).all() and real["sample_id"].is_unique
    np.testing.assert_array_equal(pictures[real["picture"]], images.images[rows])
    # one step from an image of the next class is still near it
    turned = pictures[table.loc[table["condition"] == "from image", "picture"]].astype(float)
    starts = pictures[real["picture"]].astype(float).reshape(2, 10, *pictures.shape[1:])
    next_class = np.roll(starts, -1, 1).reshape(turned.shape)
    own, other = (np.abs(turned - x).mean((1, 2, 3)) for x in (next_class, starts.reshape(turned.shape)))
    assert (own < other).all()
    assert table["p_transfer"].isna().all()
    with pytest.raises(ValueError, match="unknown methods dream; choose from pixels, fourier, maco, from image"):
        record_classes(zoo, images, natural, methods=["dream"])


def test_the_table_of_inversions_holds_noise_and_another_image_of_the_class_beside(natural):
    model = build_model("cnn", "fashion_mnist", weights=None)
    images = load_images("fashion_mnist", "test")
    chosen = images.subset(3, seed=0)
    options = dict(n_stages=2, steps=1, seed=0)
    table, pictures = record_inversions({("cnn", 0): model}, chosen, images, natural, **options)
    assert list(table["condition"].unique()) == ["fourier", "noise", "same class"]
    assert table["depth"].unique().tolist() == [0, 1] and list(table["layer"].unique()) == ["net.conv1", "logits"]
    assert (table["sample_id"] == np.tile(chosen.sample_ids, 6)).all()
    assert (table["label"] == np.tile(chosen.labels, 6)).all() and (table["seed"] == 0).all()
    made = table[table["condition"] == "fourier"]
    assert made["picture"].tolist() == list(range(6)) and pictures.shape == (6, 32, 32, 3)
    assert (table.loc[table["condition"] != "fourier", "picture"] == -1).all()
    noise = table[table["condition"] == "noise"].set_index(["depth", "sample_id"])["psnr"]
    other, _ = record_inversions({("cnn", 0): model}, chosen.take(np.array([2, 0])), images, natural, **options)
    again = other[other["condition"] == "noise"].set_index(["depth", "sample_id"])["psnr"]
    np.testing.assert_array_equal(again, noise[again.index])  # noise belongs to the image, not to its place
    rest = images.take(np.flatnonzero(~np.isin(images.sample_ids, chosen.sample_ids)))
    twins = np.stack([rest.images[rest.labels == k][0] for k in chosen.labels])
    squared = np.square(twins / 255 - chosen.images / 255).mean((1, 2, 3))
    same = table[(table["condition"] == "same class") & (table["depth"] == 0)]
    np.testing.assert_allclose(same["psnr"], -10 * np.log10(squared), rtol=1e-4)
    assert np.isfinite(table["distance"]).all()


def test_networks_of_ones_own_are_architectures_of_their_own():
    mixer, hybrid = nn.Identity(), nn.Identity()
    zoo = {("mixer", 0): mixer, ("timm:coatnet_0_224", 0): hybrid}
    zoo["w8", 0] = build_model("w8=cnn@untrained", "cifar10")
    assert judges_of("w8", zoo | {("cnn", 0): mixer}) == {"mixer": mixer, "timm:coatnet_0_224": hybrid}
    assert list(judges_of("mixer", zoo)) == ["timm:coatnet_0_224", "w8"]


class Sure(nn.Module):
    """Gives one class nearly all, whatever it sees, and leans a little on the mean of the pixels."""

    def __init__(self, label, family, sharpness=20.0):
        super().__init__()
        self.family, self.scale = family, nn.Parameter(torch.tensor(sharpness))
        self.register_buffer("one", torch.nn.functional.one_hot(torch.tensor(label), 10).float())

    def forward(self, pixels):
        return self.scale * self.one + pixels.mean((1, 2, 3))[:, None] * torch.arange(10) / 100


def test_each_judge_has_a_column_of_its_own_and_none_is_of_the_makers_architecture(natural):
    """Planted judges that see class 3, or class 5, in everything: each speaks for itself, whoever made the picture."""
    zoo = {"one": Sure(0, "mlp"), "other": Sure(1, "cnn"), "third": Sure(2, "cnn")}
    judges = {"a": Sure(3, "vit"), "b": Sure(5, "cnn"), "c": Sure(3, "mlp")}
    images, options = load_images("fashion_mnist", "test"), dict(methods=["pixels"], n_seeds=1, steps=1)
    table, _ = record_classes(zoo, images, natural, judges=judges, **options)
    by_model = dict(list(table.groupby("model")))
    for model, columns in (
        ("one", ["p_by_a", "p_by_b"]),
        ("other", ["p_by_a", "p_by_c"]),
        ("third", ["p_by_a", "p_by_c"]),
    ):
        own = by_model[model].filter(like="p_by_")
        assert own.columns[own.notna().all()].tolist() == columns and own.drop(columns=columns).isna().all(axis=None)
        np.testing.assert_allclose(by_model[model]["p_transfer"], own[columns].mean(axis=1), rtol=1e-6)
        for column in columns:
            np.testing.assert_allclose(
                own[column], by_model[model]["target"] == (5 if column == "p_by_b" else 3), atol=1e-4
            )
    alone, _ = record_classes(zoo, images, natural, **options)  # the compared networks judge each other
    assert alone.loc[alone["model"] == "one", ["p_by_other", "p_by_third"]].notna().all(axis=None)
    assert alone.loc[alone["model"] == "other", "p_by_third"].isna().all()


def test_pictures_of_untrained_networks_are_chance_to_judges_that_are_sure_of_one_class(natural):
    zoo, untrained = {"one": Sure(0, "mlp"), "other": Sure(4, "cnn")}, {"one": Sure(0, "mlp", 0.1)}
    images, options = load_images("fashion_mnist", "test"), dict(methods=["maco"], n_seeds=2, steps=1)
    table, pictures = record_classes(zoo, images, natural, untrained=untrained, **options)
    made = table[table["condition"] == "untrained"]
    assert made["target"].tolist() == list(range(10)) and set(made["model"]) == {"one"} and set(made["seed"]) == {0}
    assert made["p_transfer"].mean() == pytest.approx(0.1, abs=1e-3)
    assert made["p"].max() < 0.2  # its own, not of the trained network of the name
    assert table["picture"].tolist() == list(range(len(pictures)))


def test_images_are_rebuilt_out_of_every_other_stage_of_the_untrained_network_too(natural):
    zoo, untrained = ({"cnn": build_model("cnn", "fashion_mnist", weights=w)} for w in ("default", None))
    images = load_images("fashion_mnist", "test")
    chosen = images.subset(3, seed=0)
    options = dict(n_stages=4, steps=1, untrained=untrained, n_untrained=2)
    table, pictures = record_inversions(zoo, chosen, images, natural, **options)
    depths = table.groupby("condition")["depth"].unique().map(list)
    assert depths["untrained"] == [depths["fourier"][i] for i in (0, 2, 3)]
    made = table[table["picture"] >= 0]
    assert made["picture"].tolist() == list(range(len(pictures))) and len(pictures) == 4 * 3 + 3 * 2
    assert set(made["condition"]) == {"fourier", "untrained"}
    assert (made.loc[made["condition"] == "untrained", "sample_id"] == np.tile(chosen.sample_ids[:2], 3)).all()
    alone, _ = record_inversions(zoo, chosen, images, natural, n_stages=4, steps=1)
    again = table[table["condition"] != "untrained"].reset_index(drop=True)
    pd.testing.assert_frame_equal(again[alone.columns], alone)  # what is measured beside changes nothing
