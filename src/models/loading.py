"""Weight files put into networks: whole ones, heads on their backbones, state dicts of one's own; none is unpickled."""

import pickle
from pathlib import Path
from textwrap import shorten

import torch
from torch import Tensor, nn

from src.files import fingerprint, sha256
from src.models.weights import read_card, read_weights
from src.names import ModelName
from src.paths import ROOT

SHIPPED = [ROOT / f"{family}_models" for family in ("mlp", "cnn", "vit")]


def plain_state(path: Path | str, source: str = "") -> dict[str, Tensor]:
    """The state dict in a file of `torch.save`: bare, under "model" or "state_dict", with or without "module.".

    Raises ValueError for a file that is damaged, that would run code when unpickled, or that holds no state dict.
    """
    told = f"{source} ({path})" if source else str(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise ValueError(f"{told} is damaged, or holds more than tensors and is refused; save a state dict") from error
    for key in ("model", "state_dict"):
        state = state.get(key, state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{told} holds no state dict of tensors")
    return {key.removeprefix("module."): value for key, value in state.items()}


def load_named(net: nn.Module, path: Path, model: ModelName, dataset: str, *, own: bool) -> dict[str, str]:
    """Load a weight file into `net` if it is of that model and data set; returns file -> sha256 of all that was read.

    own: a file without a card will do, as one has of a network of one's own; it may be a state dict in .pt or .pth.
    A file that holds a head alone goes on the backbone that its card names: a file beside it, or, of a timm network,
    the pretraining that `net` comes with.  Raises ValueError where anything does not fit, and leaves `net` as it was.
    """
    if path.suffix != ".safetensors":
        state, card = plain_state(path), {}
    else:
        state = read_weights(path, own=own)
        card = read_card(path) if path.with_suffix(".json").exists() else {}
    asked = {"model": model.reference, "dataset": dataset}
    wrong = [f"{card[what]}, not {name}" for what, name in asked.items() if card.get(what, name) != name]
    if wrong:
        raise ValueError(
            f"{path} holds weights of {' and of '.join(wrong)}; name those of {model.reference} on {dataset}"
        )
    backbone = card.get("backbone", {})
    if len(backbone) > 1:
        raise ValueError(f"{path.name} is a head on {' and '.join(backbone)}; it must stand on one network")
    for file, checksum in backbone.items():
        state = _backbone(net, path, file, checksum) | state
    load_state(net, state, source=str(path))
    return {path.name: card.get("sha256") or sha256(path)} | backbone


def _backbone(net: nn.Module, head: Path, file: str, checksum: str) -> dict[str, Tensor]:
    """The state of the backbone that a head's card names, without a classifier."""
    place = next((at / file for at in (head.parent, *SHIPPED) if (at / file).exists()), None)
    if file.endswith(".safetensors") and place is None:
        raise FileNotFoundError(
            f"{head.name} is a head on {file}, which is not beside it nor among the shipped weights"
        )
    found = read_card(place)["sha256"] if place else backbone_fingerprint(net)
    if found != checksum:
        raise ValueError(f"{head.name} is a head on {file} as it was before; run 01_vit_finetuning.ipynb again")
    state = read_weights(place) if place else net.state_dict()
    return {key: value for key, value in state.items() if not key.startswith(f"{classifier_name(net)}.")}


def load_state(net: nn.Module, state: dict[str, Tensor], *, source: str) -> None:
    """Load `state` into `net`; ValueError lists the differences in keys and shapes, and leaves `net` as it was."""
    before = {key: value.clone() for key, value in net.state_dict().items()}  # torch copies what fits, then refuses
    try:
        net.load_state_dict(state)
    except RuntimeError as error:
        net.load_state_dict(before)
        raise ValueError(f"{source} does not fit the model: {shorten(str(error), 800, placeholder=' …')}") from None


def classifier_name(net: nn.Module) -> str:
    """Name of the linear layer that gives the logits: the one that timm records for its models, else the last of all.

    Raises ValueError when that is not one linear layer, as in a distilled ViT with two, or a convolution at the end.
    """
    config = getattr(net, "default_cfg", None)
    linear = [name for name, module in net.named_modules() if isinstance(module, nn.Linear)]
    name = config["classifier"] if config else (linear or [None])[-1]
    if not isinstance(name, str) or not isinstance(net.get_submodule(name), nn.Linear):
        raise ValueError(f"{type(net).__name__} has no single linear classifier but {name!r}; it cannot be fine-tuned")
    return name


def backbone_fingerprint(net: nn.Module) -> str:
    """Checksum of a network's weights without its classifier (or classifiers), which may be new and random."""
    names = net.default_cfg["classifier"]
    heads = tuple(f"{name}." for name in ([names] if isinstance(names, str) else names))
    return fingerprint(*(value for key, value in net.state_dict().items() if not key.startswith(heads)))
