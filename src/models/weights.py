"""Weight files: safetensors beside a JSON card that says how they were made, checked against each other on loading."""

import json
import pickle
from dataclasses import asdict
from pathlib import Path
from textwrap import shorten

import pandas as pd
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from src.files import sha256, written_whole
from src.paths import ROOT
from src.runtime import provenance
from src.tables.statistics import accuracy


def weights_path(family: str, name: str, dataset: str, label: str = "default") -> Path:
    """Where the weights of a model live, e.g. cnn_models/cnn_cifar10.safetensors, or …_seed1.safetensors."""
    suffix = "" if label == "default" else f"_{label}"
    return ROOT / f"{family}_models" / f"{name}_{dataset}{suffix}.safetensors"


def find_weights(family: str, name: str, dataset: str, weights: str | Path) -> Path:
    """The file that `weights` means: a path to a .safetensors file, or a label such as "default" or "seed1".

    Raises FileNotFoundError naming the file and the labels that do exist.
    """
    label = not str(weights).endswith(".safetensors")
    path = weights_path(family, name, dataset, str(weights)) if label else Path(weights)
    if path.exists():
        return path
    there = sorted(other.stem for other in path.parent.glob(f"{name}_*.safetensors"))
    raise FileNotFoundError(
        f"no weights {path.name} for model {name!r} on {dataset!r} in {path.parent}; there are: "
        f"{', '.join(there) or 'none'}. Notebook 01 makes heads for a pretrained ViT, "
        f"`make train MODEL={name} DATASET={dataset}` trains a compact model, and weights=None builds it untrained."
    )


def read_card(path: Path) -> dict:
    """The JSON card beside a weight file."""
    card = path.with_suffix(".json")
    if not card.exists():
        raise FileNotFoundError(f"{path} has no card {card.name} beside it; it cannot be told what these weights are")
    return json.loads(card.read_text())


def measured(table: pd.DataFrame) -> dict:
    """Accuracy of a table of predictions as a card has it: n, accuracy, interval."""
    (row,) = accuracy(table).to_dict("records")
    return {"n": row["n"], "accuracy": row["accuracy"], "interval": [row["low"], row["high"]]}


def make_card(
    model: nn.Module, dataset: str, recipe, history: pd.DataFrame, test_table: pd.DataFrame, *, data: str, device
) -> dict:
    """The card of trained weights, to which `save_weights` adds file, storage, size and checksum.

    model: a compact PixelModel.  recipe: the `Recipe` it was trained by.  history: what training returned.
    test_table: of `predict` on the test images.  data: a sentence on what it was trained on.
    """
    about = {"model": model.name, "size": model.size, "dataset": dataset, "data": data}
    normalisation = {"mean": model.mean.flatten().tolist(), "std": model.std.flatten().tolist()}
    training = {"history": history.round(5).to_dict("list"), "seconds": round(float(history["seconds"].sum()), 1)}
    tested = {"recipe": asdict(recipe), "test": measured(test_table)}
    return about | normalisation | tested | training | {"provenance": provenance(device), "licence": "MIT"}


def save_weights(net: nn.Module, path: Path, card: dict, *, half: bool = False) -> dict:
    """Write a network's state as safetensors with its card; both appear whole or not at all. Returns the card.

    half: store floating-point tensors as float16 (loading gives float32 again).  The card gains file, storage,
    n_parameters and sha256.  Raises ValueError when a weight is not finite, or too large for float16.
    """
    state = {
        key: (value.half() if half and value.is_floating_point() else value).detach().cpu().contiguous()
        for key, value in net.state_dict().items()
    }
    broken = [key for key, value in state.items() if not value.isfinite().all()]
    if broken:
        raise ValueError(f"{path.name} is not written: {', '.join(broken[:3])} would hold values that are not finite")
    with written_whole(path.with_suffix(".json")) as card_file, written_whole(path) as state_file:
        save_file(state, state_file)
        n_parameters = sum(parameter.numel() for parameter in net.parameters())
        about = {"file": path.name, "storage": "float16" if half else "float32", "n_parameters": n_parameters}
        card = card | about | {"sha256": sha256(state_file)}
        card_file.write_text(json.dumps(card, indent=2) + "\n")
    return card


def save_head(classifier: nn.Linear, name: str, path: Path, card: dict) -> dict:
    """Write a linear classifier alone, as layer `name`; its card must name the `backbone` file it belongs on."""
    return save_weights(nn.ModuleDict({name: classifier}), path, card)


def read_weights(path: Path) -> dict[str, Tensor]:
    """State dict of a safetensors file in float32, checked against the sha256 on its card.

    Raises ValueError naming the file when it was cut short, altered, or is no safetensors file.
    """
    expected, actual = read_card(path)["sha256"], sha256(path)
    if actual != expected:
        raise ValueError(
            f"{path} is not the file its card describes (sha256 {actual[:12]}…, card {expected[:12]}…); restore it "
            "with `git checkout`, train it again, or, in a downloads/ folder, remove it to have it fetched again"
        )
    try:
        state = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is not a whole safetensors file: {error}") from error
    return {key: value.float() if value.dtype == torch.float16 else value for key, value in state.items()}


def read_state_dict(original: Path | str, source: str) -> dict[str, Tensor]:
    """The state dict in a checkpoint: bare, under "model" or "state_dict", with or without DataParallel's prefix.

    Raises ValueError for a file that is damaged, that would run code when unpickled, or that holds no state dict.
    """
    try:
        state = torch.load(original, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise ValueError(f"{source} ({original}) is damaged, or holds more than tensors and is refused") from error
    for key in ("model", "state_dict"):
        state = state.get(key, state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{source} ({original}) holds no state dict of tensors")
    return {key.removeprefix("module."): value for key, value in state.items()}


def load_state(net: nn.Module, state: dict[str, Tensor], *, source: str) -> None:
    """Load `state` into `net`; ValueError lists the differences in keys and shapes, and leaves `net` as it was."""
    before = {key: value.clone() for key, value in net.state_dict().items()}  # torch copies what fits, then refuses
    try:
        net.load_state_dict(state)
    except RuntimeError as error:
        net.load_state_dict(before)
        raise ValueError(f"{source} does not fit the model: {shorten(str(error), 800, placeholder=' …')}") from None
