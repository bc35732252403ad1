"""All pairs of networks in one pass against pair by pair, the labels, and the null of shuffled images."""

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from src.cka import cka_matrix, hsic_table, linear_cka
from src.cka.direct import Pieces, gram
from src.data.batches import Batch
from src.tables.cka import between, cka_table, deconfounded
from tests.cka.test_cka import batches, hsic, normal


def small(seed: int, width: int = 12) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, width), nn.ReLU(), nn.Linear(width, 5)).double().eval()


def looked_at(n: int = 48, size: int = 16):
    return [batch._replace(pixels=batch.pixels.double()) for batch in batches(n, size, side=8)]


CHOICE = {"first": ["1", "3"], "second": ["1", "2", "3"]}


@pytest.mark.parametrize("kernel, unbiased", [("linear", True), ("rbf", False), ("cosine", True)])
def test_one_pass_for_all_is_each_pair_alone(kernel, unbiased):
    networks = {("first", 0): small(0), ("second", 1): small(1, 20)}
    rows, null = hsic_table(networks, looked_at(), layers=CHOICE, kernel=kernel, unbiased=unbiased)
    table = cka_table(rows)
    assert null.empty and len(table) == 4 + 6 + 9 + 2 * (2 + 3 + 1) + 1
    for a, b in (("first", "first"), ("first", "second"), ("second", "second")):
        seeds = {"first": 0, "second": 1}
        alone = cka_matrix(
            networks[a, seeds[a]], networks[b, seeds[b]], looked_at(), layers_a=CHOICE[a], layers_b=CHOICE[b],
            kernel=kernel, unbiased=unbiased,
        )  # fmt: skip
        found = table[(table["model_a"] == a) & (table["model_b"] == b)].sort_values(["index_a", "index_b"])
        assert found["layer_a"].tolist() == alone["layer_a"].tolist()
        for column in ("cka", "low", "high", "depth_a", "depth_b"):
            np.testing.assert_allclose(found[column], alone[column], atol=1e-9, err_msg=column)


def test_layers_of_a_network_that_is_not_there_are_refused_and_one_without_layers_is_named():
    networks = {"a": small(0), "b": small(1)}
    with pytest.raises(ValueError, match="layers names A, not among the networks a, b"):
        hsic_table(networks, looked_at(), layers={"A": ["1"]}, progress=False)
    with pytest.raises(ValueError, match="c: Sequential has not two parts, .* or name layers"):
        hsic_table(networks | {"c": nn.Sequential(nn.Flatten())}, looked_at(), progress=False)


def test_what_training_changed_is_told_of_a_network_and_its_own_random_weights():
    """Trained and untrained networks meet where they have one name, and all of a kind meet each other."""
    trained, untrained = ({("first", 0): small(i), ("second", 0): small(i + 1, 20)} for i in (0, 7))
    rows, _ = hsic_table(trained, looked_at(16), untrained=untrained, layers=CHOICE)
    alone, _ = hsic_table(untrained, looked_at(16), layers=CHOICE)
    pairs = rows[["model_a", "kind_a", "model_b", "kind_b"]].drop_duplicates()
    across = pairs[(pairs["kind_a"] != pairs["kind_b"]) & pairs["kind_b"].eq("untrained")]
    assert across[["model_a", "model_b"]].to_numpy().tolist() == [["first", "first"], ["second", "second"]]
    within = pairs[pairs["kind_a"] == pairs["kind_b"]].groupby("kind_a").size()
    assert within.to_dict() == {"trained": 3, "untrained": 3, "labels": 1, "inputs": 1}
    of_untrained = rows[(rows["kind_a"] == "untrained") & (rows["kind_b"] == "untrained")]
    np.testing.assert_allclose(of_untrained["cross"], alone.loc[alone["kind_b"] == "trained", "cross"], rtol=1e-9)


def test_the_labels_are_one_more_network():
    networks = {("first", 0): small(0)}
    (batch,) = looked_at(40, 40)
    table = cka_table(hsic_table(networks, [batch], layers={"first": CHOICE["first"]})[0])
    (found,) = table[(table["kind_b"] == "labels") & (table["layer_a"] == "3")]["cka"]
    with torch.no_grad():
        logits = networks["first", 0](batch.pixels)
    same = (batch.labels[:, None] == batch.labels).double()
    assert found == pytest.approx(linear_cka(logits, torch.linalg.cholesky(same + 1e-12 * torch.eye(40))), abs=1e-6)


@pytest.mark.parametrize("unbiased", [True, False])
def test_pieces_in_other_orders(unbiased):
    x, kernels = normal(9, 4), [gram(normal(9, 3, seed=seed)) for seed in (1, 2)]
    orders = torch.stack([torch.randperm(9, generator=torch.Generator().manual_seed(seed)) for seed in range(3)])
    shuffled = Pieces.of(torch.stack(kernels)).permuted(orders)
    expected = [
        hsic(gram(x).numpy(), kernel[order][:, order].numpy(), unbiased=unbiased)
        for kernel in kernels
        for order in orders
    ]
    found = Pieces.of(gram(x)).hsic(shuffled, unbiased=unbiased)[0]
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_under_the_null_p_values_are_uniform_and_a_network_is_far_from_it():
    """Two networks that see unrelated images: their largest CKA is as those of the shuffles."""
    p_values = []
    for trial in range(40):
        one, other = small(trial), Unrelated(small(trial + 100), trial)
        rows, null = hsic_table(
            {("a", 0): one, ("b", 0): other},
            looked_at(24, 12),
            layers={"b": ["inner.1"], "a": ["1"]},
            n_permutations=39,
            seed=trial,
        )
        table = cka_table(rows)
        seen = table.loc[(table["model_a"] == "a") & (table["model_b"] == "b"), "cka"].max()
        drawn = null.loc[(null["model_a"] == "a") & (null["model_b"] == "b"), "largest"]
        p_values.append((1 + (drawn >= seen).sum()) / 40)
    assert stats.kstest(p_values, "uniform").pvalue > 0.01
    rows, null = hsic_table(
        {("a", 0): small(0), ("b", 0): small(7)}, looked_at(), layers={"a": ["1"], "b": ["1"]}, n_permutations=50
    )
    table = cka_table(rows)
    seen = table.loc[(table["model_a"] == "a") & (table["model_b"] == "b"), "cka"].max()
    assert seen > null.loc[null["model_b"] == "b", "largest"].max() + 0.1


class Unrelated(nn.Module):
    """Looks at noise of its own in place of the images."""

    def __init__(self, inner: nn.Module, seed: int):
        super().__init__()
        self.inner, self.generator = inner, torch.Generator().manual_seed(seed)

    def forward(self, pixels):
        return self.inner(torch.rand(pixels.shape, generator=self.generator, dtype=pixels.dtype))


def test_bad_requests_are_refused():
    networks = {("first", 0): small(0)}
    for options, message in (
        (dict(kernel="poly"), "unknown kernel 'poly'; choose from linear, rbf, cosine"),
        (dict(pool="max"), "unknown pool 'max'; choose from None, spatial mean"),
        (dict(layers={"first": ["9"]}), "no layer that runs matches '9'"),
    ):
        with pytest.raises(ValueError, match=message):
            hsic_table(networks, looked_at(), **options)
    with pytest.raises(ValueError, match="there are no images"):
        hsic_table(networks, [])


def test_names_say_nothing_of_what_a_network_is():
    """Kinds are columns: a network may be called as the labels are, and an untrained one as its trained self."""
    one, other = {("labels", 0): small(0)}, {("labels", 0): small(7)}
    rows, null = hsic_table(one, looked_at(), untrained=other, layers={"labels": ["1"]}, n_permutations=3)
    assert rows["model_a"].unique().tolist() == ["labels", "inputs"]
    assert rows["kind_a"].unique().tolist() == ["trained", "untrained", "labels", "inputs"]
    assert null[["kind_a", "kind_b"]].drop_duplicates().to_numpy().tolist() == [["trained", "labels"]]
    assert rows["condition"].eq("untrained").equals((rows[["kind_a", "kind_b"]] == "untrained").any(axis=1))
    alone = cka_matrix(one["labels", 0], other["labels", 0], looked_at(), layers_a=["1"], layers_b=["1"])
    both = between(cka_table(rows), "labels", "labels", kinds=("trained", "untrained"))
    assert both["cka"].item() == pytest.approx(alone["cka"].item(), abs=1e-12)


def centred(kernel: np.ndarray, *, unbiased: bool) -> np.ndarray:
    """By the definitions: double centring, or U-centring of Székely & Rizzo 2014, with diagonals of 0."""
    n = len(kernel)
    if not unbiased:
        h = np.eye(n) - 1 / n
        return h @ kernel @ h
    kernel = kernel - np.diag(np.diag(kernel))
    sums = kernel.sum(0) / (n - 2)
    return (kernel - sums - sums[:, None] + kernel.sum() / ((n - 1) * (n - 2))) * (1 - np.eye(n))


@pytest.mark.parametrize("unbiased", [True, False])
def test_deconfounding_is_a_regression_on_the_inputs_kernel(unbiased):
    networks = {("first", 0): small(0), ("second", 1): small(1, 20)}
    (batch,) = looked_at(24, 24)
    rows = deconfounded(hsic_table(networks, [batch], layers=CHOICE, unbiased=unbiased)[0])
    assert "inputs" not in set(rows["kind_b"]) and set(rows["kernel"]) == {"linear, deconfounded"}
    residuals = {}
    inputs = centred(gram(batch.pixels.flatten(1)).numpy(), unbiased=unbiased)
    for (name, _), model in networks.items():
        with torch.no_grad():
            kernel = centred(gram(model[:2](batch.pixels)).numpy(), unbiased=unbiased)
        (slope,), *_ = np.linalg.lstsq(inputs.reshape(-1, 1), kernel.ravel(), rcond=None)
        residuals[name] = kernel - slope * inputs
    (found,) = (
        rows[(rows["model_a"] == "first") & (rows["model_b"] == "second")]
        .query("layer_a == '1' and layer_b == '1'")
        .itertuples()
    )
    one, other = residuals["first"], residuals["second"]
    factor = 24 * 21 if unbiased else 23**2
    assert found.cross == pytest.approx((one * other).sum() / factor, rel=1e-8)
    assert found.own_a == pytest.approx((one**2).sum() / factor, rel=1e-8)
    assert found.own_b == pytest.approx((other**2).sum() / factor, rel=1e-8)


class Planted(nn.Module):
    """Gives the features of each image by its number, which stands in its first pixel."""

    def __init__(self, *features: torch.Tensor):
        super().__init__()
        self.features, self.last = torch.cat(features, dim=1), nn.Identity()

    def forward(self, pixels):
        return self.last(self.features[(1e6 * pixels[:, 0, 0, 0]).round().long()])


@pytest.mark.parametrize("shared, least, most", [(False, -0.1, 0.1), (True, 0.4, 0.6)])
def test_deconfounding_takes_the_inputs_away_and_leaves_what_is_shared_beyond_them(shared, least, most):
    pixels, beyond = normal(256, 48, seed=9).reshape(256, 3, 4, 4), 2 * normal(256, 6, seed=8)
    pixels[:, 0, 0, 0] = torch.arange(256.0) / 1e6
    own = [2 * normal(256, 6, seed=seed) for seed in (1, 2)]
    zoo = {name: Planted(2 * pixels.flatten(1), part, *[beyond] * shared) for name, part in zip("ab", own, strict=True)}
    loader = [Batch(pixels, torch.arange(256) % 10, torch.arange(256))]
    rows, _ = hsic_table(zoo, loader, layers=dict.fromkeys("ab", ["last"]))
    plain, left = (between(cka_table(part), "a", "b")["cka"].item() for part in (rows, deconfounded(rows)))
    assert plain > most + 0.05 and least < left < most
