"""Weight files: safetensors beside a JSON card that says how they were made, checked against each other on loading.

A user's own state dict, .pt or .pth, is read too, without running what a pickle may hold.
"""

import json
import math
import pickle
import re
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from textwrap import shorten

import pandas as pd
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from src.data.records import MAX_SIDE
from src.files import read_json, sha256, written_whole
from src.names import DEFAULT, FILES, ModelName, slug, weight_files
from src.paths import ROOT
from src.runtime import provenance
from src.tables.statistics import accuracy

CARD = dict(sha256=str, model=str | None, dataset=str | None, size=str | None, side=int | None, backbone=dict | None)
CARD |= dict(mean=list | None, std=list | None, classes=list | None)
WRAPPERS = ("module.", "_orig_mod.", "net.")  # what DataParallel, torch.compile and a PixelModel put before all keys


def weights_path(family: str, name: str, dataset: str, label: str = DEFAULT) -> Path:
    """Where shipped weights live, e.g. cnn_models/cnn_cifar10.safetensors, or …_seed1.safetensors."""
    return ROOT / f"{slug(family)}_models" / weight_files(ModelName(name, name, label), dataset)[0]


def find_weights(
    family: str, model: ModelName, datasets: Sequence[str], *, folder: Path | str | None = None, needed: bool = True
) -> Path | None:
    """The file that a model's name means: the path it gives, or for a label a file in `folder`, or a shipped one.

    datasets: names under which the weights of the data set may be filed.  folder: a run's own weights, filed by the
    model's label, or by its reference where it has none of its own.  needed: False gives None for a label without file.
    Raises FileNotFoundError that lists what there is, ValueError for a path of another kind.
    """
    file = Path(model.weights)
    if model.weights.endswith(FILES):
        if not file.is_file():
            beside = _list(file.parent, f"*{file.suffix}")
            raise FileNotFoundError(f"no weights {file} for model {model.reference!r}; beside it are: {beside}")
        return file
    if file.is_file() or "/" in model.weights:
        raise ValueError(f"{file} is no file of weights; they end in one of {', '.join(FILES)}")
    paths = [Path(folder) / name for data in datasets for name in weight_files(model, data)] if folder else []
    paths += [weights_path(family, model.reference, data, model.weights) for data in datasets]
    found = next((path for path in paths if path.exists()), None)
    if needed and found is None:
        raise _missing(model, datasets[0], paths, folder)
    return found


def _missing(model: ModelName, dataset: str, paths: list[Path], folder: Path | str | None) -> FileNotFoundError:
    patterns = {path.parent: f"{slug(model.reference)}_*.safetensors" for path in paths if path.parent.is_dir()}
    patterns |= {at: "*.safetensors" for at in patterns if folder and at == Path(folder)}
    listed = (
        "; ".join(f"in {at} there are: {_list(at, pattern)}" for at, pattern in patterns.items()) or "there are none"
    )
    name = "=".join(model.called)
    options = [f"--label {model.weights}"] if model.weights != DEFAULT else []
    options += [f"--run {Path(folder).parent.name}"] if folder else []
    command = f"make train MODEL={name} DATASET={dataset}" + (f' ARGS="{" ".join(options)}"' if options else "")
    return FileNotFoundError(
        f"no weights {paths[0].name} for model {model.reference!r} on {dataset!r}; {listed}. `{command}` trains them, "
        f"notebook 01 fine-tunes pretrained networks, and {model.reference}@untrained (or weights=None) is the network "
        "untrained."
    )


def _list(folder: Path, pattern: str) -> str:
    return ", ".join(sorted(file.name for file in folder.glob(pattern))) or "none"


def read_card(path: Path) -> dict:
    """The JSON card beside a weight file; FileNotFoundError without one, ValueError where it says what cannot be."""
    card = path.with_suffix(".json")
    if not card.exists():
        raise FileNotFoundError(f"{path} has no card {card.name} beside it; it cannot be told what these weights are")
    facts = {key: value for key, value in read_json(card, **CARD).items() if value is not None}
    colours = [value for key in ("mean", "std") for value in [facts.get(key, [1.0] * 3)]]
    if any(len(c) != 3 or not all(isinstance(x, int | float) and math.isfinite(x) for x in c) for c in colours):
        raise ValueError(f"{card} is damaged (mean and std are three numbers each); restore it, or train again")
    if min(colours[1]) <= 0 or not 0 < facts.get("side", 1) <= MAX_SIDE:
        raise ValueError(f"{card} is damaged (std is above 0, side from 1 to {MAX_SIDE}); restore it, or train again")
    return facts


def measured(table: pd.DataFrame) -> dict:
    """Accuracy of a table of predictions as a card has it: n, accuracy, interval."""
    (row,) = accuracy(table).to_dict("records")
    return {"n": row["n"], "accuracy": row["accuracy"], "interval": [row["low"], row["high"]]}


def make_card(
    model: nn.Module, dataset: str, recipe, history: pd.DataFrame, test_table: pd.DataFrame, *, data: str, device
) -> dict:
    """The card of trained weights, to which `save_weights` adds file, storage, size and checksum.

    model: a PixelModel, whose input side is kept.  recipe: the `Recipe` it was trained by.  history: what training
    returned.  test_table: of `predict` on the test images.  data: a sentence on what it was trained on.
    """
    about = {"model": model.reference or model.name, "size": model.size, "side": model.input_side}
    about |= {"dataset": dataset, "data": data, "classes": list(model.classes), "code": model.code}
    normalisation = {"mean": model.mean.flatten().tolist(), "std": model.std.flatten().tolist()}
    training = {"history": history.round(5).to_dict("list"), "seconds": round(float(history["seconds"].sum()), 1)}
    tested = {"recipe": asdict(recipe), "test": measured(test_table)}
    return about | normalisation | tested | training | {"provenance": provenance(device), "licence": "MIT"}


def save_weights(net: nn.Module, path: Path, card: dict, *, half: bool = False) -> dict:
    """Write a network's state as safetensors with its card; both appear whole or not at all. Returns the card.

    half: store floating-point tensors as float16 (loading gives float32 again).  The card gains file, storage,
    n_parameters and sha256.  Raises ValueError when a weight is not finite, or too large for float16; a buffer may hold
    -inf, as a mask does.
    """
    own, learnt = net.state_dict(), {key for key, _ in net.named_parameters(remove_duplicate=False)}
    state = {  # copies: safetensors refuses two that share their memory
        key: (value.half() if half and value.is_floating_point() else value).detach().cpu().contiguous().clone()
        for key, value in own.items()
    }
    well = {key: value.isfinite() | (own[key].cpu().isneginf() & (key not in learnt)) for key, value in state.items()}
    broken = [key for key in state if not well[key].all()]
    if broken:
        raise ValueError(f"{path.name} is not written: {', '.join(broken[:3])} would hold values that are not finite")
    with written_whole(path.with_suffix(".json")) as card_file, written_whole(path) as state_file:
        save_file(state, state_file)
        n_parameters = sum(parameter.numel() for parameter in net.parameters())
        about = {"file": path.name, "storage": "float16" if half else "float32", "n_parameters": n_parameters}
        card = card | about | {"sha256": sha256(state_file)}
        card_file.write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
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
    return _read_safetensors(path)


def read_file(path: Path, model: ModelName, datasets: Sequence[str], *, bare: bool) -> tuple[dict[str, Tensor], dict]:
    """State dict of any weight file, and its card; the card of a file that has none holds its sha256 alone.

    bare: whether a .safetensors file may lack a card.  Raises as `read_weights` and `read_state_dict` do, and
    ValueError where the card is that of another model or data set than these.
    """
    if path.suffix != ".safetensors":
        return read_state_dict(path, str(path)), {"sha256": sha256(path)}
    if bare and not path.with_suffix(".json").exists():
        return _read_safetensors(path), {"sha256": sha256(path)}
    card, asked = read_card(path), f"{model.reference} on {datasets[0]}"
    same_model = "model" not in card or _without_folder(card["model"]) == _without_folder(model.reference)
    if not same_model or card.get("dataset", datasets[0]) not in datasets:
        held = f"{card.get('model', model.reference)} on {card.get('dataset', datasets[0])}"
        raise ValueError(f"{path} holds weights of {held}, not of {asked}")
    return read_weights(path), card


def _without_folder(reference: str) -> str:
    return reference.rpartition("/")[2] if ".py:" in reference else reference


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        state = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is not a whole safetensors file: {error}") from error
    return {key: value.float() if value.dtype == torch.float16 else value for key, value in state.items()}


def read_state_dict(file: Path | str, source: str) -> dict[str, Tensor]:
    """The state dict in a .pt file: bare, or under "model" or "state_dict".

    source: the file's name in messages.  Raises ValueError for a file that is damaged, that would run code when
    unpickled (such as a whole module), or that holds no state dict.
    """
    advice = "save the state dict alone, torch.save(model.state_dict(), FILE)"
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, LookupError, OSError, ValueError, pickle.UnpicklingError) as error:
        found = re.search(r"GLOBAL (\S+)", str(error))
        what = f" (it names {found[1]})" if found else ""
        raise ValueError(f"{source} is damaged, or holds more than tensors{what} and is refused; {advice}") from error
    for key in ("model", "state_dict"):
        state = state.get(key, state) if isinstance(state, dict) else state
    named = isinstance(state, dict) and state and all(isinstance(key, str) for key in state)
    if not named or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{source} holds no state dict of tensors; {advice}")
    return state


def load_state(net: nn.Module, state: dict[str, Tensor], *, source: str) -> None:
    """Load `state` into `net`; ValueError lists the differences in keys and shapes, and leaves `net` as it was.

    What a wrapper put before all keys is taken off, see WRAPPERS.  Parameters that are not finite are refused, and
    whole numbers in place of a network's floats, as of a quantised one: torch would copy their values.
    """
    state = _unwrapped(state, net.state_dict().keys(), source)
    before = {key: value.clone() for key, value in net.state_dict().items()}  # torch copies what fits, then refuses
    for key in before.keys() & state.keys():
        if before[key].is_floating_point() != state[key].is_floating_point():
            kinds = f"{state[key].dtype}, not {before[key].dtype}".replace("torch.", "")
            raise ValueError(f"{source} does not fit the model: {key} is {kinds}; quantised weights are not taken")
    for key, _ in net.named_parameters():  # a buffer may be -inf, as in a mask
        if key in state and not state[key].isfinite().all():
            raise ValueError(
                f"{source} holds values that are not finite, in {key}; the training diverged, or it is damaged"
            )
    try:
        net.load_state_dict(state)
    except RuntimeError as error:
        net.load_state_dict(before)
        raise ValueError(f"{source} does not fit the model: {shorten(str(error), 800, placeholder=' …')}") from None


def _unwrapped(state: dict[str, Tensor], keys: Iterable[str], source: str) -> dict[str, Tensor]:
    """The state without the prefixes of wrappers that all its keys have and none of `keys`."""
    for prefix in WRAPPERS:
        if state and all(key.startswith(prefix) for key in state) and not any(key.startswith(prefix) for key in keys):
            if prefix == WRAPPERS[-1]:
                warnings.warn(
                    f"{source} is the state of a PixelModel, which has not its mean and std: the network gets pixels "
                    "normalised as this one has it. `save_trained` writes both",
                    stacklevel=4,
                )
            return _unwrapped({key.removeprefix(prefix): value for key, value in state.items()}, keys, source)
    return state
