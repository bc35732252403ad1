import math

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from torch import nn
from torchvision.transforms.v2 import functional as tv

from src.data import DATASETS, ImageSet
from src.models import build_model
from src.models.build import MODELS, TIMM_FAMILIES, Task, family_of
from src.models.compact import COMPACT, SIZES, compact_cnn, compact_vit
from src.models.pixel_model import classifier_name
from src.models.weights import save_weights
from src.names import ModelName
from src.paths import ROOT


def n_parameters(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def randomise(net: nn.Module) -> None:
    """Every parameter and running statistic at random, so that one left out or misplaced shows."""
    generator = torch.Generator().manual_seed(0)
    for name, value in net.state_dict().items():
        if name.endswith("running_var"):
            value.copy_(0.5 + torch.rand(value.shape, generator=generator))
        elif value.is_floating_point():
            value.copy_(torch.randn(value.shape, generator=generator) / math.sqrt(max(value[0].numel(), 10)))


def image_set(side: int, *, width: int | None = None, n_classes: int = 3, name: str = "folder:somewhere") -> ImageSet:
    images = np.zeros((n_classes, side, width or side, 3), dtype=np.uint8)
    classes = tuple(f"class {i}" for i in range(n_classes))
    return ImageSet(name, "train", images, np.arange(n_classes), classes, np.arange(n_classes))


# --- the compact models


@pytest.mark.parametrize("size", ["small", "base"])
def test_the_compact_models_of_one_size_are_matched(size):
    counts = [n_parameters(build_model(name, "cifar10", weights=None, size=size)) for name in COMPACT]
    assert max(counts) < 1.5 * min(counts)
    expected = {"small": 0.8e6, "base": 2.7e6}[size]
    assert all(0.8 * expected < count < 1.2 * expected for count in counts)


@pytest.mark.parametrize("name", COMPACT)
@pytest.mark.parametrize("dataset", DATASETS)
def test_logits_have_a_column_for_each_class(name, dataset):
    model = build_model(name, dataset, weights=None)
    side = DATASETS[dataset].side
    logits = model(torch.rand(2, 3, side, side))
    assert logits.shape == (2, DATASETS[dataset].n_classes) and not model.training
    assert model.name == name and model.source == {}
    assert model.size == ("small" if dataset.startswith("fashion") else "base")


@pytest.mark.parametrize("name", COMPACT)
def test_normalisation_with_the_data_sets_statistics_is_inside(name):
    model = build_model(name, "cifar100", weights=None, size="small")
    pixels = torch.rand(4, 3, 32, 32)
    normalised = tv.normalize(pixels, [0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616])
    torch.testing.assert_close(model(pixels), model.net(normalised), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(model(pixels), model.net(pixels), atol=1e-3)


def test_normalisation_is_no_part_of_the_weights_and_moves_with_the_model():
    model = build_model("mlp", "cifar10", weights=None, size="small")
    assert all(key.startswith("net.") for key in model.state_dict())
    assert model.double().mean.dtype == torch.float64


def test_compact_cnn_is_torchvisions_resnet18_with_a_cifar_stem():
    ours = compact_cnn(10, 32, width=64)
    theirs = torchvision.models.resnet18(num_classes=10)
    theirs.conv1 = nn.Conv2d(3, 64, 3, stride=1, padding=1, bias=False)
    theirs.maxpool = nn.Identity()
    randomise(ours)
    theirs.load_state_dict(ours.state_dict())
    pixels = torch.randn(4, 3, 32, 32)
    for training in (True, False):
        found, expected = ours.train(training)(pixels), theirs.train(training)(pixels)
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def vit_by_hand(state: dict[str, torch.Tensor], images: torch.Tensor, depth: int, heads: int) -> torch.Tensor:
    """Dosovitskiy et al. 2021 on 4×4 patches, mean over patches, written out."""

    def linear(x, name):
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    def norm(x, name):
        return F.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], eps=1e-6)

    n, _, side, _ = images.shape
    patches = images.reshape(n, 3, side // 4, 4, side // 4, 4).permute(0, 2, 4, 1, 3, 5).reshape(n, -1, 48)
    kernel = state["patch_embed.proj.weight"]
    x = patches @ kernel.reshape(len(kernel), 48).T + state["patch_embed.proj.bias"] + state["pos_embed"]
    for i in range(depth):
        qkv = linear(norm(x, f"blocks.{i}.norm1"), f"blocks.{i}.attn.qkv")
        q, k, v = qkv.reshape(n, x.shape[1], 3, heads, -1).permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(-1)
        x = x + linear((weights @ v).transpose(1, 2).reshape(x.shape), f"blocks.{i}.attn.proj")
        hidden = F.gelu(linear(norm(x, f"blocks.{i}.norm2"), f"blocks.{i}.mlp.fc1"))
        x = x + linear(hidden, f"blocks.{i}.mlp.fc2")
    return linear(norm(x.mean(1), "fc_norm"), "head")


@pytest.mark.parametrize("size", ["small", "base"])
def test_compact_vit_is_the_paper_with_mean_pooling(size):
    shape = SIZES["vit"][size]
    net = compact_vit(10, 32, **shape).eval()
    randomise(net)
    images = torch.randn(3, 3, 32, 32)
    expected = vit_by_hand(net.state_dict(), images, shape["depth"], shape["num_heads"])
    torch.testing.assert_close(net(images), expected, atol=1e-4, rtol=1e-4)


def test_compact_models_fit_any_image_set_they_are_given():
    for name in COMPACT:
        model = build_model(name, image_set(40, n_classes=7), weights=None, size="small")
        assert model(torch.rand(2, 3, 40, 40)).shape == (2, 7)
        np.testing.assert_allclose(model.mean.flatten(), [0.485, 0.456, 0.406], rtol=1e-6)
    by_name, by_set = (
        build_model("cnn", data, weights=None) for data in ("fashion_mnist", image_set(32, name="fashion_mnist"))
    )
    assert torch.equal(by_name.std, by_set.std) and by_name.size == by_set.size


def test_images_that_no_model_takes_are_refused():
    with pytest.raises(ValueError, match="images of 32x24 pixels; models take square ones"):
        build_model("cnn", image_set(24, width=32), weights=None)
    with pytest.raises(ValueError, match="vit cuts images into patches of 4x4.* 30 pixels"):
        build_model("vit", image_set(30), weights=None)


# --- names


def test_the_registry_holds_the_compact_and_the_published_models():
    published = ["mlp_b12_wi1024", "resnet18", "vit_small_patch16_224"]
    assert sorted(MODELS) == sorted(["mlp", "cnn", "vit", "cnn_robust", *published])


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(name="vitt"), r"unknown model 'vitt' \(did you mean 'vit'\?\); choose from mlp, cnn, vit, .*timm:<name>"),
        (dict(name="xyzzy"), "unknown model 'xyzzy'; choose from"),
        (dict(dataset="cifar11"), "unknown data set 'cifar11'; choose from cifar10, cifar100.*ImageSet"),
        (dict(size="huge"), "unknown size 'huge' of cnn; choose from small, base"),
        (dict(name="timm:resnt18"), "timm has no model 'resnt18'; near names: .*resnet18"),
        (dict(name="timm:resnet10t.c3_in21k"), "timm has no model 'resnet10t.c3_in21k'; near names: resnet10t.c3_in1k"),
        (dict(name="timm:"), "unknown model 'timm:'.*or <file>.py:<function>"),
        (dict(name="mine.py"), "unknown model 'mine.py'.*or <file>.py:<function> for your own"),
        (dict(name="timm:test_vit", size="small"), "size='small' is for mlp, cnn, vit, cnn_robust; timm:test_vit has"),
        (dict(name="resnet18@seed1"), "resnet18@seed1 names its weights already; leave out weights=None"),
        (dict(name="cnn@"), "'cnn@' is no model's name"),
        (dict(size="width=9"), "cnn has an even number of channels, so width=9"),
        (
            dict(size="widht=8"),
            "unknown size 'widht=8' of cnn; choose from small, base, or .* as in width=32",
        ),
        (dict(size="width=0"), "unknown size 'width=0' of cnn"),
        (dict(size="width=8.5"), "unknown size 'width=8.5' of cnn"),
        (dict(name="vit", size="num_heads=5"), "vit shares embed_dim=192 out over its heads, and num_heads=5 does not"),
        (
            dict(name="timm:botnet50ts_256", weights="default"),
            "no pretrained weights for 'botnet50ts_256'.*weights=None",
        ),
    ],
)
def test_what_is_not_there_is_refused_with_what_is(arguments, message):
    with pytest.raises(ValueError, match=message):
        build_model(**(dict(name="cnn", dataset="cifar10", weights=None) | arguments))


@pytest.mark.parametrize(
    "family, names",
    [
        ("mlp", ["mlp", "mlp_b12_wi1024", "timm:mixer_s32_224", "timm:resmlp_12_224"]),
        ("cnn", ["cnn", "cnn_robust", "resnet18", "timm:resnet18", "timm:convnext_atto", "timm:test_efficientnet"]),
        ("vit", ["vit", "vit_small_patch16_224", "timm:vit_small_patch16_224", "timm:deit_tiny_patch16_224",
                 "timm:vit_tiny_patch16_224.augreg_in21k", "timm:swin_tiny_patch4_window7_224"]),
    ],
)  # fmt: skip
def test_every_name_has_its_architecture(family, names):
    assert {family_of(name) for name in names} == {family}


@pytest.mark.parametrize(
    "name, family",
    [
        ("mixer=mine.py:build@w.pt", "mine.py:build"),  # of a file that is not there: nothing is run for it
        ("mine.py:build", "mine.py:build"),
        ("timm:coatnet_0_224", "timm:coatnet_0_224"),
        ("small=cnn_robust@w8", "cnn"),
        (ModelName("r", "timm:resnet18", "untrained"), "cnn"),
    ],
)
def test_other_networks_are_architectures_of_their_own(name, family):
    assert family_of(name) == family


@pytest.mark.parametrize(
    "name, message",
    [
        ("timm:resnt18", "timm has no model 'resnt18'; near names: .*resnet18"),
        ("convnext_atto", "unknown model 'convnext_atto'"),  # timm's names have timm: before them
    ],
)
def test_an_architecture_that_is_not_known_is_refused(name, message):
    with pytest.raises(ValueError, match=message):
        family_of(name)


def test_the_families_name_modules_that_timm_has():
    modules = [module for modules in TIMM_FAMILIES.values() for module in modules]
    assert len(modules) == len(set(modules)) and set(modules) <= set(timm.list_modules())


# --- timm's models


@pytest.mark.parametrize("name", ["test_vit", "test_resnet", "test_efficientnet"])
def test_any_timm_model_resizes_and_normalises_as_its_pretraining_did(name):
    model = build_model(f"timm:{name}", "cifar100", weights=None)
    config = timm.create_model(name).pretrained_cfg
    pixels = torch.rand(2, 3, 32, 32)
    resized = tv.resize(pixels, list(config["input_size"][-2:]), antialias=True)
    expected = model.net(tv.normalize(resized, list(config["mean"]), list(config["std"])))
    found = model(pixels)
    assert found.shape == (2, 100)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "name", ["test_vit", "test_resnet", "test_efficientnet", "convnext_atto", "mobilenetv3_small_050"]
)
def test_the_classifier_of_timm_models_is_what_gives_the_logits(name):
    model = build_model(f"timm:{name}", "cifar10", weights=None)
    new = nn.Linear(model.classifier.in_features, 4)
    model.replace_classifier(new)
    assert model.classifier is new
    seen = []
    new.register_forward_hook(lambda _, __, output: seen.append(output))
    assert torch.equal(model(torch.rand(1, 3, 32, 32)), seen[0])


@pytest.mark.parametrize("name", ["deit_tiny_distilled_patch16_224", "resnetv2_50x1_bit"])
def test_a_network_without_one_linear_classifier_can_be_built_but_says_so(name):
    net = timm.create_model(name, num_classes=10)
    with pytest.raises(ValueError, match="has no single linear classifier"):
        classifier_name(net)


def test_weights_fine_tuned_here_load_into_a_timm_model(tmp_path):
    model = build_model("timm:test_resnet", "cifar10", weights=None)
    randomise(model.net)
    card = {"model": "timm:test_resnet", "dataset": "cifar10", "mean": [0.3] * 3, "std": [0.2] * 3}
    file = tmp_path / "timm-test_resnet_cifar10_quick.safetensors"
    save_weights(model.net, file, card)
    torch.save(model.net.state_dict(), tmp_path / "w.pt")
    pixels = torch.rand(2, 3, 32, 32)
    for options in (dict(name=f"t=timm:test_resnet@{file}"), dict(name="timm:test_resnet@quick", folder=tmp_path)):
        loaded = build_model(dataset="cifar10", **options)
        assert loaded.trained and loaded.path == file and list(loaded.source) == [file.name]
        resized = tv.resize(pixels, [160, 160], antialias=True)
        expected = model.net(tv.normalize(resized, [0.3] * 3, [0.2] * 3))
        torch.testing.assert_close(loaded(pixels), expected, atol=1e-3, rtol=1e-3)
    bare = build_model(f"timm:test_resnet@{tmp_path / 'w.pt'}", "cifar10")  # timm's own normalisation
    assert torch.equal(bare.net.fc.weight, model.net.fc.weight) and not torch.equal(bare.mean, loaded.mean)
    file.rename(tmp_path / "timm-test_resnet_cifar10.safetensors")
    file.with_suffix(".json").rename(tmp_path / "timm-test_resnet_cifar10.json")
    assert build_model("timm:test_resnet", "cifar10", folder=tmp_path).trained  # before those of its pretraining
    with pytest.raises(ValueError, match="holds weights of timm:test_resnet on cifar10, not of .* on fashion_mnist"):
        build_model("timm:test_resnet", "fashion_mnist", weights=tmp_path / "timm-test_resnet_cifar10.safetensors")


# --- weights of the compact models


def test_a_name_says_all_that_the_keyword_says():
    by_name, by_keyword = (
        build_model("a=cnn@seed1", "fashion_mnist"),
        build_model("cnn", "fashion_mnist", weights="seed1"),
    )
    assert by_name.source == by_keyword.source and by_name.path == by_keyword.path
    assert (by_name.name, by_keyword.name, by_name.family, by_name.trained) == ("a", "cnn", "cnn", True)
    assert by_name.path.name == "cnn_fashion_mnist_seed1.safetensors" and by_name.card["recipe"]["seed"] == 1
    plain = build_model("cnn@untrained", Task("fashion_mnist", 10, 32))
    assert (plain.name, plain.trained, plain.size, plain.source) == ("cnn@untrained", False, "small", {})
    assert build_model(ModelName("x", "cnn", "seed1"), "fashion_mnist_full").source == by_name.source


@pytest.mark.parametrize(
    "name, size, whole, n",
    [
        ("cnn", "width=8", "width=8", 0.18e6),
        ("vit", "embed_dim=96, depth=3", "embed_dim=96,depth=3,num_heads=4", 0.35e6),
        ("mlp", "width=52", "blocks=6,width=52", 0.3e6),
    ],
)
def test_a_size_may_be_a_shape_which_the_card_keeps(tmp_path, name, size, whole, n):
    model = build_model(name, "fashion_mnist", weights=None, size=size)
    assert model.size == whole and 0.8 * n < n_parameters(model.net) < 1.2 * n
    about = {"model": name, "dataset": "fashion_mnist", "size": model.size}
    save_weights(model.net, tmp_path / f"{name}_fashion_mnist_w8.safetensors", about)
    loaded = build_model(f"{name}@w8", "fashion_mnist", folder=tmp_path)
    assert loaded.size == whole
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), model.parameters(), strict=True))
    with pytest.raises(ValueError, match=f"_w8.safetensors holds weights of size '{whole}', not 'base'"):
        build_model(f"{name}@w8", "fashion_mnist", folder=tmp_path, size="base")
    torch.save(model.net.state_dict(), tmp_path / "w.pt")
    loaded = build_model(f"{name}@{tmp_path / 'w.pt'}", "fashion_mnist", size=size)
    assert loaded.size == whole and loaded.trained and torch.equal(loaded.mean, model.mean)
    (tmp_path / f"{name}_fashion_mnist_w8.json").unlink()
    with pytest.raises(FileNotFoundError, match="w8.safetensors has no card"):
        build_model(f"{name}@w8", "fashion_mnist", folder=tmp_path)


@pytest.mark.parametrize(
    "name, dataset, weights, message",
    [
        ("cnn", "fashion_mnist", "cnn_cifar10", "holds weights of cnn on cifar10, not of cnn on fashion_mnist"),
        ("cnn", "cifar10", "cnn_robust_cifar10", "holds weights of cnn_robust on cifar10, not of cnn on cifar10"),
        ("cnn_robust", "cifar10", "cnn_cifar10", "holds weights of cnn on cifar10, not of cnn_robust on cifar10"),
    ],
)
def test_weights_of_another_data_set_or_model_are_refused(name, dataset, weights, message):
    with pytest.raises(ValueError, match=message):
        build_model(name, dataset, weights=ROOT / "cnn_models" / f"{weights}.safetensors")


def test_saved_weights_give_the_same_logits_under_their_cards_normalisation(tmp_path):
    model = build_model("cnn", "cifar10", weights=None, size="small")
    randomise(model.net)
    about = {"size": "small", "mean": [0.3, 0.4, 0.5], "std": [0.2, 0.2, 0.2]}
    path = tmp_path / "cnn_cifar10.safetensors"
    card = save_weights(model.net, path, about)
    loaded = build_model("cnn", "cifar10", weights=path)
    pixels = torch.rand(4, 3, 32, 32)
    expected = model.net(tv.normalize(pixels, about["mean"], about["std"]))
    torch.testing.assert_close(loaded(pixels), expected, atol=1e-5, rtol=1e-5)
    assert loaded.size == "small" and loaded.source == {path.name: card["sha256"]}


def test_weights_of_another_model_size_or_class_count_are_refused(tmp_path):
    about = {"mean": [0.5] * 3, "std": [0.5] * 3}
    path = tmp_path / "w.safetensors"
    save_weights(build_model("cnn", "cifar10", weights=None, size="small").net, path, about | {"size": "small"})
    with pytest.raises(ValueError, match=r"fc.weight: .*\[10, 128\].* model is torch.Size\(\[100, 128\]"):
        build_model("cnn", "cifar100", weights=path)
    with pytest.raises(ValueError, match='w.safetensors does not fit the model.*Missing.*"linear_in.weight"'):
        build_model("mlp", "cifar10", weights=path)
    save_weights(build_model("cnn", "cifar10", weights=None, size="base").net, path, about | {"size": "small"})
    with pytest.raises(ValueError, match=r"conv1.weight: .*\[32, 3, 3, 3\].* model is torch.Size\(\[16, 3, 3, 3\]"):
        build_model("cnn", "cifar10", weights=path)


def test_weights_that_are_not_there_say_how_to_make_them():
    with pytest.raises(
        FileNotFoundError, match="no weights mlp_cifar100_seed99.safetensors.*make train MODEL=mlp DATASET=cifar100"
    ):
        build_model("mlp", "cifar100", weights="seed99")


@pytest.mark.parametrize("name", ["mlp", "cnn", "vit"])
def test_a_network_sees_pixels_of_the_side_it_was_trained_for(name, tmp_path):
    model = build_model(f"{name}@untrained", "cifar10", size="small")
    assert model.input_side == 32
    about = {"size": "small", "side": 32, "mean": [0.5] * 3, "std": [0.5] * 3}
    save_weights(model.net, tmp_path / f"{name}_pictures.safetensors", about)
    loaded = build_model(name, Task("pictures", 10, 64), folder=tmp_path)
    pixels = torch.rand(2, 3, 64, 64)
    small = tv.resize(pixels, [32, 32], antialias=True)
    torch.testing.assert_close(loaded(pixels), loaded(small), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(
        loaded(pixels), build_model(name, Task("pictures", 10, 32), folder=tmp_path)(small.flip(3))
    )
