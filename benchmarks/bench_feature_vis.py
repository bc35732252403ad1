"""Cost of pictures: all in one batch against one after the other, torch-lucent, and loops as tutorials have them.

    python -m benchmarks.bench_feature_vis      # CIFAR-10's networks; writes results/benchmarks/feature_vis.csv

One thread, in turns, CPU seconds, on a GPU wall seconds; equal steps for all, so times are those of one picture and
step. What a picture is worth stands beside its time, as a fast method may draw static.

"classes": a picture of each of ten classes. "ours" is `maximise_activation` on all at once, "ours, one at a time" the
same on each alone. "torch-lucent" gets the batch too: its Fourier parameterisation, its own jitter, scale, rotation and
jitter after its padding, no resizing beyond the network's input. "plain loop" raises the class probability by Adam on
the pixels, one picture after the other, without freezing the network.

"inversion": eight images from one stage in the middle of the network. "plain loop" is Adam on the pixels with the alpha
norm and total variation, one image after the other, each pass through the whole network.
"""

import argparse
import os
import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import kornia
import pandas as pd
import torch
from lucent.optvis import objectives, param, render, transform
from torch import Tensor, nn

from src.data import load_images
from src.data.pixels import to_pixels
from src.feature_vis import image_statistics, invert_features, maximise_activation, stages
from src.feature_vis.measures import measure_classes, measure_inversions, total_variation
from src.feature_vis.parameterisations import ImageStatistics
from src.feature_vis.record import judges_of
from src.files import written_whole
from src.models import PixelModel, build_model
from src.models.access import INPUT
from src.paths import RESULTS
from src.runtime import pick_device, provenance

# torch-lucent was written for a kornia of 2020, which had its geometry at the top
kornia.get_rotation_matrix2d = kornia.geometry.get_rotation_matrix2d
kornia.warp_affine = kornia.geometry.warp_affine


def classes_ours(model: nn.Module, classes: Tensor, natural: ImageStatistics, steps: int) -> Tensor:
    return maximise_activation(model, classes, statistics=natural, steps=steps).images


def classes_alone(model: nn.Module, classes: Tensor, natural: ImageStatistics, steps: int) -> Tensor:
    return torch.cat(
        [
            maximise_activation(model, [k], statistics=natural, steps=steps, sample_ids=torch.tensor([i])).images
            for i, k in enumerate(classes.tolist())
        ]
    )


def classes_lucent(model: nn.Module, classes: Tensor, natural: ImageStatistics, steps: int) -> Tensor:
    """Its "net" is the network behind the pixel model's normalisation; the logits are its output."""
    side = natural.size[0]
    kept: dict[str, Callable[[], Tensor]] = {}

    def parameters():
        values, kept["draw"] = param.image(side, batch=len(classes))
        return values, kept["draw"]

    wanted = sum(objectives.channel("net", k, batch=i) for i, k in enumerate(classes.tolist()))
    views = [
        transform.pad(4, mode="constant", constant_value=0.5),
        transform.jitter(3),
        transform.random_scale([0.95, 1, 1.05]),
        transform.random_rotate([-5, 0, 5]),
        transform.jitter(2),
    ]
    render.render_vis(
        model,
        wanted,
        parameters,
        transforms=views,
        thresholds=(steps,),
        preprocess=False,
        progress=False,
        show_image=False,
        fixed_image_size=side,
    )
    return kept["draw"]().detach().clamp(0, 1)


def classes_loop(model: nn.Module, classes: Tensor, natural: ImageStatistics, steps: int) -> Tensor:
    done = []
    for k in classes.tolist():
        x = torch.rand(1, 3, *natural.size, device=classes.device, requires_grad=True)
        optimiser = torch.optim.Adam([x], lr=0.02)
        for _ in range(steps):
            optimiser.zero_grad()
            (-model(x).softmax(1)[0, k]).backward()
            optimiser.step()
            with torch.no_grad():
                x.clamp_(0, 1)
        done.append(x.detach())
    return torch.cat(done)


def inversion_ours(model: nn.Module, images: Tensor, natural: ImageStatistics, steps: int, layer: str) -> Tensor:
    return invert_features(model, layer, images, statistics=natural, steps=steps).images


def inversion_alone(model: nn.Module, images: Tensor, natural: ImageStatistics, steps: int, layer: str) -> Tensor:
    done = [
        invert_features(model, layer, image, statistics=natural, steps=steps, sample_ids=torch.tensor([i])).images
        for i, image in enumerate(images.split(1))
    ]
    return torch.cat(done)


def inversion_loop(model: nn.Module, images: Tensor, natural: ImageStatistics, steps: int, layer: str) -> Tensor:
    given: dict[str, Tensor] = {}
    module = model.get_submodule(layer.removesuffix(INPUT))
    if layer.endswith(INPUT):
        handle = module.register_forward_pre_hook(lambda m, inputs: given.update(now=inputs[0]))
    else:
        handle = module.register_forward_hook(lambda m, inputs, output: given.update(now=output))
    done = []
    for image in images.split(1):
        with torch.no_grad():
            model(image)
        wanted = given["now"].clone()
        x = torch.rand_like(image).requires_grad_()
        optimiser = torch.optim.Adam([x], lr=0.02)
        for _ in range(steps):
            optimiser.zero_grad()
            model(x)
            distance = (given["now"] - wanted).square().sum() / wanted.square().sum()
            (distance + 0.01 * (2 * x - 1).abs().pow(6).mean() + 0.01 * total_variation(x).sum()).backward()
            optimiser.step()
            with torch.no_grad():
                x.clamp_(0, 1)
        done.append(x.detach())
    handle.remove()
    return torch.cat(done)


CONTENDERS: dict[str, dict[str, Callable[..., Tensor]]] = {
    "classes": {
        "ours": classes_ours,
        "ours, one at a time": classes_alone,
        "torch-lucent": classes_lucent,
        "plain loop": classes_loop,
    },
    "inversion": {"ours": inversion_ours, "ours, one at a time": inversion_alone, "plain loop": inversion_loop},
}


def measure(zoo: dict[str, PixelModel], asked: argparse.Namespace) -> pd.DataFrame:
    """One row per model, task, contender and round; who goes first moves on by one every round."""
    device = pick_device(asked.device)
    images = load_images(asked.dataset, "test").subset(1000, seed=0)
    natural = image_statistics(to_pixels(images.images))
    few = images.subset(asked.n, seed=0)
    originals, labels = to_pixels(few.images).to(device), torch.from_numpy(few.labels).to(device)
    classes = torch.arange(len(images.classes), device=device)
    rows = []
    for round_ in range(asked.rounds + 1):  # the first, of few steps, warms up
        steps = asked.steps if round_ else 3
        for name, model in zoo.items():
            names = stages(model, originals)
            layer = names[len(names) // 2]
            others = judges_of(name, {(other, 0): net for other, net in zoo.items()})
            for task, contenders in CONTENDERS.items():
                order = list(contenders)
                first = round_ % len(order)
                for contender in order[first:] + order[:first]:
                    torch.manual_seed(0)
                    inputs = (classes,) if task == "classes" else (originals,)
                    extra = () if task == "classes" else (layer,)
                    start = _now(device)
                    made = contenders[contender](model, *inputs, natural, steps, *extra)
                    seconds = _now(device) - start
                    model.zero_grad()  # a loop leaves gradients behind
                    facts = dict(task=task, model=name, layer=layer if extra else "logits", contender=contender)
                    facts |= dict(round=round_, seconds=seconds, ms_an_image_step=1000 * seconds / len(made) / steps)
                    rows.append(facts | _worth(task, model, made, originals, labels, layer, others, natural, classes))
            print(f"round {round_} of {asked.rounds}: {name}", flush=True)
    table = pd.DataFrame(rows)
    return table[table["round"] > 0]


def _worth(task, model, made, originals, labels, layer, others, natural, classes) -> dict[str, float]:
    """Means of the measures over the pictures."""
    if task == "classes":
        judged = measure_classes(made, classes, model=model, others=others, statistics=natural)
        return judged[["p", "p_shift", "p_transfer", "tv", "spectrum_db"]].mean().to_dict()
    judged = measure_inversions(made, originals, labels, model=model, layer=layer, others=others)
    return judged[["distance", "psnr", "ssim", "p_transfer", "tv"]].mean().to_dict()


def _now(device: torch.device) -> float:
    """Seconds on the clock: of CPU time, or on a GPU of wall time, once it is done."""
    if device.type != "cuda":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def summarise(table: pd.DataFrame) -> pd.DataFrame:
    """Medians over rounds, and median and range of this contender's time over that of ours in the same round."""
    group = ["task", "model", "layer", "contender"]
    ours = table[table["contender"] == "ours"].set_index(["task", "model", "round"])["ms_an_image_step"]
    own = table.join(ours.rename("ours"), on=["task", "model", "round"])
    own["times_ours"] = own["ms_an_image_step"] / own["ours"]
    grouped = own.groupby(group, sort=False)
    summary = grouped[["ms_an_image_step"]].median()
    summary[["times_ours", "times_ours_low", "times_ours_high"]] = grouped["times_ours"].agg(["median", "min", "max"])
    worth = ["p", "p_shift", "p_transfer", "tv", "spectrum_db", "distance", "psnr", "ssim"]
    return summary.join(grouped[worth].median()).reset_index()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["mlp", "cnn", "vit"])
    parser.add_argument("--dataset", default="cifar10")
    parser.add_argument("--n", type=int, default=8, help="images to invert")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=RESULTS / "benchmarks" / "feature_vis.csv")
    asked = parser.parse_args()

    torch.set_num_threads(asked.threads)
    zoo = {name: build_model(name, asked.dataset).to(pick_device(asked.device)) for name in asked.models}
    summary = summarise(measure(zoo, asked))
    print(summary.round(3).to_string(index=False))
    conditions = {name: getattr(asked, name) for name in ("dataset", "n", "steps", "rounds", "threads")}
    summary = summary.assign(**conditions, device=provenance(pick_device(asked.device))["device"])
    versions = ", ".join(f"{package} {version(package)}" for package in ("torch", "torch-lucent", "kornia"))
    summary["versions"] = f"{versions}, Python {platform.python_version()}, {os.cpu_count()} cores"
    with written_whole(asked.out) as path:
        summary.to_csv(path, index=False, float_format="%.4g")


if __name__ == "__main__":
    main()
