"""How often a GPU would be waited for, and how many kernels it would be given: counted on the tests' pretend GPU.

    python -m benchmarks.bench_waits            # writes results/benchmarks/waits.csv; needs no GPU, takes no time

Small networks and few images: a wait is one whatever their size.  What is done once is left out, where there are steps,
by taking the difference of a long and a short run; what has no steps is counted for one batch.  In the file the columns
waits_before and kernels_before stay as they are.
"""

import argparse
import copy
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from torch import nn

from src import cka, feature_vis
from src.attacks import attack_curve, transfer_predictions, worst_case
from src.data.loaders import make_loader
from src.data.pixels import to_pixels
from src.files import written_whole
from src.models.predict import predict
from src.paths import RESULTS
from src.texture_shape import predict_manipulated, textures, transfer_style
from src.training import Recipe
from src.training import loop as training
from src.training.optimisers import make_optimisers
from tests.pretend_gpu import PretendGPU, pretend_gpu
from tests.shapes import images_of, zoo_of

SHORT, LONG = 10, 30  # steps
IMAGES = images_of("2 classes").subset(12, seed=0)
ATTACKS = {"PGD": "pgd", "APGD": "apgd", "APGD-T": "apgd-t", "Square": "square"}


def attack(attack: str, early_stop: bool, zoo: dict, loader, steps: int) -> None:
    options = {"queries" if attack == "square" else "steps": steps} | (dict(n_targets=1) if attack == "apgd-t" else {})
    options |= dict(early_stop=early_stop, eps_grid=(1e-6,), progress=False)  # a radius at which no image breaks
    attack_curve(zoo["own conv", 0], loader, attack=attack, **options)


def train(zoo: dict, loader, steps: int, **recipe) -> None:
    model, recipe = zoo["own conv", 0].train(), Recipe(**recipe)
    optimisers, batch = make_optimisers(model, recipe), next(iter(loader))
    for _ in range(steps):
        training._training_step(model, optimisers, batch, recipe)


def maximise(parameterisation: str, zoo: dict, loader, steps: int) -> None:
    options = dict(parameterisation=parameterisation, statistics=feature_vis.image_statistics(to_pixels(IMAGES.images)))
    feature_vis.maximise_activation(zoo["own conv", 0], [0, 1], steps=steps, progress=False, **options)


def invert(zoo: dict, loader, steps: int) -> None:
    (pixels, *_) = next(iter(loader))
    feature_vis.invert_features(zoo["own conv", 0], "net.layer2", pixels[:2], steps=steps, progress=False)


def paint(zoo: dict, loader, steps: int) -> None:
    (pixels, *_) = next(iter(loader))
    transfer_style(pixels, pixels.flip(0), zoo["own conv", 0], steps=steps)


def synthesise(zoo: dict, loader, steps: int) -> None:
    (pixels, _, ids) = next(iter(loader))
    grey = nn.functional.interpolate(pixels[:2, :1], (32, 32)).expand(-1, 3, -1, -1)  # of one principal colour
    textures.synthesise_texture(grey, ids[:2], 0, steps=steps)


# name -> (networks, loader, steps) -> anything
STEPS: dict[str, Callable[[dict, object, int], object]] = {
    **{name: partial(attack, key, False) for name, key in ATTACKS.items()},
    **{f"{name}, early stop": partial(attack, key, True) for name, key in ATTACKS.items()},
    "training, AdamW": train,
    "training, SGD, adversarial": partial(train, optimiser="sgd", eps_255=4.0),
    "training, bfloat16": partial(train, dtype="bfloat16"),
    **{f"maximise, {name}": partial(maximise, name) for name in ("pixels", "fourier", "maco")},
    "invert": invert,
    "style transfer": paint,
    **({"texture synthesis": synthesise} if textures.available() else {}),
}
# name -> (networks, loader of one batch) -> anything
BATCHES: dict[str, Callable[[dict, object], object]] = {
    "predict": lambda zoo, loader: predict(zoo["own conv", 0], loader, progress=False),
    "manipulations": lambda zoo, loader: predict_manipulated(zoo, loader, progress=False),
    "transfer": lambda zoo, loader: transfer_predictions(zoo, loader, eps=0.03, progress=False),
    "worst case": lambda zoo, loader: worst_case(
        zoo["own patches", 0], loader, eps=(1e-6, 2e-6), steps=10, n_targets=1, queries=10, progress=False
    ),
    "HSIC, 10 permutations": lambda zoo, loader: cka.hsic_table(zoo, loader, n_permutations=10, progress=False),
    "other measures": lambda zoo, loader: cka.measure_table(zoo, loader, progress=False),
}


def counted(run: Callable[[dict[tuple, nn.Module], object], object]) -> PretendGPU:
    """The counts of a run, on networks and a batch that are on the device already."""
    with pretend_gpu() as gpu:
        zoo = {key: copy.deepcopy(model).to("cuda") for key, model in zoo_of("2 classes").items()}
        loader = make_loader(IMAGES, batch_size=len(IMAGES), device="cuda")
        gpu.waits.clear()
        gpu.kernels = 0
        run(zoo, loader)
    return gpu


def measure(names: tuple[str, ...] = (*STEPS, *BATCHES)) -> Iterator[dict]:
    """One row per function: function, per ("step" or "batch"), waits, kernels."""
    for name in names:
        if name in BATCHES:
            gpu = counted(BATCHES[name])
            yield dict(function=name, per="batch", waits=gpu.waits.total(), kernels=gpu.kernels)
            continue
        few, many = (counted(partial(STEPS[name], steps=steps)) for steps in (SHORT, LONG))
        waits, kernels = many.waits.total() - few.waits.total(), many.kernels - few.kernels
        yield dict(function=name, per="step", waits=waits / (LONG - SHORT), kernels=kernels / (LONG - SHORT))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=RESULTS / "benchmarks" / "waits.csv")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    table = pd.DataFrame(measure())
    if asked.out.exists():
        before = pd.read_csv(asked.out).reindex(columns=["function", "waits_before", "kernels_before"])
        table = table.merge(before, on="function", how="left")
    print(table.round(2).to_string(index=False))
    with written_whole(asked.out) as path:
        table.to_csv(path, index=False, float_format="%.4g")


if __name__ == "__main__":
    main()
