"""Times of predictions in fresh processes, one after the other."""

import io
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import torch
from tqdm.auto import tqdm

from src.data.image_set import ImageSet
from src.efficiency.resources import in_fresh_process
from src.models.build import Task, describe_task
from src.names import ModelName, parse_model


def time_in_processes(
    models: Mapping[str, str | ModelName],
    dataset: str | ImageSet | Task,
    *,
    others: Mapping[str, str | ModelName],
    n_processes: int = 3,
    folder: Path | str | None = None,
    device: torch.device | str = "cpu",
    seed: int = 0,
    progress: bool = True,
    **options,
) -> pd.DataFrame:
    """`time_all` in each of several fresh processes, with the column process: what differs from one start of a program
    to the next (where memory lies, what else runs) is no repeat of one process, and often more.

    models, others: label -> name.  dataset, folder: as of `build_model`.  options: variants, threads, batch_sizes,
    n_repeats, n_warmup and seconds of `time_all`, in each process.  Images are random pixels of the data set's size.
    Raises RuntimeError with the process's own words when it fails, and ValueError for no process.
    """
    if n_processes < 1:
        raise ValueError(f"n_processes must be at least 1, not {n_processes}")
    names = {"models": models, "others": others}
    asked = {
        kind: {label: asdict(name if isinstance(name, ModelName) else parse_model(name)) for label, name in of.items()}
        for kind, of in names.items()
    }
    asked |= dict(task=asdict(describe_task(dataset)), device=str(device), place=str(Path.cwd()))
    asked |= dict(folder=str(folder) if folder else None, options=options)
    parts = []
    for process in tqdm(range(n_processes), desc="processes", disable=not progress):
        asked["options"]["seed"] = seed + process
        said = in_fresh_process("src.efficiency.one_process", asked, what="timing " + ", ".join([*models, *others]))
        parts.append(pd.read_json(io.StringIO(said), orient="split", dtype=False).assign(process=process))
    return pd.concat(parts, ignore_index=True)
