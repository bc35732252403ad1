"""The 2023 report's networks, from files of the published form that these tests make: the real ones are not here."""

import os
import pickle
from types import SimpleNamespace

import gdown
import huggingface_hub.constants
import huggingface_hub.errors
import pytest
import requests
import timm
import torch
from torch import nn
from torchvision.transforms.v2 import functional as tv

from src.files import sha256
from src.models import build_model, published, weights
from src.models.mlp import BottleneckMLP
from src.models.weights import read_card, save_head, save_weights

CIFAR_MEAN, CIFAR_STD = [0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]


@pytest.fixture(autouse=True)
def own_folders(tmp_path, monkeypatch):
    """Nothing read from or written to the repository or the user's cache, and no network."""
    monkeypatch.setattr(published, "ROOT", tmp_path)
    monkeypatch.setattr(weights, "ROOT", tmp_path)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))

    def unreachable(*_, **__):
        raise requests.ConnectionError("Name or service not known")

    monkeypatch.setattr(gdown, "download", unreachable)
    return tmp_path


@pytest.fixture
def small_mlp(monkeypatch):
    """B_12-Wi_1024 has 113 million parameters; these tests build B_2-Wi_16 in its place."""

    def build(*, blocks, width, side, n_classes):
        assert (blocks, width, side) == (12, 1024, 64)
        return BottleneckMLP(blocks=2, width=16, side=side, n_classes=n_classes)

    monkeypatch.setattr(published, "BottleneckMLP", build)
    return lambda n_classes: build(blocks=12, width=1024, side=64, n_classes=n_classes)


@pytest.fixture
def drive(monkeypatch, tmp_path):
    """Serves what the test puts under a file id, the way gdown does; keeps count."""

    class Drive(dict):
        fetched = 0

    files = Drive()

    def download(id, output, **_):
        files.fetched += 1
        torch.save(files[id], output)
        return output

    monkeypatch.setattr(gdown, "download", download)
    return files


MLP_IDS = {"cifar10": "1GyxuewoOzMRhzEOyUrIBLQzquc-QEYNV", "cifar100": "1LNqC58cSwtuDr-C4bk1O3GA_vAWls-UH"}
CLASSES = {"cifar10": 10, "cifar100": 100}


# --- what goes into the networks


@pytest.mark.parametrize("name, side", [("mlp_b12_wi1024", 64), ("resnet18", 32), ("vit_small_patch16_224", 224)])
def test_images_are_resized_and_normalised_inside_as_in_the_report(name, side, small_mlp):
    model = build_model(name, "cifar10", weights=None)
    pixels = torch.rand(2, 3, 32, 32)
    assert model(pixels).shape == (2, 10) and not model.training and model.source == {}
    model.net = nn.Identity()
    expected = tv.normalize(tv.resize(pixels, [side, side], antialias=True), CIFAR_MEAN, CIFAR_STD)
    assert expected.shape[-1] == side
    torch.testing.assert_close(model(pixels), expected, atol=1e-4, rtol=1e-4)


def test_larger_images_are_resized_too(small_mlp):
    model = build_model("mlp_b12_wi1024", "cifar10", weights=None)
    model.net = nn.Identity()
    pixels = torch.rand(2, 3, 100, 100)
    expected = tv.normalize(tv.resize(pixels, [64, 64], antialias=True), CIFAR_MEAN, CIFAR_STD)
    torch.testing.assert_close(model(pixels), expected, atol=1e-4, rtol=1e-4)


def test_the_real_sizes():
    with torch.device("meta"):
        counts = {
            name: build_model(name, "cifar10", weights=None) for name in ("mlp_b12_wi1024", "vit_small_patch16_224")
        }
    found = {name: sum(p.numel() for p in model.parameters()) for name, model in counts.items()}
    assert found["mlp_b12_wi1024"] == 12288 * 1024 + 1024 + 12 * (8 * 1024**2 + 7 * 1024) + 10 * 1025
    assert found["vit_small_patch16_224"] == 21_669_514  # timm's 21,665,664 without head, and 10 · 385


# --- the MLP's Drive files


@pytest.mark.parametrize("dataset", ["cifar10", "cifar100"])
@pytest.mark.parametrize("form", ["bare", "module", "model", "state_dict"])
def test_the_mlps_checkpoint_loads_in_any_usual_form(small_mlp, drive, own_folders, dataset, form):
    original = small_mlp(CLASSES[dataset])
    state = dict(original.state_dict())
    drive[MLP_IDS[dataset]] = {
        "bare": state,
        "module": {f"module.{key}": value for key, value in state.items()},
        "model": {"model": state, "epoch": 3},
        "state_dict": {"state_dict": {f"module.{key}": value for key, value in state.items()}, "epoch": 3},
    }[form]
    model = build_model("mlp_b12_wi1024", dataset)
    pixels = torch.rand(2, 3, 32, 32)
    normalised = tv.normalize(tv.resize(pixels, [64, 64], antialias=True), CIFAR_MEAN, CIFAR_STD)
    torch.testing.assert_close(model(pixels), original(normalised), atol=1e-5, rtol=1e-5)
    assert model.source.keys() == {"mlp_b12_wi1024"}


def test_a_download_is_kept_as_safetensors_with_its_checksum_and_fetched_once(small_mlp, drive, own_folders):
    drive[MLP_IDS["cifar10"]] = dict(small_mlp(10).state_dict())
    first = build_model("mlp_b12_wi1024", "cifar10")
    again = build_model("mlp_b12_wi1024", "cifar10")
    assert drive.fetched == 1
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert first.source == again.source
    folder = own_folders / "mlp_models" / "downloads"
    card = read_card(folder / "mlp_b12_wi1024_cifar10.safetensors")
    assert card["source"] == f"Google Drive file {MLP_IDS['cifar10']}"
    assert card["source_sha256"] == sha256(folder / "mlp_b12_wi1024_cifar10.original")
    kept = folder / "mlp_b12_wi1024_cifar10.safetensors"
    whole = kept.read_bytes()
    kept.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(ValueError, match="mlp_b12_wi1024_cifar10.safetensors is not the file its card describes"):
        build_model("mlp_b12_wi1024", "cifar10")


def test_a_checkpoint_of_another_network_is_refused_with_the_differences(small_mlp, drive, own_folders):
    state = dict(small_mlp(100).state_dict())
    state["norm.weight"] = state.pop("layernorms.1.weight")
    drive[MLP_IDS["cifar10"]] = state
    with pytest.raises(ValueError) as refusal:
        build_model("mlp_b12_wi1024", "cifar10")
    for part in (
        "Google Drive file 1Gyxue",
        'Missing key(s) in state_dict: "layernorms.1.weight"',
        'Unexpected key(s) in state_dict: "norm.weight"',
        "linear_out.weight: copying a param with shape torch.Size([100, 16])",
        "the shape in current model is torch.Size([10, 16])",
        "linear_out.bias: copying a param with shape torch.Size([100])",
    ):
        assert part in str(refusal.value)
    assert not list(own_folders.rglob("*.safetensors"))


class Command:
    """Unpickled, it makes a folder."""

    def __reduce__(self):
        return os.mkdir, ("owned",)


@pytest.mark.parametrize("content", ["code", "module", "list", "text", "cut"])
def test_what_is_no_plain_state_dict_is_refused_and_never_run(small_mlp, drive, monkeypatch, tmp_path, content):
    monkeypatch.chdir(tmp_path)
    state = dict(small_mlp(10).state_dict())
    drive[MLP_IDS["cifar10"]] = {
        "code": state | {"linear_in.weight": Command()},
        "module": nn.Linear(2, 2),
        "list": list(state.values()),
        "text": {"linear_in.weight": "text"},
        "cut": state,
    }[content]
    if content == "cut":
        whole = gdown.download

        def cut(output, **options):
            whole(output=output, **options)
            os.truncate(output, os.path.getsize(output) // 2)

        monkeypatch.setattr(gdown, "download", cut)
    with pytest.raises(ValueError, match="Google Drive file 1Gyxue.*(holds no state dict|is damaged, or holds more)"):
        build_model("mlp_b12_wi1024", "cifar10")
    assert not (tmp_path / "owned").exists() and not list(tmp_path.rglob("*.safetensors"))


def test_the_trap_of_the_last_test_does_spring_when_unpickled(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pickle.loads(pickle.dumps(Command()))
    assert (tmp_path / "owned").exists()


# --- the CNN's hub files


def published_resnet(n_classes: int) -> nn.Module:
    """As edadaltocg made it: timm's resnet18 with two layers replaced."""
    net = timm.create_model("resnet18", num_classes=n_classes)
    net.conv1 = nn.Conv2d(3, 64, kernel_size=3, stride=1, padding=1, bias=False)
    net.maxpool = nn.Identity()
    return net.eval()


def test_the_cnns_checkpoint_comes_from_the_hub(monkeypatch, tmp_path):
    original = published_resnet(100)
    for module in original.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
    file = tmp_path / "pytorch_model.bin"
    torch.save(original.state_dict(), file)
    asked = []
    monkeypatch.setattr(published, "hf_hub_download", lambda *names: asked.append(names) or str(file))
    model = build_model("resnet18", "cifar100")
    assert asked == [("edadaltocg/resnet18_cifar100", "pytorch_model.bin")]
    pixels = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(
        model(pixels), original(tv.normalize(pixels, CIFAR_MEAN, CIFAR_STD)), atol=1e-5, rtol=1e-5
    )
    with pytest.raises(ValueError, match=r"fc.weight: .*\[100, 512\].* model is torch.Size\(\[10, 512\]"):
        build_model("resnet18", "cifar10")


# --- the ViT: timm's backbone under a head from notebook 01


@pytest.fixture
def timm_weights(monkeypatch):
    """timm's hub in place: any network comes "pretrained" with the weights of one seed, and a fresh head."""
    create = timm.create_model
    replaced = {"vit_small_patch16_224": "test_vit"}  # forty times smaller

    def fake(name, *, pretrained, num_classes):
        name = replaced.get(name, name)
        net = create(name, num_classes=num_classes)
        if pretrained:
            with torch.random.fork_rng():
                torch.manual_seed(5)
                backbone = create(name, num_classes=1).state_dict()
            net.load_state_dict({k: v for k, v in backbone.items() if "head" not in k}, strict=False)
        return net

    monkeypatch.setattr(timm, "create_model", fake)


def test_a_pretrained_backbone_is_known_by_its_weights_not_by_the_new_head(timm_weights):
    for name, label in (("timm:test_vit", "default"), ("vit_small_patch16_224", "backbone")):
        a, b = (build_model(name, "cifar10", weights=label) for _ in range(2))
        assert a.source == b.source and list(a.source) == [name]
        assert not torch.equal(a.classifier.weight, b.classifier.weight)
        a.net.get_parameter("norm.bias" if hasattr(a.net.norm, "bias") else "fc_norm.bias").data += 1
        assert published.backbone_fingerprint(a.net) != b.source[name]


@pytest.mark.parametrize("stale", [False, True])
def test_the_vits_head_is_put_on_the_backbone_it_was_trained_on_alone(timm_weights, own_folders, stale):
    model = build_model("vit_small_patch16_224", "cifar10", weights="backbone")
    nn.init.normal_(model.classifier.weight)
    backbone = {"vit_small_patch16_224": "0" * 16} if stale else model.source
    head = own_folders / "vit_models" / "vit_small_patch16_224_cifar10.safetensors"
    save_head(model.classifier, "head", head, {"backbone": backbone})
    if stale:
        with pytest.raises(
            ValueError, match="vit_small_patch16_224_cifar10.safetensors was trained on another backbone"
        ):
            build_model("vit_small_patch16_224", "cifar10")
    else:
        loaded = build_model("vit_small_patch16_224", "cifar10")
        for key, value in model.net.state_dict().items():
            assert torch.equal(loaded.net.state_dict()[key], value)


def test_a_head_stands_on_any_pretrained_timm_network(timm_weights, own_folders):
    start = build_model("timm:test_vit", "cifar10")
    assert not start.trained and start.path is None
    nn.init.normal_(start.classifier.weight)
    card = {"model": "timm:test_vit", "dataset": "cifar10", "backbone": start.source}
    folder = own_folders / "runs" / "mine" / "weights"
    save_head(start.classifier, "head", folder / "timm-test_vit_cifar10.safetensors", card)
    loaded = build_model("timm:test_vit", "cifar10", folder=folder)
    assert loaded.trained and loaded.source.items() > start.source.items() and len(loaded.source) == 2
    for key, value in start.net.state_dict().items():
        assert torch.equal(loaded.net.state_dict()[key], value)
    whole = folder / "test_vit_whole.safetensors"  # or on weights of one's own, in another folder
    about = save_weights(start.net, own_folders / "vit_models" / whole.name, {})
    save_head(start.classifier, "head", whole.with_stem("h"), card | {"backbone": {whole.name: about["sha256"]}})
    assert build_model(f"timm:test_vit@{whole.with_stem('h')}", "cifar10").source.keys() == {
        "h.safetensors",
        whole.name,
    }


def test_what_is_trained_says_so(timm_weights, small_mlp, drive, own_folders):
    drive[MLP_IDS["cifar10"]] = dict(small_mlp(10).state_dict())
    trained = {
        name: build_model(name, "cifar10").trained
        for name in ("mlp_b12_wi1024", "mlp_b12_wi1024@untrained", "vit_small_patch16_224@backbone", "timm:test_vit")
    }
    assert [name for name, whole in trained.items() if whole] == ["mlp_b12_wi1024"]


def test_a_vit_without_a_trained_head_says_so(timm_weights):
    with pytest.raises(FileNotFoundError, match="no weights vit_small_patch16_224_cifar100.safetensors"):
        build_model("vit_small_patch16_224", "cifar100")


# --- what is not to be had


@pytest.mark.parametrize("name", ["mlp_b12_wi1024", "resnet18"])
def test_other_data_sets_have_no_published_weights(name, small_mlp):
    with pytest.raises(
        ValueError, match=f"{name} was published for cifar10, cifar100, not for 'fashion_mnist'.*weights=None"
    ):
        build_model(name, "fashion_mnist")


@pytest.mark.parametrize("name", ["mlp_b12_wi1024", "resnet18", "vit_small_patch16_224"])
def test_other_labels_are_refused(name, small_mlp):
    with pytest.raises(FileNotFoundError, match=f"no weights {name}_cifar10_seed1.safetensors"):
        build_model(name, "cifar10", weights="seed1")


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """The hub with one file, counted by the requests made for it, that can be taken off the network."""
    file = tmp_path / "pytorch_model.bin"
    torch.save(published_resnet(10).state_dict(), file)
    asked = dict(head=0, file=0)
    hub = SimpleNamespace(up=True, cached=False, asked=asked)

    def head(url, *, timeout):
        assert url == huggingface_hub.constants.ENDPOINT and timeout <= 2
        asked["head"] += 1
        if not hub.up:
            raise OSError("Name or service not known")

    def download(*_):
        if huggingface_hub.constants.HF_HUB_OFFLINE and not hub.cached:
            raise huggingface_hub.errors.LocalEntryNotFoundError("not in the cache")
        asked["file"] += 1
        return str(file)

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.utils, "get_session", lambda: SimpleNamespace(head=head))
    monkeypatch.setattr(published, "hf_hub_download", download)
    return hub


@pytest.mark.parametrize("up, cached, fetched", [(True, False, True), (False, True, True), (False, False, False)])
def test_the_hub_is_asked_for_a_file_only_where_it_answers(hub, up, cached, fetched):
    hub.up, hub.cached = up, cached
    if fetched:
        assert build_model("resnet18", "cifar10").trained
    else:
        with pytest.raises(
            RuntimeError, match=r"the hub \(which does not answer\); go online once, or build the model @untrained"
        ):
            build_model("resnet18", "cifar10")
    assert hub.asked == dict(head=1, file=int(fetched)) and not huggingface_hub.constants.HF_HUB_OFFLINE


def test_an_untrained_network_asks_nobody(hub):
    build_model("timm:test_vit@untrained", "cifar10")
    assert hub.asked == dict(head=0, file=0)


@pytest.mark.parametrize(
    "name, message",
    [
        ("mlp_b12_wi1024", "mlp_b12_wi1024_cifar10.original cannot be fetched from Google Drive.*go online"),
        ("resnet18", "pytorch_model.bin of edadaltocg/resnet18_cifar10 .*go online once"),
        ("vit_small_patch16_224", "timm's weights for 'vit_small_patch16_224' .*go online once.*weights=None"),
        ("timm:test_vit", "timm's weights for 'test_vit' .*weights=None"),
    ],
)
def test_without_network_there_is_one_clear_error_and_nothing_half_done(name, message, small_mlp, own_folders):
    with pytest.raises(RuntimeError, match=message):
        build_model(name, "cifar10", weights="backbone" if name.startswith("vit") else "default")
    assert not [file for file in own_folders.rglob("*") if file.is_file() and "cache" not in file.parts]
