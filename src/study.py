"""Parts of the images, measured apart: on several machines, or one after the other.

Notebooks that go image by image have a parameter `shard`: "1/1" measures all images, "2/3" the second of three parts
and writes part tables, "gather" measures nothing and puts the parts together (`results.load_parts`). All that is random
is drawn from the sample id, so the parts together are what one run would have measured.
"""

import re
from typing import TypeVar

import numpy as np

GATHER = "gather"
WHOLE = "1/1"

Items = TypeVar("Items")  # with a length and `take(positions)`: an ImageSet, a DataFrame


def parse_shard(shard: str) -> tuple[int, int]:
    """(k, n) of "k/n", the k-th of n parts counted from 1; ValueError for anything else."""
    found = re.fullmatch(r"(\d+)/(\d+)", str(shard))
    k, n = (int(number) for number in found.groups()) if found else (0, 0)
    if not 1 <= k <= n:
        raise ValueError(f'shard must be "k/n" with k from 1 to n, such as "2/3", or "{GATHER}", not {shard!r}')
    return k, n


def part_of(items: Items, shard: str) -> Items:
    """The neighbouring images (or rows) of a shard, in their order; all of them for "gather".

    The parts of n shards differ in length by one at most.  Raises ValueError when there are fewer items than shards.
    """
    if shard == GATHER:
        return items
    k, n = parse_shard(shard)
    if len(items) < n:
        raise ValueError(f"{len(items)} images or pairs cannot be divided into {n} shards; take fewer")
    return items.take(np.arange(len(items) * (k - 1) // n, len(items) * k // n))
