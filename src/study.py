"""The beginning and the end of every notebook: parameters, images and models; tables and figures."""

import reprlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from src import plotting
from src.data import ImageSet, load_images
from src.data.loaders import make_loader
from src.models import PixelModel, build_model
from src.models.access import first_seeds
from src.models.build import Task, describe_task, size_of
from src.models.predict import predict
from src.names import UNTRAINED, parse_dataset, parse_model, parse_models, seeds_of, slug
from src.parameters import read_parameters
from src.paths import ROOT
from src.results import GATHER, NOTEBOOKS, WHOLE, load_parts, parse_shard, save_table
from src.runs import code_hash, load_run, open_run
from src.runtime import check_dtype, fast_dtype, keep_memory, pick_device, provenance, seed_everything

NEED_FLOAT64 = ("03_texture_shape", "04a_cka", "04b_feature_vis")  # on the device
PLACE = ("dataset", "run", "device", "loader", "shard")  # parameters that say where a run is, not how it measures

Items = TypeVar("Items")  # with a length and `take(positions)`: an ImageSet, a DataFrame


@dataclass(frozen=True)
class Study:
    """A run of one notebook on one data set.

    dataset: label of the data set.  dataset_name: as `load_images` takes it.  folder: of the run, for tables, figures
    and weights.  models: label -> name, of the parameter `models`.  parameters: without those of PLACE; dtype as it is
    computed.  code: hash of what makes the tables.  splits: images loaded so far.
    sources: file -> sha256 of the weights built so far.
    """

    experiment: str
    dataset: str
    dataset_name: str
    folder: Path
    models: dict[str, str]
    seed: int
    device: torch.device
    backend: str
    shard: str
    parameters: dict
    code: str
    splits: dict[str, ImageSet]
    sources: dict[str, str] = field(default_factory=dict)

    @property
    def gathers(self) -> bool:
        """Whether nothing is measured, and tables come from the parts that shards have left."""
        return self.shard == GATHER

    @property
    def data(self) -> dict:
        """What tables record of the images."""
        return load_run(self.folder)["data"] | {"classes": len(self.classes)}

    @property
    def task(self) -> Task:
        return describe_task(self.splits["test"])

    @property
    def classes(self) -> tuple[str, ...]:
        return self.splits["test"].classes

    def images(self, split: str, n: int = 0) -> ImageSet:
        """n images of a split, even over the classes; all of them for 0, and for more than there are.

        Raises ValueError where the split has other classes than the test images.
        """
        if split not in self.splits:
            images = load_images(self.dataset_name, split)
            if images.classes != self.classes:
                told = " and ".join(reprlib.repr(list(classes)) for classes in (images.classes, self.classes))
                raise ValueError(f"{self.dataset}: {split} and test have different classes, {told}; give both the same")
            self.splits[split] = images
        images = self.splits[split].at_most(n, self.seed)
        if n > len(images):
            print(f"{self.dataset} {split}: {images.note}")
        return images

    def part(self, items: Items) -> Items:
        """The images, or rows, of this run's shard."""
        return part_of(items, self.shard)

    def loader(self, images: ImageSet, batch_size: int):
        return make_loader(images, batch_size=batch_size, device=self.device, backend=self.backend)

    def model(self, name: str, model_seed: int = 0, *, task: Task | None = None, **options) -> PixelModel:
        """A trained model on the device, by name; options: of `build_model`.

        model_seed: of the training, other than that of the weights named.  task: of another data set.  With
        weights=None the network is untrained, and of the size of the weights named, where they are there.  Raises
        ValueError for a network whose classifier is untrained, unless the name says so, as in cnn@untrained.
        """
        asked = parse_model(name).with_seed(model_seed)
        if "weights" in options:  # in place of those of the name
            given = options.pop("weights")
            if given is None:
                options.setdefault("size", size_of(asked, task or self.task, folder=self.folder / "weights"))
            asked = replace(asked, weights=UNTRAINED if given is None else str(given))
        model = build_model(asked, task or self.task, folder=self.folder / "weights", **options).to(self.device)
        if not model.trained and asked.weights != UNTRAINED:
            raise ValueError(
                f"the classifier of {name} is untrained; fine-tune it with notebook 01 or `make train` and name the "
                f"weights, {asked.reference}@FILE, or measure it as it is: {asked.reference}@{UNTRAINED}"
            )
        if model.path:
            print(f"{asked.label}, training seed {model_seed}: {shown_path(model.path)}")
        self.sources.update(model.source | model.code)
        return model

    def zoo(self, model_seeds: Sequence[int] | Mapping[str, Sequence[int]] = (0,)) -> dict[tuple[str, int], PixelModel]:
        """(label, training seed) -> model, for all models of the notebook; model_seeds: of all, or by label."""
        seeds = seeds_of(list(self.models.values()), model_seeds)
        if any(not some or len(set(some)) < len(some) for some in seeds.values()):
            raise ValueError(f"model_seeds must name at least one training seed, each once, not {model_seeds}")
        return {(label, seed): self.model(name, seed) for label, name in self.models.items() for seed in seeds[label]}

    def show_examples(self, zoo: Mapping, n: int = 10) -> None:
        """Show n test images, even over the classes, and below each its class and what the first seed of each network
        says, with its confidence; saved as the figure `examples`.  One shard of several shows nothing.

        zoo: name -> model, or (name, training seed) -> model.
        """
        if self.shard not in (WHOLE, GATHER):
            return
        images = self.images("test", n)
        batches = list(self.loader(images, len(images)))
        lines = [[images.classes[k] for k in images.labels]]
        for (name, _), model in first_seeds(zoo).items():
            said = predict(model, batches, progress=False)
            label = plotting.model_style(name)["label"]
            seen = zip(said["prediction"], said["confidence"], strict=True)
            lines.append([f"{label}: {images.classes[k]} {confidence:.0%}" for k, confidence in seen])
        titles = ["\n".join(of_image) for of_image in zip(*lines, strict=True)]
        pictures = batches[0].pixels.permute(0, 2, 3, 1).cpu().numpy()
        self.save_figure(plotting.images(pictures, titles, columns=5), "examples")

    def measured(self, names: str | Sequence[str], measure: Callable[[], pd.DataFrame]) -> pd.DataFrame:
        """The table that `measure` gives, with the columns dataset and seed; where shards are gathered, their parts.

        names: what the table is saved as, or of a table that is saved by model, the models.
        """
        if not self.gathers:
            return measure().assign(dataset=self.dataset, seed=self.seed).reset_index(drop=True)
        made_with = dict(parameters=self.parameters, weights=self.sources)
        names = [names] if isinstance(names, str) else names
        return pd.concat(
            [load_parts(self.folder, self.experiment, name, **made_with) for name in names], ignore_index=True
        )

    def save(self, table: pd.DataFrame, name: str, *, loops: Sequence[str] = (), whole: bool = False, **more) -> None:
        """Write a table with all that is known of its making, and print where.

        loops: as of `save_table`.  whole: whether every shard makes all of it.  more: further parameters to record.
        """
        path = save_table(
            table,
            self.folder,
            self.experiment,
            name,
            parameters=self.parameters | more,
            provenance=provenance(self.device) | {"code": self.code},
            weights=self.sources,
            data=self.data,
            shard=WHOLE if whole else self.shard,
            loops=loops,
        )
        print(shown_path(path))

    def save_by_model(self, table: pd.DataFrame, *, loops: Sequence[str] = ()) -> None:
        """Write the rows of each model as a table of its own, under its label."""
        for label in self.models:
            self.save(table[table["model"] == label], label, loops=loops)

    def save_figure(self, figure: Figure, name: str = "") -> None:
        """Write a figure as <run>/figures/<experiment>[_<name>], in all formats."""
        name = "_".join(part for part in (self.experiment, name) if part)
        plotting.save_figure(figure, name, folder=self.folder / "figures")


def begin(experiment: str, variables: dict) -> Study:
    """Set style, seed and device, load the test images, open the run, and take up the notebook's parameters.

    experiment: a key of NOTEBOOKS.  variables: the notebook's `globals()`.  A run without a name is called by_hand and
    the data set; its folder is printed.
    """
    parameters = read_parameters(NOTEBOOKS[experiment], variables)
    plotting.use_style()
    seed_everything(parameters["seed"])
    labels = [model.label for model in parse_models(parameters["models"])] if "models" in parameters else []
    device = pick_device(parameters["device"], float64=experiment in NEED_FLOAT64)
    if experiment != "06_efficiency":  # which times what a program has by itself
        keep_memory()
    label, dataset_name = parse_dataset(parameters["dataset"])
    if parameters.get("dtype") == "auto":
        parameters["dtype"] = fast_dtype(device)  # tables say which
    check_dtype(parameters.get("dtype", "float32"), device)
    test_set = load_images(parameters["dataset"], "test")
    data = {"name": dataset_name, "note": test_set.note, "checksum": test_set.checksum()}
    data |= {"classes": list(test_set.classes)}
    folder = open_run(parameters["run"] or f"by_hand_{slug(label)}", label, data)
    print(f"run {folder.name}: tables, figures and weights go to {shown_path(folder)}")
    return Study(
        experiment,
        label,
        parameters["dataset"],
        folder,
        dict(zip(labels, parameters["models"], strict=True)) if labels else {},
        parameters["seed"],
        device,
        parameters.get("loader", "memory"),
        parameters.get("shard", WHOLE),
        {name: value for name, value in parameters.items() if name not in PLACE},
        code_hash(NOTEBOOKS[experiment]),
        {"test": test_set},
    )


def shown_path(path: Path) -> Path:
    """A path from the repository on, where it lies in it."""
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else path


def part_of(items: Items, shard: str) -> Items:
    """The neighbouring images (or rows) of a shard, in their order; all of them for "gather".

    All that is random is drawn from the sample id, so the parts together are what one run would have measured. They
    differ in length by one at most.  Raises ValueError when there are fewer items than shards.
    """
    if shard == GATHER:
        return items
    k, n = parse_shard(shard)
    if len(items) < n:
        raise ValueError(f"{len(items)} images or pairs cannot be divided into {n} shards; take fewer")
    return items.take(np.arange(len(items) * (k - 1) // n, len(items) * k // n))
