"""Weight files: safetensors beside a JSON card that says how they were made, checked against each other on loading."""

import json
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from src.files import read_json, sha256, written_whole
from src.names import FILES, UNTRAINED, ModelName, slug, weight_files
from src.paths import ROOT
from src.runtime import provenance
from src.tables.statistics import accuracy


def weights_path(model: ModelName, dataset: str) -> Path:
    """Where the shipped weights of a compact model lie, e.g. cnn_models/cnn_cifar10_seed1.safetensors."""
    return ROOT / f"{model.reference.partition('_')[0]}_models" / weight_files(model, dataset)[-1]


def find_weights(model: ModelName, dataset: str, folder: Path | None = None, *, shipped: bool = True) -> Path:
    """The file that a model's `weights` mean: a path, or a label such as "default" or "seed1".

    A label is looked for in `folder`, of a run's own weights, and then, where there are any, among the shipped ones.
    Raises FileNotFoundError that names the files there are, and the ways to have others.
    """
    if model.weights.endswith(FILES):
        if not Path(model.weights).is_file():
            raise FileNotFoundError(f"{model.full} names {model.weights}, which is no file, seen from {Path.cwd()}")
        return Path(model.weights)
    places = [folder / name for name in weight_files(model, dataset)] if folder else []
    places += [weights_path(model, dataset)] if shipped else []
    for path in places:
        if path.exists():
            return path
    start = slug(model.reference)
    there = sorted({other.name for path in places for other in path.parent.glob(f"{start}_*.safetensors")})
    raise FileNotFoundError(
        f"no weights {model.weights!r} of {model.reference} on {dataset}; there are: {', '.join(there) or 'none'}. "
        f"`make train MODEL={model.reference} DATASET={dataset}` makes some, notebook 01 makes heads and fine-tuned "
        f"weights, and {model.reference}@{UNTRAINED} is the network untrained."
    )


def read_card(path: Path) -> dict:
    """The JSON card beside a weight file."""
    card = path.with_suffix(".json")
    if not card.exists():
        raise FileNotFoundError(f"{path} has no card {card.name} beside it; it cannot be told what these weights are")
    return read_json(card)


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


def read_weights(path: Path, *, own: bool = False) -> dict[str, Tensor]:
    """State dict of a safetensors file in float32, checked against the sha256 on its card.

    own: a file without a card will do.
    Raises ValueError naming the file when it was cut short, altered, or is no safetensors file.
    """
    actual = sha256(path)
    expected = actual if own and not path.with_suffix(".json").exists() else read_card(path)["sha256"]
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
