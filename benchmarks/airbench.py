"""How long a CPU trains to an accuracy on CIFAR-10: airbench's network and recipe beside this study's CNN and its own.

    python -m benchmarks.airbench        # an hour on one thread; writes results/benchmarks/to_accuracy.csv

airbench94 (Keller Jordan, https://github.com/KellerJordan/cifar10-airbench, arXiv 2404.00498) takes the fewest
operations that are known for 94 %.  Here it is written anew, for a CPU: a whitening convolution that is not trained,
three blocks, Muon for the convolutions, eight epochs of one falling learning rate, alternating flips.  It is trained
whole, on the 45,000 images of this study's recipes, and judged on the test images once.  Then both contenders take
turns, on one thread and in the same number format, and minutes are the images that a whole training sees over the
fastest turn's images a second: both are of one run, whatever else kept the machine busy during the training.
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import replace
from math import ceil

import pandas as pd
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn
from tqdm.auto import tqdm

from benchmarks.bench_training import CONTENDERS, timed
from src.data import load_images
from src.files import read_json, written_whole
from src.models import build_model
from src.paths import RESULTS, ROOT
from src.runtime import device_label, fast_dtype
from src.training.inputs import load_sets
from src.training.recipe import RECIPES

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
EPOCHS, WHITENING_EPOCHS, BATCH = 8, 3, 2_000
BIAS_RATE, HEAD_RATE, CONV_RATE, DECAY = 0.053, 0.67, 0.24, 2e-6 * BATCH
N_TURN, TURNS = 8_000, 3  # images of a turn: four steps of airbench's


class Block(nn.Module):
    """3×3 convolution, halved, 3×3 convolution; BatchNorm without scales, with short memory, and GELU after each."""

    def __init__(self, n_in: int, n_out: int):
        super().__init__()
        shape = dict(kernel_size=3, padding=1, bias=False)
        self.convs = nn.ModuleList([nn.Conv2d(n_in, n_out, **shape), nn.Conv2d(n_out, n_out, **shape)])
        self.norms = nn.ModuleList(nn.BatchNorm2d(n_out, eps=1e-12, momentum=0.4) for _ in self.convs)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            norm.weight.requires_grad_(False)
            nn.init.dirac_(conv.weight.data[: conv.in_channels])  # the first channels pass on what they are given

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d h2 w2"]:
        x = F.gelu(self.norms[0](F.max_pool2d(self.convs[0](x), 2)))
        return F.gelu(self.norms[1](self.convs[1](x)))


class Airbench(nn.Module):
    """The network of airbench94, 2 M parameters; pixels normalised by MEAN and STD in, logits out."""

    def __init__(self, images: Float[Tensor, "n 3 32 32"]):
        super().__init__()
        self.whiten = nn.Conv2d(3, 24, kernel_size=2)
        self.whiten.weight.requires_grad_(False)
        self.whiten.weight.copy_(whitening(images))
        self.blocks = nn.Sequential(Block(24, 64), Block(64, 256), Block(256, 256))
        self.head = nn.Linear(256, 10, bias=False)
        self.head.weight.data /= self.head.weight.data.std()
        self.to(memory_format=torch.channels_last)

    def forward(self, x: Float[Tensor, "n 3 32 32"]) -> Float[Tensor, "n 10"]:
        x = F.max_pool2d(self.blocks(F.gelu(self.whiten(x))), 3).flatten(1)
        return self.head(x) / x.shape[1]


def whitening(images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "24 3 2 2"]:
    """Filters that make the 2×2 patches of images uncorrelated and of like size, and the same with the other sign."""
    patches = F.unfold(images, 2).transpose(1, 2).flatten(0, 1).double()
    values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
    filters = (vectors / (values + 5e-4).sqrt()).T.reshape(-1, 3, 2, 2)
    return torch.cat([filters, -filters]).float()


class ConvMuon(torch.optim.Optimizer):
    """Muon as airbench has it: momentum made orthogonal, and filters brought back to one length at each step."""

    def __init__(self, convs: list[nn.Parameter], lr: float, momentum: float = 0.6):
        super().__init__(convs, dict(lr=lr, momentum=momentum))

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                mean = self.state[p].setdefault("mean", torch.zeros_like(p))
                mean.mul_(group["momentum"]).add_(p.grad)
                update = orthogonal(p.grad.add(mean, alpha=group["momentum"]).flatten(1)).view_as(p)
                p.mul_(len(p) ** 0.5 / p.norm()).add_(update, alpha=-group["lr"])


def orthogonal(matrix: Float[Tensor, "m n"], steps: int = 3) -> Float[Tensor, "m n"]:
    """The matrix with its singular values brought near 1, by a Newton-Schulz iteration of fifth order."""
    if len(matrix) > matrix.shape[1]:
        return orthogonal(matrix.T, steps).T
    x = matrix / (matrix.norm() + 1e-7)
    for _ in range(steps):
        square = x @ x.T
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x


def batches_of(
    pixels: UInt8[Tensor, "n 32 32 3"], labels: Int[Tensor, " n"], generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """Normalised batches without end, the rest of an epoch left out; moved by up to 2 px, and mirrored in every second
    epoch, half of the images in the one and half in the other."""
    n = len(labels)
    padded = F.pad(_normalised(pixels), (2,) * 4, mode="reflect").permute(0, 2, 3, 1)
    mirrored = torch.rand(n, generator=generator) < 0.5
    while True:
        corners = torch.randint(0, 5, (2, n, 1), generator=generator) + torch.arange(32)
        for rows in torch.randperm(n, generator=generator).split(BATCH)[: n // BATCH]:
            (top, left), flip = corners[:, rows], mirrored[rows, None]
            left = torch.where(flip, left.flip(1), left)
            images = padded[rows[:, None, None], top[:, :, None], left[:, None, :]]
            yield images.permute(0, 3, 1, 2), labels[rows]
        mirrored = ~mirrored


def steps_of(net: Airbench, batches: Iterator, n_epoch: int, n_steps: int, dtype: torch.dtype) -> Iterator[int]:
    """Train; each step gives the number of its images.  n_epoch: steps of an epoch."""
    norms = [norm.bias for block in net.blocks for norm in block.norms]
    rates = {BIAS_RATE: [[net.whiten.bias], norms], HEAD_RATE: [[net.head.weight]]}
    groups = [dict(params=own, lr=lr, weight_decay=DECAY / lr) for lr, parts in rates.items() for own in parts]
    convs = [conv.weight for block in net.blocks for conv in block.convs]
    optimisers = [torch.optim.SGD(groups, momentum=0.85, nesterov=True, fused=True), ConvMuon(convs, CONV_RATE)]
    groups = [group for optimiser in optimisers for group in optimiser.param_groups]
    full = [group["lr"] for group in groups]
    net.train()
    for step in range(n_steps):
        net.whiten.bias.requires_grad_(step < WHITENING_EPOCHS * n_epoch)
        for i, (group, lr) in enumerate(zip(groups, full, strict=True)):
            group["lr"] = lr * max(0.0, 1 - step / (n_steps if i else WHITENING_EPOCHS * n_epoch))
        images, labels = next(batches)
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            logits = net(images).float()
        F.cross_entropy(logits, labels, label_smoothing=0.2, reduction="sum").backward()
        for optimiser in optimisers:
            optimiser.step()
            optimiser.zero_grad()
        yield len(labels)


@torch.inference_mode()
def logits_of(net: Airbench, pixels: UInt8[Tensor, "n 32 32 3"]) -> tuple[Float[Tensor, "n 10"], Float[Tensor, "n 10"]]:
    """Of the images as they are, and the mean over six views, mirrored and moved by a pixel, which airbench counts."""
    net.eval()
    parts = []
    for part in pixels.split(500):
        x = _normalised(part)
        around = F.pad(x, (1,) * 4, mode="reflect")
        places = (x, around[:, :, :32, :32], around[:, :, 2:, 2:])
        (alone, flipped), *moved = ((net(place), net(place.flip(3))) for place in places)
        parts.append((alone, (alone + flipped) / 4 + sum(map(sum, moved)) / 8))
    return tuple(map(torch.cat, zip(*parts, strict=True)))


def _normalised(pixels: UInt8[Tensor, "n h w 3"]) -> Float[Tensor, "n 3 h w"]:
    x = (pixels / 255 - torch.tensor(MEAN)) / torch.tensor(STD)
    return x.permute(0, 3, 1, 2)  # whose memory stays in the order of channels last


def train(epochs: float, dtype: torch.dtype, seed: int) -> dict:
    """One training of airbench's network, and what the test images say of it."""
    torch.manual_seed(seed)
    images, test = load_sets("cifar10", None).train, load_images("cifar10", "test")
    pixels, labels = torch.from_numpy(images.images), torch.from_numpy(images.labels)
    net = Airbench(_normalised(pixels[:5_000]))
    n_epoch = len(labels) // BATCH
    n_steps = ceil(epochs * n_epoch)
    batches = batches_of(pixels, labels, torch.Generator().manual_seed(seed))
    began = time.perf_counter()
    for _ in tqdm(steps_of(net, batches, n_epoch, n_steps, dtype), total=n_steps, desc="airbench"):
        pass
    print(f"{(time.perf_counter() - began) / 60:.1f} minutes for {n_steps} steps of {BATCH:,} images")
    shown, truth = torch.from_numpy(test.images), torch.from_numpy(test.labels)
    right = [float((logits.argmax(1) == truth).double().mean()) for logits in logits_of(net, shown)]
    accuracies = dict(zip(("accuracy", "accuracy_of_views"), right, strict=True))
    return dict(contender="airbench94", images_seen=n_steps * BATCH) | accuracies


def speeds(dtype: torch.dtype) -> dict[str, float]:
    """Images a second of both, in turns; the fastest turn of each counts, its first step does not."""
    images = load_images("cifar10", "train").subset(N_TURN, seed=0)
    pixels, labels = torch.from_numpy(images.images), torch.from_numpy(images.labels)
    recipe = replace(RECIPES["cnn", "cifar10", "base"], dtype=str(dtype).removeprefix("torch."))
    cnn, net = build_model("cnn", "cifar10", weights=None).train(), Airbench(_normalised(pixels[:5_000]))
    found: dict[str, list[float]] = {"cnn": [], "airbench94": []}
    for _ in range(TURNS):
        found["cnn"].append(timed(CONTENDERS["ours"](images.subset(1_024, seed=0), recipe, cnn))[1])
        batches = batches_of(pixels, labels, torch.Generator().manual_seed(0))
        found["airbench94"].append(timed(steps_of(net, batches, 4, N_TURN // BATCH, dtype))[1])
    return {who: max(turns) for who, turns in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=float, default=EPOCHS)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    dtype = getattr(torch, fast_dtype(torch.device("cpu")))
    card = read_json(ROOT / "cnn_models" / "cnn_cifar10.json", test=dict, recipe=dict)
    n_train = len(load_sets("cifar10", None).train)
    ours = dict(contender="cnn", images_seen=card["recipe"]["epochs"] * n_train, accuracy=card["test"]["accuracy"])
    table = pd.DataFrame([ours, train(asked.epochs, dtype, asked.seed)])
    table["images_per_s"] = table["contender"].map(speeds(dtype)).round(1)
    table["minutes"] = (table["images_seen"] / table["images_per_s"] / 60).round(1)
    about = dict(dtype=str(dtype).removeprefix("torch."), threads=1, torch=torch.__version__)
    table = table.assign(**about, machine=device_label(torch.device("cpu")))
    print(table.T)
    with written_whole(RESULTS / "benchmarks" / "to_accuracy.csv") as file:
        table.to_csv(file, index=False)


if __name__ == "__main__":
    main()
