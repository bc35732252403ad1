"""The state of a training run on disk: written whole, read back exactly."""

import hashlib
import inspect
import json
import pickle
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import CodeType, FunctionType

import torch
from torch import nn

from src.files import fingerprint, written_whole
from src.training import distributed

NO_SETTINGS = ("training", "name", "path", "card", "source", "trained", "classes")  # names, and where weights were


@dataclass
class Progress:
    """Progress of a run: finished epochs, steps of the current one, its running sums, and the history so far."""

    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    n_right: int = 0
    n_seen: int = 0
    seconds: float = 0.0
    history: list[dict] = field(default_factory=list)

    def count(self, loss: float, n_right: int, n: int) -> None:
        self.step += 1
        self.loss_sum += loss * n
        self.n_right += n_right
        self.n_seen += n

    def means(self) -> dict[str, float]:
        n = max(self.n_seen, 1)
        return {"loss": self.loss_sum / n, "accuracy": self.n_right / n}

    def finish_epoch(self, **measured: float) -> None:
        self.epoch += 1
        self.history.append(dict(epoch=self.epoch, **self.means(), **measured, seconds=self.seconds))
        self.step, self.loss_sum, self.n_right, self.n_seen, self.seconds = 0, 0.0, 0, 0, 0.0


def network_identity(model: nn.Module) -> dict[str, str]:
    """What tells a network about to be trained from any other: checksums of its values and of what it does with them.

    Values are those of parameters and of all buffers, the rest are its layers, their settings, and the code of their
    classes, comments apart; of a file of the user's own, the whole file. A helper elsewhere that a layer calls is not
    seen.
    """
    parts = list(model.modules())
    settings = [
        {key: value for key, value in vars(part).items() if key[0] != "_" and key not in NO_SETTINGS} for part in parts
    ]
    code = [
        _instructions(inspect.unwrap(value).__code__)
        for kind in dict.fromkeys(map(type, parts))
        for value in vars(kind).values()
        if isinstance(value, FunctionType)
    ]
    what = re.sub(r" at 0x\w+", "", repr((model, settings, code)))  # where in memory a function lies
    return {
        "start": fingerprint(*model.state_dict().values(), *model.buffers()),
        "network": hashlib.sha256(what.encode()).hexdigest()[:16],
    }


def _instructions(code: CodeType) -> tuple:
    """What a function does, wherever it stands: its instructions, names and constants, and those within it."""
    return code.co_code, code.co_names, [_constant(value) for value in code.co_consts]


def _constant(value: object) -> object:
    if isinstance(value, CodeType):
        return _instructions(value)
    return sorted(map(repr, value)) if isinstance(value, frozenset) else repr(value)  # a set's order is by chance


def file_of(folder: Path | str | None, identity: dict) -> Path | None:
    """The file of one run in a folder of checkpoints, named by a hash of its identity; None without a folder.

    A run with another recipe, start or data set has another file, so none goes on from another's checkpoint.
    """
    if folder is None:
        return None
    return Path(folder) / f"{hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]}.pt"


def save(path: Path | None, progress: Progress, **parts: nn.Module | torch.optim.Optimizer) -> None:
    """Write progress, the state of every part and torch's generators to `path`, whole; nothing when it is None.

    Of several processes, all call this and the first writes, with the generators of all.
    """
    if path is None:
        return
    generators = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        generators["cuda"] = torch.cuda.get_rng_state()
    generators = distributed.gather(generators)
    if distributed.rank() > 0:
        return
    states = {name: part.state_dict() for name, part in parts.items()}
    with written_whole(path) as partial:
        torch.save({"progress": asdict(progress), "states": states, "generators": generators}, partial)


def restore(path: Path | None, **parts: nn.Module | torch.optim.Optimizer) -> Progress:
    """Fill the parts from `path` and return how far that run was; a new `Progress` when there is no such file yet.

    A process that the run did not have keeps its generators as they are.  Raises ValueError when the file is damaged.
    """
    if path is None or not path.exists():
        return Progress()
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        progress, generators = Progress(**saved["progress"]), saved["generators"]
        for name, part in parts.items():
            part.load_state_dict(saved["states"][name])
    except (RuntimeError, EOFError, LookupError, OSError, TypeError, ValueError, pickle.UnpicklingError) as error:
        raise ValueError(f"{path} is not a whole checkpoint; delete it to start that run again") from error
    if distributed.rank() < len(generators):
        own = generators[distributed.rank()]
        torch.set_rng_state(own["cpu"])
        if "cuda" in own and torch.cuda.is_available():
            torch.cuda.set_rng_state(own["cuda"])
    return progress
