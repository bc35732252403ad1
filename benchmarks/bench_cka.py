"""CKA of all layers of two networks: this study's, pytorch-cka, torch_cka and the plain loop, in time and memory.

    python -m benchmarks.bench_cka        # writes results/benchmarks/cka.csv, some 8 minutes on one core

Every row is a fresh process on one thread that makes the networks, sees one batch to warm up, and is then measured once
on the same images in memory: wall seconds, and how far its peak memory rises above that before it. Contenders take
turns; torch_cka and the plain loop see six layers of either network, the others every layer too. `times_forward` is
against the forward passes alone, of one network where a network meets itself. All compute the linear, unbiased estimate
per minibatch in their own precision; `error` is the largest distance from float64 kernels and the formula on the same
activations, of 32 images. The plain loop keeps all activations of a batch and compares layer by layer, in float32.
Growth rows are this study's alone: against images and against layers.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version

import pandas as pd
import timm
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from src.cka import cka_matrix, linear_cka
from src.data.batches import Batch
from src.files import written_whole
from src.models import build_model
from src.models.access import hooked
from src.models.layers import layer_names
from src.paths import RESULTS
from src.runtime import provenance

BATCH = 256
FEW = 6  # layers of either network
CONTENDERS = ("forward", "ours", "pytorch-cka", "torch_cka", "plain loop")


def resnet18() -> nn.Module:
    """At full width, with a stem for images of 32 pixels."""
    torch.manual_seed(0)
    return build_model("resnet18", "cifar10", weights=None).net.eval()


def vit_tiny() -> nn.Module:
    torch.manual_seed(1)
    return timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=4, num_classes=10).eval()


def matrix_layers(model: nn.Module) -> list[str]:
    """Convolutions and linear layers, and in transformers their norms and activations: 21 of ResNet-18, 87 of ViT."""
    kinds = (nn.Conv2d, nn.Linear) if hasattr(model, "layer1") else (nn.Conv2d, nn.Linear, nn.LayerNorm, nn.GELU)
    modules = dict(model.named_modules())
    return [name for name in layer_names(model, torch.zeros(2, 3, 32, 32)) if isinstance(modules[name], kinds)]


CASES: dict[str, Callable[[], tuple[nn.Module, nn.Module]]] = {
    "ResNet-18 with itself": lambda: (model := resnet18(), model),
    "ResNet-18 with ViT-tiny": lambda: (resnet18(), vit_tiny()),
}


def forward(a: nn.Module, b: nn.Module, loader: DataLoader, layers_a: list[str], layers_b: list[str]) -> None:
    with torch.inference_mode():
        for pixels, _ in loader:
            for model in (a,) if a is b else (a, b):
                model(pixels)


def ours(a: nn.Module, b: nn.Module, loader: DataLoader, layers_a: list[str], layers_b: list[str]) -> Tensor:
    batches = [Batch(pixels, labels, torch.arange(len(labels))) for pixels, labels in loader]
    table = cka_matrix(a, b, batches, layers_a=layers_a, layers_b=layers_b)
    return torch.tensor(table.pivot(index="index_a", columns="index_b", values="cka").to_numpy())


def pytorch_cka(a: nn.Module, b: nn.Module, loader: DataLoader, layers_a: list[str], layers_b: list[str]) -> Tensor:
    from cka import compute_cka

    (found,) = compute_cka(a, b, loader, layers=layers_a, model2_layers=layers_b, progress=False)
    return found


def torch_cka(a: nn.Module, b: nn.Module, loader: DataLoader, layers_a: list[str], layers_b: list[str]) -> Tensor:
    from torch_cka import CKA

    measure = CKA(a, b, "a", "b", model1_layers=layers_a, model2_layers=layers_b)
    measure.compare(loader, loader)
    return measure.export()["CKA"]


@torch.no_grad()
def plain_loop(a: nn.Module, b: nn.Module, loader: DataLoader, layers_a: list[str], layers_b: list[str]) -> Tensor:
    total = torch.zeros(3, len(layers_a), len(layers_b))
    for pixels, _ in loader:
        seen = [activations(model, pixels, names) for model, names in ((a, layers_a), (b, layers_b))]
        for i, x in enumerate(seen[0].values()):
            k = (x @ x.T).fill_diagonal_(0)
            for j, y in enumerate(seen[1].values()):
                m = (y @ y.T).fill_diagonal_(0)
                total[:, i, j] += torch.stack([unbiased_hsic(k, m), unbiased_hsic(k, k), unbiased_hsic(m, m)])
    return total[0] / (total[1] * total[2]).sqrt()


def unbiased_hsic(k: Tensor, m: Tensor) -> Tensor:
    n = len(k)
    sums = k.sum() * m.sum() / ((n - 1) * (n - 2)) - 2 / (n - 2) * k.sum(0) @ m.sum(0)
    return ((k * m).sum() + sums) / (n * (n - 3))


@torch.no_grad()
def activations(model: nn.Module, pixels: Tensor, names: list[str]) -> dict[str, Tensor]:
    """Of the named layers [n, p], copied, as ReLUs in place follow."""
    seen = {}
    with hooked(model, names, lambda name, value: seen.update({name: value.clone()})):
        model(pixels)
    return {name: seen[name].flatten(1) for name in names}


FUNCTIONS = dict(zip(CONTENDERS, (forward, ours, pytorch_cka, torch_cka, plain_loop), strict=True))


def images(n: int, batch: int = BATCH) -> DataLoader:
    """A DataLoader, as the peers ask for one, that hands out batches that lie ready."""
    pixels = torch.rand(n, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    batches = list(zip(pixels.split(batch), torch.zeros(n, dtype=torch.long).split(batch), strict=True))
    return DataLoader(batches, batch_size=None)


def measure(case: str, contender: str, n: int, n_layers: int | None) -> dict:
    """In this process: seconds, MiB above what the networks and a first batch needed, and the largest error."""
    torch.set_num_threads(1)
    a, b = CASES[case]()
    layers = [evenly(matrix_layers(model), n_layers) for model in (a, b)]
    loader = images(n)
    forward(a, b, images(BATCH), *layers)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    FUNCTIONS[contender](a, b, loader, *layers)
    seconds = time.perf_counter() - start
    added = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    row = dict(case=case, contender=contender, n=n, layers=len(layers[0]) * len(layers[1]), seconds=seconds)
    return row | dict(added_mib=added, error=None if contender == "forward" else error(contender, a, b, layers))


def evenly(names: list[str], n: int | None) -> list[str]:
    """n of the names, from the first to the last; None for all."""
    if n is None or n >= len(names):
        return names
    return [names[round(i * (len(names) - 1) / max(n - 1, 1))] for i in range(n)]


def error(contender: str, a: nn.Module, b: nn.Module, layers: list[list[str]]) -> float:
    """Against float64 on 32 images, for up to six layers of either, evenly over the depth."""
    few = [evenly(names, FEW) for names in layers]
    loader = images(32, 32)
    found = FUNCTIONS[contender](a, b, loader, *few)
    ((pixels, _),) = loader
    x, y = (list(activations(model, pixels, names).values()) for model, names in zip((a, b), few, strict=True))
    expected = torch.tensor([[linear_cka(i.double(), j.double()) for j in y] for i in x])
    return float((found.double() - expected).abs().max())


def run(**asked) -> dict:
    """`measure` in a process of its own; of a peer that fails, what it said."""
    command = [sys.executable, "-m", "benchmarks.bench_cka", "--one", json.dumps(asked)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode and asked["contender"] in ("forward", "ours"):
        raise RuntimeError(f"{asked} failed:\n{done.stderr}")
    if done.returncode:
        kept = {name: asked[name] for name in ("case", "contender", "n")}
        return kept | dict(layers=asked["n_layers"] ** 2, failed=done.stderr.strip().splitlines()[-1])
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=512, help="images (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(measure(**json.loads(asked.one))))
        return
    rows = []
    for case in CASES:
        for _ in range(asked.rounds):
            for contender in CONTENDERS[:3]:
                rows.append(run(case=case, contender=contender, n=asked.n, n_layers=None))
                print(rows[-1], flush=True)
        for contender in CONTENDERS[1:]:  # with the slow ones, whose time goes with the pairs of layers: few of them
            rows.append(run(case=case, contender=contender, n=asked.n, n_layers=FEW))
            print(rows[-1], flush=True)
    for n in (1024, 2048, 4096, 10240):
        rows.append(run(case="ResNet-18 with itself", contender="ours", n=n, n_layers=None))
    for n_layers in (1, 2, 12, 24):
        rows.append(run(case="ResNet-18 with ViT-tiny", contender="ours", n=asked.n, n_layers=n_layers))
    best = tabulate(rows)
    print(best.drop(columns=["machine", "versions", "time"]).to_string(index=False, float_format="%.4g"))
    with written_whole(RESULTS / "benchmarks" / "cka.csv") as partial:
        best.to_csv(partial, index=False, float_format="%.5g")


def tabulate(rows: list[dict]) -> pd.DataFrame:
    """Medians over processes, and against the forward passes of as many images."""
    table = pd.DataFrame(rows)
    table["failed"] = table["failed"].fillna("") if "failed" in table else ""
    groups = table.groupby(["case", "contender", "n", "layers", "failed"], sort=False)
    best = groups.agg(
        seconds=("seconds", "median"),
        runs=("seconds", "size"),
        added_mib=("added_mib", "median"),
        error=("error", "max"),
    ).reset_index()
    forward_rows = best[best["contender"] == "forward"]
    per_image = (forward_rows["seconds"] / forward_rows["n"]).set_axis(forward_rows["case"])
    best["times_forward"] = best["seconds"] / (best["n"] * best["case"].map(per_image))
    facts = provenance("cpu")
    versions = [f"{name} {version(name)}" for name in ("torch", "pytorch-cka", "torch_cka")]
    return best.assign(threads=1, machine=facts["device"], versions=", ".join(versions), time=facts["time"])


if __name__ == "__main__":
    main()
