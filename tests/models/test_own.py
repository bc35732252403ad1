"""Networks from a file of the user's, and weights that they bring."""

import re
import sys

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from src.files import sha256
from src.models import build_model, own
from src.models.build import Task
from src.models.weights import read_card, save_weights
from src.training.finetuning import replace_classifier

TASK = Task("pictures", n_classes=5, side=16)
FILE = """
from dataclasses import dataclass
import torch
from torch import nn


@dataclass
class Shape:
    width: "int" = 6


def build(n_classes, side):
    width = Shape().width
    last = nn.Linear(width * side**2 // 16, n_classes)
    return nn.Sequential(nn.Conv2d(3, width, 4, 4), nn.BatchNorm2d(width), nn.Flatten(), last)


class Net(nn.Module):
    def __init__(self, n_classes, side):
        super().__init__()
        self.head = nn.Linear(3, n_classes)

    def forward(self, pixels):
        assert pixels.min() >= 0 and pixels.max() <= 1
        return self.head(pixels.mean((2, 3)))
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working directory with mine.py in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(FILE)
    return tmp_path


def randomised(net: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(1)
    for value in net.state_dict().values():
        if value.is_floating_point():
            value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
    return net


# --- the file


@pytest.mark.parametrize("callable_name", ["build", "Net"])
@pytest.mark.parametrize("absolute", [False, True])
def test_a_function_or_a_class_of_ones_own_gives_a_model(here, capsys, callable_name, absolute):
    file = f"{here}/mine.py" if absolute else "mine.py"
    model = build_model(f"mixer={file}:{callable_name}@untrained", TASK)
    assert capsys.readouterr().out == f"running {file}\n"
    pixels = torch.rand(3, 3, 16, 16)
    assert torch.equal(model(pixels), model.net(pixels)) and model(pixels).shape == (3, 5)  # pixels as they are
    assert (model.name, model.family, model.reference) == ("mixer", model.reference, f"{file}:{callable_name}")
    assert not model.training and not model.trained and model.path is None and model.source == {}
    assert model.code == {"mine.py": sha256(here / "mine.py")}


def test_the_file_is_run_once_and_again_when_it_has_changed(here, capsys):
    first = build_model("mine.py:Net", TASK, weights=None)
    assert type(build_model("mine.py:Net", TASK, weights=None).net) is type(first.net)
    assert capsys.readouterr().out == "running mine.py\n"
    (here / "mine.py").write_text(FILE.replace("nn.Linear(3, n_classes)", "nn.Linear(3, n_classes, bias=False)"))
    assert build_model("mine.py:Net", TASK, weights=None).net.head.bias is None
    assert capsys.readouterr().out == "running mine.py\n"


@pytest.mark.parametrize(
    "name, error, message",
    [
        ("other.py:build", FileNotFoundError, "model 'other.py:build': there is no file other.py, seen from /"),
        ("mine.py:bulid", ValueError, "the file has no function or class 'bulid'; it has Shape, build, Net"),
        ("mine.py:torch", ValueError, "no function or class 'torch'"),
    ],
)  # fmt: skip
def test_what_is_not_there_is_named(here, name, error, message):
    with pytest.raises(error, match=message):
        build_model(name, TASK, weights=None)
    with pytest.raises(error, match=message):
        build_model(name, TASK)  # before the weights, which are missing too


@pytest.mark.parametrize(
    "code, error, message",
    [
        ("def build(n_classes, side:", RuntimeError, "mine.py fails when it is run: SyntaxError"),
        ("import nothing_of_this_name", RuntimeError, "mine.py fails when it is run: ModuleNotFoundError: No module"),
        ("raise SystemExit(3)", RuntimeError, "mine.py fails when it is run: SystemExit: 3"),
        ("def build(): pass", RuntimeError, r"mine.py:build\(5, 16\) fails: TypeError: build\(\) takes 0 positional"),
        ("def build(n, s): return 1 / 0", RuntimeError, "mine.py:build.* fails: ZeroDivisionError: division by zero"),
        ("def build(n, s): return 'net'", ValueError, "mine.py:build must make an nn.Module, not str"),
        ("def build(n, s): return nn.Linear(9, n)", ValueError, "mine.py:build fails on two images of 16x16 pixels"),
        (
            "def build(n, s): return nn.Sequential(nn.Flatten(), nn.Linear(768, n + 1))",
            ValueError,
            r"mine.py:build must give finite logits, floats \[2, 5\].* not torch.float32 \(2, 6\)",
        ),
        ("def build(n, s): return nn.Sequential(nn.Flatten(), nn.LSTM(768, n))", ValueError, "16x16 pixels, not tuple"),
        (
            "class build(nn.Module):\n"
            "    def __init__(self, n, s):\n        super().__init__()\n        self.n = n\n"
            "    def forward(self, x): return x.mean() / torch.zeros(len(x), self.n) * 0",
            ValueError,
            r"must give finite logits.*\[nan, nan, nan\]",
        ),
        (
            "class build(nn.Module):\n"
            "    def __init__(self, n, s):\n        super().__init__()\n        self.n = n\n"
            "    def forward(self, x): return torch.zeros(len(x), self.n, dtype=torch.int)",
            ValueError,
            "must give finite logits, floats .* not torch.int32",
        ),
    ],
)  # fmt: skip
def test_a_file_that_fails_or_gives_no_logits_is_refused_by_name(here, code, error, message):
    (here / "mine.py").write_text(f"import torch\nfrom torch import nn\n\n{code}\n")
    modules = set(sys.modules)
    with pytest.raises(error, match=message) as refusal:
        build_model("mine.py:build", TASK, weights=None)
    if error is RuntimeError or "fails on" in message:
        assert refusal.value.__cause__ is not None and "\n" not in str(refusal.value)
    if "when it is run" in message:
        assert set(sys.modules) == modules


def test_building_draws_no_random_numbers_but_the_networks_own(here):
    torch.manual_seed(0)
    model = build_model("mine.py:Net", TASK, weights=None)
    after = torch.get_rng_state()
    torch.manual_seed(0)
    alone = type(model.net)(5, 16)
    assert torch.equal(alone.head.weight, model.net.head.weight) and torch.equal(torch.get_rng_state(), after)


def test_the_linear_layer_that_gives_the_logits_can_be_replaced(here):
    model = build_model("mine.py:build", TASK, weights=None)
    assert model.classifier is model.net[-1]
    replace_classifier(model, 7, seed=0)
    assert model(torch.rand(2, 3, 16, 16)).shape == (2, 7)
    (here / "mine.py").write_text(
        FILE.replace("return self.head(pixels.mean((2, 3)))", "return self.head(pixels.mean((2, 3))).relu()")
    )
    with pytest.raises(ValueError, match="Net has no single linear classifier but None; it cannot be fine-tuned"):
        build_model("mine.py:Net", TASK, weights=None).classifier  # noqa: B018


# --- its weights


def written(net: nn.Module, form: str, folder) -> str:
    state, file = net.state_dict(), folder / ("w.safetensors" if "safe" in form else "w.pt")
    if form == "safetensors with a card":
        save_weights(net, file, {"model": "elsewhere/mine.py:build", "dataset": "pictures"})
    elif form == "safetensors":
        save_file(state, file)
    else:
        wrapped = {f"module.{key}": value for key, value in state.items()}
        torch.save(
            {"bare": state, "state_dict": {"state_dict": wrapped, "epoch": 3}, "model": {"model": state}}[form], file
        )
    return str(file)


@pytest.mark.parametrize("form", ["safetensors with a card", "safetensors", "bare", "state_dict", "model"])
def test_weights_of_ones_own_come_in_every_usual_form(here, form):
    trained = randomised(build_model("mine.py:build", TASK, weights=None).net)
    file = written(trained, form, here)
    model = build_model(f"mixer=mine.py:build@{file}", TASK)
    pixels = torch.rand(3, 3, 16, 16)
    assert torch.equal(model(pixels), trained(pixels)) and model.trained and str(model.path) == file
    assert model.source == {model.path.name: sha256(file)} and model.card["sha256"] == sha256(file)


def test_default_weights_are_those_that_a_run_has_trained(here):
    folder = here / "runs" / "mine" / "weights"
    with pytest.raises(FileNotFoundError) as refusal:
        build_model("mixer=mine.py:build", TASK, folder=folder)
    for part in (
        "no weights mixer_pictures.safetensors",
        'make train MODEL=mixer=mine.py:build DATASET=pictures ARGS="--run mine"',
        "mine.py:build@untrained",
    ):
        assert part in str(refusal.value)
    trained = randomised(build_model("mine.py:build", TASK, weights=None).net)
    save_weights(trained, folder / "mixer_pictures.safetensors", {"model": "mine.py:build", "dataset": "pictures"})
    model = build_model("mixer=mine.py:build", TASK, folder=folder)
    assert model.path == folder / "mixer_pictures.safetensors" and torch.equal(model.net[0].weight, trained[0].weight)


class Command:
    def __reduce__(self):
        return exec, ("import pathlib; pathlib.Path('owned').touch()",)


@pytest.mark.parametrize(
    "content, reason",
    [
        (
            "module",
            r"holds more than tensors \(it names torch.nn.modules.linear.Linear\) and is refused; save the state",
        ),
        ("command", r"holds more than tensors \(it names \S*exec\) and is refused"),
        ("list", "holds no state dict of tensors; save the state dict alone, torch.save"),
        ("text", "is damaged, or holds more than tensors and is refused"),
        ("script", "is damaged, or holds more than tensors"),
    ],
)
def test_what_is_no_state_dict_is_refused_with_the_reason_and_never_run(here, content, reason):
    file = here / "w.pt"
    if content == "text":
        file.write_text("weights")
    elif content == "script":
        torch.jit.trace(nn.Linear(2, 2), torch.rand(1, 2)).save(file)
    else:
        torch.save({"module": nn.Linear(2, 2), "command": Command(), "list": [torch.zeros(2)]}[content], file)
    with pytest.raises(ValueError, match=re.escape(str(file)) + ".*" + reason):
        build_model(f"mine.py:build@{file}", TASK)
    assert not (here / "owned").exists()


@pytest.mark.parametrize("file", ["w.pt", "w.safetensors"])
def test_quantised_weights_are_not_copied_as_values(here, file):
    net = build_model("mine.py:Net", TASK, weights=None).net
    state = net.state_dict() | {"head.weight": torch.ones(5, 3, dtype=torch.int8)}
    torch.save(state, "w.pt") if file == "w.pt" else save_file(state, file)
    with pytest.raises(ValueError, match=f"{file} does not fit the model: head.weight is int8, not float32; quantised"):
        build_model(f"mine.py:Net@{file}", TASK)


def test_weights_for_other_classes_are_refused(here):
    torch.save(build_model("mine.py:Net", Task("other", 10, 16), weights=None).net.state_dict(), "w.pt")
    with pytest.raises(ValueError, match=r"w.pt does not fit the model.*head.weight: .*\[10, 3\].*\[5, 3\]"):
        build_model("mine.py:Net@w.pt", TASK)


@pytest.mark.parametrize(
    "model, dataset, message",
    [
        (
            "mine.py:Net",
            "others",
            "w.safetensors holds weights of mine.py:Net on others, not of mine.py:Net on pictures",
        ),
        ("mine.py:build", "pictures", "holds weights of mine.py:build on pictures, not of mine.py:Net on pictures"),
    ],
)
def test_weights_whose_card_names_another_model_or_data_set_are_refused(here, model, dataset, message):
    net = build_model("mine.py:Net", TASK, weights=None).net
    save_weights(net, here / "w.safetensors", {"model": model, "dataset": dataset})
    with pytest.raises(ValueError, match=message):
        build_model("mine.py:Net@w.safetensors", TASK)


def test_a_card_beside_a_file_of_ones_own_is_checked(here):
    save_weights(build_model("mine.py:Net", TASK, weights=None).net, here / "w.safetensors", {})
    save_file(build_model("mine.py:Net", TASK, weights=None).net.state_dict(), "w.safetensors")
    assert read_card(here / "w.safetensors")["sha256"]
    with pytest.raises(ValueError, match="w.safetensors is not the file its card describes"):
        build_model("mine.py:Net@w.safetensors", TASK)


def test_nothing_is_run_for_a_name_that_is_only_looked_at(here, capsys):
    from src.models.build import family_of

    assert family_of("mixer=mine.py:build") == "mine.py:build"
    assert capsys.readouterr().out == "" and not [key for key in own._RUN if key[0] == here / "mine.py"]
