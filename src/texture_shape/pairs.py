"""Pairs of images for cue conflicts: fixed by a seed, balanced over the ordered pairs of classes."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from jaxtyping import Int


def choose_pairs(
    labels: Int[np.ndarray, " m"],
    sample_ids: Int[np.ndarray, " m"],
    n: int,
    *,
    seed: int,
) -> pd.DataFrame:
    """n pairs of images, or as many as there are, of two classes: one image for its shape, the other for its texture.

    labels, sample_ids: of the images there are, in any order.
    Returns columns pair (0, 1, …), shape_id, texture_id, shape_label, texture_label.  Every ordered pair of classes
    comes equally often, give or take one, and so does every class in either role; no two images meet twice, in either
    role.  With one seed fewer pairs are the beginning of more.  There are no more once two classes have no further
    pair: the rest would not be even.  Raises ValueError for fewer than two classes.

    >>> choose_pairs(np.array([0, 0, 1]), np.array([7, 8, 9]), 2, seed=0)[["shape_id", "texture_id"]].shape
    (2, 2)
    """
    labels, sample_ids = np.asarray(labels), np.asarray(sample_ids)
    if labels.shape != sample_ids.shape:
        raise ValueError(f"labels and sample_ids must be of one length, not {len(labels)}, {len(sample_ids)}")
    draws = [np.random.default_rng([seed, 1, sample_id]).random() for sample_id in sample_ids]
    order = np.lexsort((sample_ids, draws))
    members = {label: order[labels[order] == label] for label in np.unique(labels)}
    rng = np.random.default_rng([seed, 2])
    classes = rng.permutation(list(members)).tolist()
    if len(classes) < 2:
        raise ValueError(f"pairs need images of two classes; there are {len(classes)}")
    # one step round the classes pairs each with another: each class once in either role
    steps = rng.permutation(np.arange(1, len(classes)))
    turns = [
        (a, classes[(i + step) % len(classes)], turn / len(steps))
        for turn, step in enumerate(steps)
        for i, a in enumerate(classes)
    ]
    met: set[frozenset] = set()
    sources = [_new(_meetings(members[a], members[b], start), met) for a, b, start in turns]
    rows: list[tuple[int, int]] = []
    while len(rows) < n:
        meetings = [next(source, None) for source in sources[: n - len(rows)]]
        if None in meetings:
            break
        rows += meetings
    shape, texture = np.array(rows, int).reshape(-1, 2).T
    ids = dict(pair=np.arange(len(rows)), shape_id=sample_ids[shape], texture_id=sample_ids[texture])
    return pd.DataFrame(ids | dict(shape_label=labels[shape], texture_label=labels[texture]))


def _meetings(a: np.ndarray, b: np.ndarray, start: float) -> Iterator[tuple[int, int]]:
    """Each member of a with each of b, once; from a place along both lists, a share of them."""
    first, second = int(start * len(a)), int(start * len(b))
    for place in range(len(a) * len(b)):
        row = place % len(a)
        yield a[(row + first) % len(a)], b[(row + place // len(a) + second) % len(b)]


def _new(pairs: Iterator[tuple[int, int]], met: set[frozenset]) -> Iterator[tuple[int, int]]:
    """The pairs that have not met the other way round."""
    for pair in pairs:
        if frozenset(pair) not in met:
            met.add(frozenset(pair))
            yield pair
