"""Networks and weights of one's own, by name: what is taken, and what is refused in a line."""

import json
import pickle

import pytest
import timm
import torch
from torch import nn

from src.data import load_images
from src.efficiency import time_cold_start
from src.models import build_model
from src.models.build import describe_task
from src.models.weights import save_head, save_weights

MINE = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self, n_classes, side):
        super().__init__(nn.Flatten(), nn.Linear(3 * side * side, n_classes))

def build(n_classes, side):
    return Net(n_classes, side)

def fails(n_classes, side):
    return [][1]

def gives_three(n_classes, side):
    return Net(3, side)

def takes_others(n_classes, side):
    return nn.Linear(5, n_classes)

def gives_a_list(n_classes, side):
    return [build(n_classes, side)]

class GivesTwo(Net):
    def forward(self, x):
        return super().forward(x), x

number = 5
"""


@pytest.fixture
def mine(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(MINE)
    return path


@pytest.fixture
def state(mine):
    torch.manual_seed(1)
    return build_model(f"{mine}:build@untrained", "cifar10").net.state_dict()


@pytest.mark.parametrize("name", ["build", "Net"])
def test_a_function_or_a_class_of_ones_own_takes_pixels_as_they_are(mine, name, capsys):
    model = build_model(f"two={mine}:{name}@untrained", load_images("fashion_mnist", "test").subset(20, seed=0))
    pixels = torch.rand(3, 3, 32, 32)
    assert torch.equal(model(pixels), model.net(pixels)) and model(pixels).shape == (3, 10)
    assert (model.name, model.family, model.trained, model.source) == ("two", f"{mine}:{name}", False, {})
    build_model(f"{mine}:{name}@untrained", "cifar100")
    assert capsys.readouterr().out.count(f"running {mine}") == 1  # said once, when it is run


@pytest.mark.parametrize("form", ["safetensors", "pt", "model.pt", "module.pth", "label"])
def test_weights_of_ones_own_need_no_card(mine, state, tmp_path, form):
    path = tmp_path / f"w.{form}"
    if form in ("safetensors", "label"):
        net = build_model(f"{mine}:Net@untrained", "cifar10").net
        net.load_state_dict(state)
        path = tmp_path / "mine_cifar10.safetensors"
        save_weights(net, path, {})
        path.with_suffix(".json").unlink()
    else:
        wrapped = {"pt": state, "model.pt": {"model": state, "epoch": 3}}
        torch.save(wrapped.get(form, {f"module.{key}": value for key, value in state.items()}), path)
    name = f"mine={mine}:build" if form == "label" else f"mine={mine}:build@{path}"
    model = build_model(name, "cifar10", folder=tmp_path)
    assert all(torch.equal(value, state[key]) for key, value in model.net.state_dict().items())
    assert model.trained and list(model.source) == [path.name] and len(model.source[path.name]) == 64
    assert model.path == path


@pytest.mark.parametrize(
    ("name", "kind", "says"),
    [
        ("{mine}:fails@untrained", ValueError, "fails failed for 10 classes of 32 pixels: IndexError"),
        ("{mine}:nothing@untrained", ValueError, "mine.py has no function or class 'nothing'"),
        ("{mine}:number@untrained", ValueError, "mine.py has no function or class 'number'"),
        ("{mine}:gives_three@untrained", ValueError, r"gives torch.float32 \(2, 3\) for 2 images, not float"),
        ("{mine}:GivesTwo@untrained", ValueError, "GivesTwo gives tuple for 2 images"),
        ("{mine}:takes_others@untrained", ValueError, "takes_others failed for 10 classes of 32 pixels: RuntimeError"),
        ("{mine}:gives_a_list@untrained", ValueError, "must give a torch module, not list"),
        ("{folder}/none.py:build@untrained", FileNotFoundError, "there is no file .*none.py, seen from"),
        ("{folder}/broken.py:build@untrained", ValueError, "broken.py cannot be run: SyntaxError"),
        ("{folder}/exits.py:build@untrained", ValueError, "exits.py cannot be run: ModuleNotFoundError"),
        ("{mine}:build", FileNotFoundError, "no weights 'default' of .*mine.py:build on cifar10; there are: none"),
        ("{mine}:build@seed1", FileNotFoundError, "no weights 'seed1' of"),
        ("{mine}:build@{folder}/none.pt", FileNotFoundError, "none.pt, which is no file, seen from"),
        ("{mine}:build@{folder}/whole.pt", ValueError, "whole.pt is damaged, or holds more than tensors"),
        ("{mine}:build@{folder}/evil.pt", ValueError, "evil.pt is damaged, or holds more than tensors and is refused"),
        ("{mine}:build@{folder}/list.pt", ValueError, "list.pt holds no state dict of tensors"),
        ("{mine}:build@{folder}/other.pt", ValueError, "other.pt does not fit the model: .*size mismatch"),
        ("cnn@{folder}/other.pt", ValueError, "other.pt does not fit the model: .*Missing key"),
        ("cnn@{folder}/card.safetensors", ValueError, "holds weights of mlp, not cnn and of cifar100, not"),
        ("cnn@cnn_models/cnn_robust_cifar10.safetensors", ValueError, "holds weights of cnn_robust, not cnn"),
        ("vit@vit_models/vit_fashion_mnist.safetensors", ValueError, "holds weights of fashion_mnist, not cifar10"),
        ("timm:test_vit@seed9", FileNotFoundError, "no weights 'seed9' of timm:test_vit on cifar10"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_refused_in_a_line(mine, state, tmp_path, name, kind, says):
    (tmp_path / "broken.py").write_text("def build(:")
    (tmp_path / "exits.py").write_text("import no")
    net = nn.Linear(2, 2)
    torch.save(net, tmp_path / "whole.pt")
    (tmp_path / "evil.pt").write_bytes(pickle.dumps(print))
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save({"1.weight": torch.zeros(2, 2), "1.bias": torch.zeros(10)}, tmp_path / "other.pt")
    about = {"model": "mlp", "dataset": "cifar100", "size": "base", "mean": [0.5] * 3, "std": [0.5] * 3}
    save_weights(net, tmp_path / "card.safetensors", about)
    with pytest.raises(kind, match=says) as refusal:
        build_model(name.format(mine=mine, folder=tmp_path), "cifar10", folder=tmp_path)
    assert len(str(refusal.value)) < 1200


def test_a_fine_tuned_timm_model_comes_back_from_its_file(tmp_path):
    torch.manual_seed(0)
    net = timm.create_model("test_resnet", num_classes=10)
    torch.save(net.state_dict(), tmp_path / "plain.pt")
    save_weights(net, tmp_path / "timm-test_resnet_cifar10_quick.safetensors", {"model": "timm:test_resnet"})
    pixels = torch.rand(2, 3, 160, 160)
    for name in (f"timm:test_resnet@{tmp_path}/plain.pt", "timm:test_resnet@quick"):
        model = build_model(name, "cifar10", folder=tmp_path)
        config = net.pretrained_cfg
        mean, std = (torch.tensor(config[key]).view(3, 1, 1) for key in ("mean", "std"))
        torch.testing.assert_close(model(pixels), net.eval()((pixels - mean) / std))
        assert model.trained and model.family == "cnn"


def test_a_head_on_a_timm_models_pretraining_needs_that_pretraining(tmp_path, monkeypatch):
    torch.manual_seed(0)
    pretrained = timm.create_model("test_vit", num_classes=10).state_dict()

    def build(name, n_classes, *, pretrained):
        net = timm.create_model(name, num_classes=n_classes)
        if pretrained:
            net.load_state_dict(state)
        return net

    state = dict(pretrained)
    monkeypatch.setattr("src.models.build.published.build_timm", build)
    start = build_model("timm:test_vit", "cifar10")
    assert not start.trained and list(start.source) == ["timm:test_vit"]
    head = nn.Linear(start.classifier.in_features, 10)
    path = tmp_path / "timm-test_vit_cifar10.safetensors"
    save_head(head, "head", path, {"backbone": start.source})
    model = build_model(f"timm:test_vit@{path}", "cifar10")
    assert torch.equal(model.classifier.weight, head.weight) and model.trained
    assert torch.equal(model.net.cls_token, pretrained["cls_token"])
    state["cls_token"] = state["cls_token"] + 1
    with pytest.raises(ValueError, match="is a head on timm:test_vit as it was before"):
        build_model(f"timm:test_vit@{path}", "cifar10")


def test_a_narrower_network_is_built_again_from_its_card(tmp_path):
    model = build_model("cnn@untrained", "cifar10", size="width=8")
    assert model.net.conv1.weight.shape[0] == 8 and model.size == "width=8"
    about = {"size": model.size, "mean": [0.5] * 3, "std": [0.5] * 3, "model": "cnn", "dataset": "cifar10"}
    save_weights(model.net, tmp_path / "cnn_cifar10_w8.safetensors", about)
    again = build_model("cnn@w8", "cifar10", folder=tmp_path)
    assert again.size == "width=8" and again.name == "cnn@w8" and again.trained
    with pytest.raises(ValueError, match="holds a network of size width=8, not base"):
        build_model("cnn@w8", "cifar10", folder=tmp_path, size="base")
    card = tmp_path / "cnn_cifar10_w8.json"
    card.write_text(json.dumps(json.loads(card.read_text()) | {"size": "width=eight"}))
    with pytest.raises(ValueError, match="unknown size 'width=eight' of cnn"):
        build_model("cnn@w8", "cifar10", folder=tmp_path)


def test_only_what_is_trained_counts_as_trained():
    assert build_model("cnn", "fashion_mnist").trained
    assert not build_model("cnn@untrained", "fashion_mnist").trained
    assert not build_model("timm:test_vit@untrained", "fashion_mnist").trained


def test_a_fresh_process_builds_what_a_user_named(mine, state, tmp_path):
    torch.save(state, tmp_path / "w.pt")
    images = load_images("fashion_mnist", "test").subset(20, seed=0)
    task = describe_task(images)
    times = time_cold_start(f"a={mine}:build@{tmp_path}/w.pt", task)
    assert set(times) == {"build_ms", "first_ms", "third_ms"} and min(times.values()) > 0
    with pytest.raises(RuntimeError, match="no weights 'default'"):
        time_cold_start(f"a={mine}:build", task, folder=tmp_path)
