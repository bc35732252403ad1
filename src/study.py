"""The beginning and the end of every notebook: parameters, images and models; tables and figures."""

import ast
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import nbformat
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from src import plotting
from src.data import ImageSet, load_images
from src.data.loaders import make_loader
from src.models import PixelModel, build_model
from src.paths import ROOT
from src.results import GATHER, NOTEBOOKS, WHOLE, load_parts, parse_shard, save_table
from src.runtime import pick_device, provenance, seed_everything

PLACE = ("dataset", "device", "shard")  # parameters that say where a run is, not how it measures

Items = TypeVar("Items")  # with a length and `take(positions)`: an ImageSet, a DataFrame


@dataclass(frozen=True)
class Study:
    """A run of one notebook on one data set.

    parameters: of the notebook, without those of PLACE.  sources: file -> sha256 of the weights built so far.
    """

    experiment: str
    dataset: str
    seed: int
    device: torch.device
    shard: str
    parameters: dict
    sources: dict[str, str] = field(default_factory=dict)

    @property
    def gathers(self) -> bool:
        """Whether nothing is measured, and tables come from the parts that shards have left."""
        return self.shard == GATHER

    def images(self, split: str, n: int = 0) -> ImageSet:
        """n images of a split, even over the classes; 0 for all."""
        images = load_images(self.dataset, split)
        return images.subset(n, self.seed) if n else images

    def part(self, items: Items) -> Items:
        """The images, or rows, of this run's shard."""
        return part_of(items, self.shard)

    def loader(self, images: ImageSet, batch_size: int):
        return make_loader(images, batch_size=batch_size, device=self.device)

    def model(self, name: str, model_seed: int = 0, **options) -> PixelModel:
        """A model on the device, by default with the weights of that training seed; options: of `build_model`."""
        options = {"weights": f"seed{model_seed}" if model_seed else "default"} | options
        model = build_model(name, self.dataset, **options).to(self.device)
        self.sources.update(model.source)
        return model

    def zoo(self, models: Sequence[str], model_seeds: Sequence[int] = (0,)) -> dict[tuple[str, int], PixelModel]:
        """(name, training seed) -> model, for all names and seeds."""
        return {(name, seed): self.model(name, seed) for name in models for seed in model_seeds}

    def measured(self, names: str | Sequence[str], measure: Callable[[], pd.DataFrame]) -> pd.DataFrame:
        """The table that `measure` gives, with the columns dataset and seed; where shards are gathered, their parts.

        names: what the table is saved as, or of a table that is saved by model, the models.
        """
        if not self.gathers:
            return measure().assign(dataset=self.dataset, seed=self.seed).reset_index(drop=True)
        made_with = dict(parameters=self.parameters, weights=self.sources)
        names = [names] if isinstance(names, str) else names
        return pd.concat(
            [load_parts(self.dataset, self.experiment, name, **made_with) for name in names], ignore_index=True
        )

    def save(self, table: pd.DataFrame, name: str, *, loops: Sequence[str] = (), whole: bool = False, **more) -> None:
        """Write a table with all that is known of its making, and print where.

        loops: as of `save_table`.  whole: whether every shard makes all of it.  more: further parameters to record.
        """
        path = save_table(
            table,
            self.dataset,
            self.experiment,
            name,
            parameters=self.parameters | more,
            provenance=provenance(self.device),
            weights=self.sources,
            shard=WHOLE if whole else self.shard,
            loops=loops,
        )
        print(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)

    def save_by_model(self, table: pd.DataFrame, models: Sequence[str], *, loops: Sequence[str] = ()) -> None:
        """Write the rows of each model as a table of its own, under its name."""
        for name in models:
            self.save(table[table["model"] == name], name, loops=loops)

    def save_figure(self, figure: Figure, name: str = "") -> None:
        """Write a figure as figures/<experiment>[_<name>]_<data set>, in all formats."""
        plotting.save_figure(figure, "_".join(part for part in (self.experiment, name, self.dataset) if part))


def begin(experiment: str, variables: dict) -> Study:
    """Set style, seed and device, and take up the parameters: what the notebook's parameters cell assigns.

    experiment: a key of NOTEBOOKS.  variables: the notebook's `globals()`.
    """
    parameters = {name: variables[name] for name in parameter_names(experiment)}
    plotting.use_style()
    seed_everything(parameters["seed"])
    return Study(
        experiment,
        parameters["dataset"],
        parameters["seed"],
        pick_device(parameters["device"]),
        parameters.get("shard", WHOLE),
        {name: value for name, value in parameters.items() if name not in PLACE},
    )


def parameter_names(experiment: str) -> list[str]:
    """The names that the parameters cell of an experiment's notebook assigns, in order."""
    cells = nbformat.read(ROOT / NOTEBOOKS[experiment], as_version=4).cells
    (cell,) = (cell for cell in cells if "parameters" in cell.metadata.get("tags", []))
    return [statement.targets[0].id for statement in ast.parse(cell.source).body]


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
