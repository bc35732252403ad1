"""The controlled zoo: networks that differ from the study's own in one thing, and a command that trains them.

    python -m src.training.controls cifar10 --seeds 0 1 2          # or: make zoo DATASET=cifar10 ARGS="--seeds 0 1 2"

The weights go to runs/controls/weights, where `make report CONFIG=controls` finds them, as cnn@w2 or vit@common. What
is there, or among the weights of the repository, is not trained again; a killed training goes on.
"""

import argparse
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from src.names import check_model, parse_model, weight_files
from src.paths import ROOT

RUN = "controls"


@dataclass(frozen=True)
class Control:
    """A network of the controlled zoo.

    what: it controls for, kept on the card.  changes: to the recipe of the network and the data set.  size: a size or a
    shape of the network, as in "width=4"; None for the data set's usual one.
    """

    what: str
    changes: dict[str, int | float | str] = field(default_factory=dict)
    size: str | None = None


_SEEDS = Control("training seed")
_PLAIN = Control("no label smoothing, no mixup", dict(label_smoothing=0.0, mixup=0.0))
# what trains all three without trouble: AdamW as for ViTs, crops and flips as for CNNs, no mixing, as long for each
_COMMON = Control(
    "one common recipe",
    dict(epochs=12, batch_size=128, lr=1e-3, optimiser="adamw", weight_decay=0.05, warmup=0.1)
    | dict(label_smoothing=0.1, crop_scale=1.0, crop_pad=4, mixup=0.0, gradient_clip=1.0),
)


def _narrow(size: str, accuracy_of: str, **changes: int) -> Control:
    return Control(f"accuracy of the {accuracy_of}, by a narrower network", changes, size)


def _short(accuracy_of: str, **changes: int) -> Control:
    return Control(f"accuracy of the {accuracy_of}, by a short, annealed training", changes)


# data set -> name -> control, cheapest and most telling first; sizes and epochs were chosen on held-out images, to lie
# within a point of the MLP's 66.6 % and of the ViT's 80.7 %.  cnn@w2 does, and so do those of short67: held out,
# batches of 288, 200 and 128 gave the CNN 61.7, 65.9 and 69.1 %, of 320, 224 and 96 the ViT 65.3, 67.4 and 69.7 %;
# 24, 20, 18 and 16 channels gave the ViT 70.4, 67.5, 65.9 and 64.8 %, the MLP has 66.1; widths of 6 and 4 gave the CNN
# 84.9 and 81.4 %, the ViT has 81.9; five epochs in batches of 128 and four in batches of 112 gave the CNN 82.9 and
# 81.0, on the test images 83.0 and 81.1 %
CONTROLS: dict[str, dict[str, Control]] = {
    "cifar10": {
        "cnn@short67": _short("MLP", epochs=2, batch_size=200),
        "vit@short67": _short("MLP", epochs=2, batch_size=224),
        "cnn@short81": _short("ViT", epochs=4, batch_size=112),
        "cnn@w2": _narrow("width=2", "MLP", epochs=10),
        "vit@w18": _narrow("embed_dim=18,depth=3,num_heads=2", "MLP"),
        "cnn@w4": _narrow("width=4", "ViT"),
        "mlp@plain": _PLAIN,
        "mlp@common": _COMMON,
        "cnn@common": _COMMON,
        "vit@common": _COMMON,
        "cnn@plain": _PLAIN,
        "vit@plain": _PLAIN,
        "mlp": _SEEDS,
        "cnn": _SEEDS,
        "vit": _SEEDS,
    }
}


def main(arguments: list[str] | None = None) -> None:
    """Train, one after the other, what the controlled zoo of a data set lacks; end with the first that fails."""
    parser = argparse.ArgumentParser("make zoo", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("dataset", choices=CONTROLS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="training seeds (default: 0)")
    parser.add_argument("--only", nargs="+", metavar="NAME", help=f"of {', '.join(CONTROLS['cifar10'])}")
    parser.add_argument("--ship", action="store_true", help="the weights go to those of the repository")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    asked = parser.parse_args(arguments)
    unknown = sorted(set(asked.only or ()) - CONTROLS[asked.dataset].keys())
    if unknown:
        parser.error(f"unknown network {', '.join(unknown)}; choose from {', '.join(CONTROLS[asked.dataset])}")
    if negative := [seed for seed in asked.seeds if not 0 <= seed < 2**32]:
        parser.error(f"a seed is a whole number from 0 to {2**32 - 1}, not {negative[0]}")
    missing = missing_trainings(asked.dataset, asked.seeds, asked.only, ship=asked.ship)
    print(f"{len(missing)} networks to train", flush=True)
    for words in missing:
        command = [sys.executable, "-m", "src.training", *words, "--threads", str(asked.threads)]
        if subprocess.run(command, cwd=ROOT).returncode:
            sys.exit(f"make zoo: ended at {' '.join(words[:2])}; the same command goes on from there")


def missing_trainings(
    dataset: str, seeds: list[int], only: list[str] | None = None, *, ship: bool = False
) -> list[list[str]]:
    """The words for `python -m src.training` of each network that has no weights yet, seed by seed."""
    every = CONTROLS[dataset].items()
    wanted = [(name, control, seed) for seed in seeds for name, control in every if not only or name in only]
    return [
        words_of(name, control, dataset, seed, ship=ship)
        for name, control, seed in wanted
        if not weights_of(name, dataset, seed)
    ]


def weights_of(name: str, dataset: str, seed: int) -> Path | None:
    """Where the weights of a network of the zoo lie, in the run or in the repository; None before its training."""
    model = parse_model(name).with_seed(seed)
    (file,) = weight_files(model, dataset)
    folders = (ROOT / "runs" / RUN / "weights", ROOT / f"{model.reference.partition('_')[0]}_models")
    return next((folder / file for folder in folders if (folder / file).exists()), None)


def words_of(name: str, control: Control, dataset: str, seed: int, *, ship: bool = False) -> list[str]:
    """The words of the training.

    >>> " ".join(words_of("mlp", Control("training seed"), "cifar10", 1))
    'mlp cifar10 --seed 1 --label seed1 --run controls --control training seed'
    """
    model = check_model(name).with_seed(seed)
    words = [model.reference, dataset, "--seed", str(seed), "--label", model.weights]
    words += ["--ship"] if ship else ["--run", RUN]
    words += ["--size", control.size] if control.size else []
    words += [word for item in control.changes.items() for word in ("--set", "{}={}".format(*item))]
    return [*words, "--control", control.what]


if __name__ == "__main__":
    main()
