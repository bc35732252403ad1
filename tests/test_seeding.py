import numpy as np
import pytest
import torch
from scipy import stats

from src.seeding import _splitmix64, orders, uniform

MASK = 2**64 - 1
GOLDEN = 0x9E3779B97F4A7C15


def splitmix64(x: int) -> int:
    """The generator of Steele, Lea & Flood 2014 in whole numbers, as Java's SplittableRandom has it."""
    x = (x + GOLDEN) & MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def uniform_by_hand(sample_id: int, keys: tuple[int, ...], draw: int) -> float:
    state = splitmix64(sample_id & MASK)
    for key in keys:
        state = splitmix64(state ^ (key & MASK))
    return (splitmix64((state + draw * GOLDEN) & MASK) >> 40) / 2**24


def test_splitmix64_gives_the_published_sequence():
    seed = 1234567  # the first five outputs of the reference implementation
    expected = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    states = torch.tensor([(seed + i * GOLDEN + 2**63) % 2**64 - 2**63 for i in range(5)])
    assert [value % 2**64 for value in _splitmix64(states).tolist()] == expected


@pytest.mark.parametrize("keys", [(), (0,), (3, 7), (2**63, -1, 2**64 + 5)])
def test_uniform_equals_whole_number_arithmetic(keys):
    ids = [0, 1, 2, 49_999, 2**31, 2**62 + 12345, -1]
    expected = [[uniform_by_hand(i, keys, draw) for draw in range(4)] for i in ids]
    found = uniform(torch.tensor(ids), *keys, draws=4)
    assert found.dtype == torch.float32
    np.testing.assert_array_equal(found.numpy(), np.array(expected, dtype=np.float32))


def test_numbers_do_not_depend_on_the_batch_its_order_or_its_integer_type():
    ids = torch.arange(1000)
    whole = uniform(ids, 5, 9, draws=3)
    order = torch.randperm(1000, generator=torch.Generator().manual_seed(0))
    assert torch.equal(uniform(ids[order], 5, 9, draws=3), whole[order])
    assert torch.equal(torch.cat([uniform(part, 5, 9, draws=3) for part in ids.split(7)]), whole)
    assert torch.equal(uniform(ids[:1], 5, 9, draws=2), whole[:1, :2])
    assert torch.equal(uniform(ids.int(), 5, 9, draws=3), whole)


def test_a_tensor_gives_each_sample_a_key_of_its_own():
    ids, turns = torch.arange(6), torch.tensor([0, 5, 0, -1, 7, 5])
    found = uniform(ids, 3, turns, draws=4)
    for i, turn in enumerate(turns.tolist()):
        assert torch.equal(found[i], uniform(ids, 3, turn, draws=4)[i])


def test_the_order_of_the_keys_and_every_key_matters():
    ids = torch.arange(200)
    drawn = [uniform(ids, *keys, draws=2) for keys in ((1, 2), (2, 1), (1, 2, 0), (1,), (1, 3))]
    for i, a in enumerate(drawn):
        for b in drawn[:i]:
            assert (a == b).float().mean() < 0.01


@pytest.mark.parametrize("keys", [(0,), (1, 0), (123, 45, 6)])
def test_draws_are_uniform_in_the_half_open_interval(keys):
    drawn = uniform(torch.arange(50_000), *keys, draws=2)
    assert drawn.min() >= 0 and drawn.max() < 1
    for column in drawn.T:
        assert stats.kstest(column.numpy(), "uniform").pvalue > 1e-3


def joint_uniformity(a, b) -> float:
    """p-value of a chi-square test that pairs fall evenly on a 16×16 grid."""
    counts, *_ = np.histogram2d(a, b, bins=16, range=[[0, 1], [0, 1]])
    return stats.chisquare(counts.ravel()).pvalue


def test_neighbouring_samples_keys_and_draws_are_independent():
    ids = torch.arange(50_000)
    base = uniform(ids, 0, 0, draws=3).numpy()
    assert joint_uniformity(base[:-1, 0], base[1:, 0]) > 1e-3  # samples
    assert joint_uniformity(base[:, 0], base[:, 1]) > 1e-3  # draws
    for keys in ((0, 1), (1, 0), (0, 0, 1)):
        assert joint_uniformity(base[:, 0], uniform(ids, *keys, draws=1)[:, 0].numpy()) > 1e-3
    of_one_image = torch.cat([uniform(ids[:1], seed, draws=1) for seed in range(1000)])
    assert stats.kstest(of_one_image[:, 0].numpy(), "uniform").pvalue > 1e-3


def test_orders_are_those_of_the_draws_and_of_equal_draws_the_first_comes_first():
    ids = torch.tensor([3, 141, 59])
    expected = uniform(ids, 7, draws=20_000).argsort(dim=1, stable=True)  # some of them equal
    assert (uniform(ids, 7, draws=20_000).sort(dim=1).values.diff(dim=1) == 0).any()
    assert torch.equal(orders(ids, 7, n=20_000), expected)
    assert torch.equal(orders(ids.flip(0), 7, n=20_000).flip(0), expected)
