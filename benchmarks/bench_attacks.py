"""Cost of attacks on an undefended and on a robust model: this study's, torchattacks', foolbox' and a plain loop.

    python -m benchmarks.bench_attacks            # CIFAR-10's test set; writes results/benchmarks/attacks.csv

All get the same model, which takes pixels, the same images, batches and radii, in one run on one thread. They take
turns, so that drift of the machine meets all of them. Seconds are of CPU time, on a GPU of wall time. The accuracy that
each leaves stands beside them, as a fast attack may be a weak one. Peers use the model as it is built: foolbox and the
plain loop then work out the gradients of its weights too, torchattacks does not. Radius 0 costs a peer a forward pass.

"ours, all steps" stops early for no image; "bfloat16", where the device has units for it, takes its steps in that and
looks at each image's final point again in float32. "floor" is what the passes alone cost in float32: as many as
there are steps, forward and backward to the pixels of a frozen model, and one forward. torchattacks' APGD leaves out
misclassified images, so where there are many it does less than the floor.
"""

import argparse
import os
import platform
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path

import foolbox
import pandas as pd
import torch
import torch.nn.functional as F
import torchattacks
from torch import Tensor, nn

from src.attacks import attack_curve
from src.data import load_images
from src.data.batches import Batch
from src.data.loaders import make_loader
from src.files import written_whole
from src.models import PixelModel, build_model
from src.models.access import frozen
from src.models.folding import folded
from src.paths import RESULTS
from src.runtime import fast_dtype, pick_device, provenance
from src.tables.attacks import FGSM_GRID, PGD_GRID
from src.tables.statistics import hits

PEERS = ("torchattacks", "foolbox", "plain loop")


@dataclass(frozen=True)
class Workload:
    name: str
    attack: str  # "fgsm", "pgd" or "apgd"
    radii: tuple[float, ...]
    steps: int
    rel_step: float | None  # length of a PGD step as a share of the radius
    contenders: tuple[str, ...]


def workloads(defended: bool, device: torch.device) -> list[Workload]:
    all_steps = ("ours", "ours, all steps", *["ours, all steps, bfloat16"] * (fast_dtype(device) == "bfloat16"))
    k = 8 if defended else 1  # APGD leaves an undefended network nothing at 8/255
    return [
        Workload("FGSM, 21 radii", "fgsm", FGSM_GRID, 1, None, ("ours", *PEERS)),
        Workload("PGD-5, 12 radii", "pgd", PGD_GRID, 5, 0.5, ("ours", *PEERS)),
        Workload("PGD-10, 8/255", "pgd", (8 / 255,), 10, 0.25, (*all_steps, *PEERS, "floor")),
        Workload(f"APGD-CE-30, {k}/255", "apgd", (k / 255,), 30, None, (*all_steps, "torchattacks", "floor")),
    ]


def run_ours(model: nn.Module, batches: list[Batch], workload: Workload, **own) -> list[int]:
    own |= dict(steps=workload.steps) if workload.attack != "fgsm" else {}
    own |= dict(rel_step=workload.rel_step) if workload.attack == "pgd" else {}
    own |= dict(batch_size=len(batches[0].labels))
    curve = attack_curve(model, batches, attack=workload.attack, eps_grid=workload.radii, **own)
    return curve.assign(hit=hits(curve)).groupby("eps")["hit"].sum().tolist()


def run_torchattacks(model: nn.Module, batches: list[Batch], workload: Workload) -> list[int]:
    make = {
        "fgsm": lambda eps: torchattacks.FGSM(model, eps),
        "pgd": lambda eps: torchattacks.PGD(model, eps, alpha=workload.rel_step * eps, steps=workload.steps),
        "apgd": lambda eps: torchattacks.APGD(model, eps=eps, steps=workload.steps, n_restarts=1, loss="ce"),
    }[workload.attack]
    return _judged(model, batches, workload.radii, lambda pixels, labels, eps: make(eps)(pixels, labels))


def run_foolbox(model: nn.Module, batches: list[Batch], workload: Workload) -> list[int]:
    """It takes all radii at once and judges the result itself."""
    wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device=batches[0].pixels.device)
    attack = foolbox.attacks.LinfFastGradientAttack()
    if workload.attack == "pgd":
        attack = foolbox.attacks.LinfPGD(steps=workload.steps, rel_stepsize=workload.rel_step)
    above = [eps for eps in workload.radii if eps > 0]
    correct = torch.zeros(len(above), dtype=torch.long)
    for batch in batches:
        *_, fooled = attack(wrapped, batch.pixels, batch.labels, epsilons=above)
        correct += (~fooled).sum(1).cpu()
    return _judged(model, batches, workload.radii[: -len(above)], None) + correct.tolist()


def run_plain_loop(model: nn.Module, batches: list[Batch], workload: Workload) -> list[int]:
    """FGSM and PGD as tutorials have them."""

    def attack(pixels: Tensor, labels: Tensor, eps: float) -> Tensor:
        x, step = pixels, eps
        if workload.attack == "pgd":
            x = (pixels + torch.empty_like(pixels).uniform_(-eps, eps)).clamp(0, 1)
            step = workload.rel_step * eps
        for _ in range(workload.steps):
            x = x.detach().clone().requires_grad_()
            model.zero_grad()
            F.cross_entropy(model(x), labels).backward()
            x = x.detach() + step * x.grad.sign()
            x = (pixels + (x - pixels).clamp(-eps, eps)).clamp(0, 1)
        return x

    return _judged(model, batches, workload.radii, attack)


def run_floor(model: nn.Module, batches: list[Batch], workload: Workload) -> list[int]:
    with frozen(model), folded(model):  # the passes that ours makes
        for pixels, labels, _ in batches:
            for _ in range(workload.steps):
                x = pixels.detach().requires_grad_()
                torch.autograd.grad(F.cross_entropy(model(x), labels), x)
            with torch.no_grad():
                model(pixels)
    return []


@torch.no_grad()
def _correct(model: nn.Module, pixels: Tensor, labels: Tensor) -> int:
    return (model(pixels).argmax(1) == labels).sum().item()


def _judged(model: nn.Module, batches: list[Batch], radii: tuple[float, ...], attack: Callable | None) -> list[int]:
    """How many images are right after an attack at each radius, by another forward pass; radius 0 is not attacked."""
    return [sum(_correct(model, attack(x, y, eps) if eps > 0 else x, y) for x, y, _ in batches) for eps in radii]


# name -> (model, batches, workload) -> images left correct at each radius
CONTENDERS: dict[str, Callable] = {
    "ours": run_ours,
    "ours, all steps": partial(run_ours, early_stop=False),
    "ours, all steps, bfloat16": partial(run_ours, early_stop=False, dtype="bfloat16"),
    "torchattacks": run_torchattacks,
    "foolbox": run_foolbox,
    "plain loop": run_plain_loop,
    "floor": run_floor,
}


def measure(models: dict[bool, PixelModel], batches: list[Batch], rounds: int) -> pd.DataFrame:
    """One row per model, workload, contender and round; who goes first moves on by one every round."""
    n, rows = sum(len(batch.labels) for batch in batches), []
    few = [Batch(*(values[:8] for values in batches[0]))]
    for round_ in range(rounds + 1):  # the first, on few images, warms up
        for defended, model in models.items():
            for workload in workloads(defended, model.mean.device):
                first = round_ % len(workload.contenders)
                for contender in workload.contenders[first:] + workload.contenders[:first]:
                    torch.manual_seed(0)
                    start = _now(model.mean.device)
                    counts = CONTENDERS[contender](model, batches if round_ else few, workload)
                    seconds = _now(model.mean.device) - start
                    model.zero_grad()  # a peer may leave gradients behind
                    facts = dict(defended=defended, model=model.name, workload=workload.name, contender=contender)
                    accuracy = sum(counts) / len(counts) / n if counts else float("nan")
                    rows.append(facts | dict(round=round_, seconds=seconds, robust_accuracy=accuracy))
                print(f"round {round_} of {rounds}: {model.name}, {workload.name}", flush=True)
    table = pd.DataFrame(rows)
    return table[table["round"] > 0]


def _now(device: torch.device) -> float:
    """Seconds on the clock: of CPU time, or on a GPU of wall time, once it is done."""
    if device.type != "cuda":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def summarise(table: pd.DataFrame) -> pd.DataFrame:
    """Medians over rounds, and median and range of the ratios to the best peer and to the floor of the same round."""
    group = ["defended", "model", "workload"]
    seconds = table.pivot(index=[*group, "round"], columns="contender", values="seconds")
    seconds["best_peer"] = seconds[list(PEERS)].min(axis=1)
    table = table.join(seconds[["best_peer", "floor"]], on=[*group, "round"])
    table["speed_up_over_best_peer"] = table["best_peer"] / table["seconds"]
    table["ratio_to_floor"] = table["seconds"] / table["floor"]
    grouped = table.groupby([*group, "contender"], sort=False)
    summary = grouped[["seconds", "robust_accuracy"]].median()
    for ratio in ("speed_up_over_best_peer", "ratio_to_floor"):
        summary[[ratio, f"{ratio}_low", f"{ratio}_high"]] = grouped[ratio].agg(["median", "min", "max"])
    return summary.reset_index()


def peak_memory(asked: argparse.Namespace, defended: bool, workload_name: str, contender: str) -> float:
    """MiB at the peak beyond what is there after a forward pass: resident (Linux), on a GPU allocated."""
    batches, model = load_batches(asked)[:1], load_model(asked, defended)
    workload = next(workload for workload in workloads(defended, model.mean.device) if workload.name == workload_name)
    _correct(model, *batches[0][:2])
    if model.mean.is_cuda:
        peak, forget = torch.cuda.max_memory_allocated, torch.cuda.reset_peak_memory_stats
    else:
        peak, forget = _resident_peak, lambda: Path("/proc/self/clear_refs").write_text("5")
    forget()  # the peak of reading the images
    before = peak()
    CONTENDERS[contender](model, batches, workload)
    return (peak() - before) / 2**20


def _resident_peak() -> int:
    """In bytes. A new process inherits the ru_maxrss of its parent, so that will not do."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def load_model(asked: argparse.Namespace, defended: bool) -> PixelModel:
    torch.set_num_threads(asked.threads)
    name, _, weights = (asked.robust if defended else asked.model).partition("@")
    return build_model(name, asked.dataset, weights=weights or "default").to(pick_device(asked.device))


def load_batches(asked: argparse.Namespace) -> list[Batch]:
    images = load_images(asked.dataset, "test").subset(asked.n, seed=0)
    return list(make_loader(images, batch_size=asked.batch_size, device=pick_device(asked.device)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="cnn", help='undefended: a name for build_model, or name@weights; "": none')
    parser.add_argument("--robust", default="cnn_robust", help='adversarially trained, the same way; "": none')
    parser.add_argument("--dataset", default="cifar10")
    parser.add_argument("--n", type=int, default=128, help="test images, as many of every class")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=RESULTS / "benchmarks" / "attacks.csv")
    asked = parser.parse_args()

    named = {False: asked.model, True: asked.robust}
    models = {defended: load_model(asked, defended) for defended, name in named.items() if name}
    summary = summarise(measure(models, load_batches(asked), asked.rounds))
    # each contender in a process of its own, which begins small
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as fresh:
        keys = (summary[name] for name in ("defended", "workload", "contender"))
        summary["peak_memory_mib"] = list(fresh.map(peak_memory, repeat(asked), *keys))
    print(summary.round(3).to_string(index=False))
    conditions = {name: getattr(asked, name) for name in ("dataset", "n", "batch_size", "rounds", "threads")}
    summary = summary.assign(**conditions, device=provenance(pick_device(asked.device))["device"])
    versions = ", ".join(f"{package} {version(package)}" for package in ("torch", "torchattacks", "foolbox"))
    summary["versions"] = f"{versions}, Python {platform.python_version()}, {os.cpu_count()} cores"
    with written_whole(asked.out) as path:
        summary.to_csv(path, index=False, float_format="%.4g")


if __name__ == "__main__":
    main()
