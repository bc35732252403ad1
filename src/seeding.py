"""Random numbers that belong to an image, not to its place in a batch.

Every random manipulation, crop or attack start is drawn from (seed, …, sample_id). Batch size, order, shard and
device then change nothing, which a sequential generator cannot offer and a generator per image is too slow for.
"""

from enum import IntEnum

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor


class Stream(IntEnum):
    """Random streams: a number of its own for each use, so that an image never meets one draw twice."""

    CROP, MIXUP, ORDER = 1, 2, 3
    ATTACK_START, STRIPES, SQUARE, SIGNS = 21, 22, 23, 24
    OCCLUSION, FILL, SHUFFLE, PHASES, TEXTURE_START, DRAWING, POSES, FILTERS = 31, 32, 33, 34, 35, 36, 37, 38
    FREQUENCIES, VIEWS, NOISE = 41, 42, 43
    PERMUTATION, PERMUTATION_OF_BATCH = 51, 52


_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed 64-bit integer
_MIX_1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_MIX_2 = -7723592293110705685  # 0x94D049BB133111EB


def _shift_right(x: Tensor, bits: int) -> Tensor:
    return (x >> bits) & ((1 << (64 - bits)) - 1)  # logical shift: torch shifts signed integers arithmetically


def _splitmix64(x: Tensor) -> Tensor:
    x = x + _GOLDEN
    x = (x ^ _shift_right(x, 30)) * _MIX_1
    x = (x ^ _shift_right(x, 27)) * _MIX_2
    return x ^ _shift_right(x, 31)


def _to_key(value: int) -> int:
    return int(np.uint64(value % 2**64).astype(np.int64))


def uniform(sample_ids: Int[Tensor, " n"], *keys: int | Tensor, draws: int) -> Float[Tensor, "n draws"]:
    """Uniform numbers in [0, 1) for each sample id, the same whatever else is in the batch.

    sample_ids: indices in the official split, int64.  keys: what tells this use from others, e.g. (seed, epoch);
    their order matters; an int64 tensor [n] gives each sample its own.  draws: numbers per sample.
    Returns float32 on the device of `sample_ids`.
    Source: splitmix64 as a counter-based generator (Steele, Lea & Flood 2014), 24 high bits of each output.
    """
    return _bits(sample_ids, keys, draws).float() / 2**24


def orders(sample_ids: Int[Tensor, " m"], *keys: int | Tensor, n: int) -> Int[Tensor, "m n"]:
    """A random order of 0 to n - 1 for each sample id, the same whatever else is in the batch: that of `uniform` draws.

    sample_ids, keys: as of `uniform`.  Of equal draws the first comes first.
    """
    places = torch.arange(n, device=sample_ids.device)
    return ((_bits(sample_ids, keys, n) << 32) + places).argsort(dim=1)


def _bits(sample_ids: Int[Tensor, " n"], keys: tuple[int | Tensor, ...], draws: int) -> Int[Tensor, "n draws"]:
    state = _splitmix64(sample_ids.long())
    for key in keys:
        state = _splitmix64(state ^ (key if isinstance(key, Tensor) else _to_key(int(key))))
    counters = torch.arange(draws, device=sample_ids.device) * _GOLDEN
    return _shift_right(_splitmix64(state[:, None] + counters), 40)
