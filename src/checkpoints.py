"""The state of a training run on disk: written whole, read back exactly."""

import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import nn


@dataclass
class Progress:
    """How far a run is: finished epochs, steps of the current one, its running sums, and the history so far."""

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

    @property
    def loss(self) -> float:
        return self.loss_sum / max(self.n_seen, 1)

    @property
    def accuracy(self) -> float:
        return self.n_right / max(self.n_seen, 1)

    def finish_epoch(self, **measured: float) -> None:
        self.epoch += 1
        row = dict(epoch=self.epoch, loss=self.loss, accuracy=self.accuracy, **measured, seconds=self.seconds)
        self.history.append(row)
        self.step, self.loss_sum, self.n_right, self.n_seen, self.seconds = 0, 0.0, 0, 0, 0.0


def save(path: Path | str, identity: dict, progress: Progress, **parts: nn.Module | torch.optim.Optimizer) -> None:
    """Write identity, progress, the state of every part and torch's generators to `path`, aside first, then renamed."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    generators = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        generators["cuda"] = torch.cuda.get_rng_state()
    states = {name: part.state_dict() for name, part in parts.items()}
    with open(partial, "wb") as file:
        torch.save(
            {"identity": identity, "progress": asdict(progress), "states": states, "generators": generators}, file
        )
        file.flush()
        os.fsync(file.fileno())  # a rename may reach the disk before the data does
    os.replace(partial, path)


def restore(path: Path | str | None, identity: dict, **parts: nn.Module | torch.optim.Optimizer) -> Progress:
    """Fill the parts from `path` and return how far that run was; a new `Progress` when there is no such file yet.

    Raises ValueError when the checkpoint belongs to a run with another identity, naming what differs.
    """
    if path is None or not Path(path).exists():
        return Progress()
    saved = torch.load(path, map_location="cpu", weights_only=True)
    different = [key for key in identity if saved["identity"].get(key) != identity[key]]
    if different:
        details = "; ".join(f"{key}: {saved['identity'].get(key)} there, {identity[key]} here" for key in different)
        raise ValueError(f"{path} belongs to another run ({details}); delete it or name another checkpoint")
    for name, part in parts.items():
        part.load_state_dict(saved["states"][name])
    torch.set_rng_state(saved["generators"]["cpu"])
    if "cuda" in saved["generators"] and torch.cuda.is_available():
        torch.cuda.set_rng_state(saved["generators"]["cuda"])
    return Progress(**saved["progress"])
