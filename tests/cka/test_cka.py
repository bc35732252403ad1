"""CKA against published numbers, closed forms, its own definition in float64, and on real networks."""

import itertools
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from src.cka import cka_matrix, cosine_cka, hsic_table, linear_cka, merge, rbf_cka
from src.cka.direct import KERNELS, Pieces
from src.data.batches import Batch
from src.models import build_model
from src.models.layers import choose_layers, layer_names
from src.tables.cka import between, cka_table


def normal(n: int, p: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, p, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def batches(n: int, size: int, *, side: int = 32, seed: int = 0) -> list[Batch]:
    pixels = torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(seed))
    ids = torch.arange(n)
    return [Batch(*part) for part in zip(pixels.split(size), (ids % 10).split(size), ids.split(size), strict=True)]


def remember(outputs: dict, key, _, __, out: torch.Tensor) -> None:
    """A forward hook that keeps the last output."""
    outputs[key] = out.detach().clone()


def hsic(k: np.ndarray, m: np.ndarray, *, unbiased: bool) -> float:
    """By the definitions, with whole matrices in float64."""
    n = len(k)
    if not unbiased:
        h = np.eye(n) - 1 / n
        return np.trace(k @ h @ m @ h) / (n - 1) ** 2
    k, m, one = k - np.diag(np.diag(k)), m - np.diag(np.diag(m)), np.ones(n)
    whole = np.trace(k @ m) + (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2)) - 2 / (n - 2) * one @ k @ m @ one
    return whole / (n * (n - 3))


def plain_cka(x: np.ndarray, y: np.ndarray, *, unbiased: bool) -> float:
    k, m = x @ x.T, y @ y.T
    own = hsic(k, k, unbiased=unbiased) * hsic(m, m, unbiased=unbiased)
    return hsic(k, m, unbiased=unbiased) / np.sqrt(own)


# Two matrices


def test_the_authors_demo():
    """Kornblith et al.'s notebook: numpy seed 1337, Y is X and noise."""
    rng = np.random.RandomState(1337)
    x = rng.randn(100, 10)
    y = rng.randn(100, 10) + x
    x, y = torch.tensor(x), torch.tensor(y)
    assert linear_cka(x, y, unbiased=False) == pytest.approx(0.55761, abs=2e-5)
    assert linear_cka(x, y) == pytest.approx(0.51346, abs=2e-5)
    assert rbf_cka(x, y, threshold=0.5, unbiased=False) == pytest.approx(0.65483, abs=2e-5)


@pytest.mark.parametrize("unbiased", [True, False])
def test_linear_cka_is_its_definition(unbiased):
    for n, p, q in ((4, 3, 5), (5, 2, 2), (63, 40, 7), (64, 300, 20)):
        x, y = normal(n, p), normal(n, q, seed=1)
        y[:, :2] += x[:, :2]
        expected = plain_cka(x.numpy(), y.numpy(), unbiased=unbiased)
        assert linear_cka(x, y, unbiased=unbiased) == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("unbiased", [True, False])
@pytest.mark.parametrize("cka", [linear_cka, rbf_cka])
def test_what_cka_does_not_see_and_what_it_does(cka, unbiased):
    x, y = normal(50, 12), normal(50, 8, seed=1)
    y[:, 0] += 2 * x[:, 0]
    base = cka(x, y, unbiased=unbiased)
    rotation = torch.linalg.qr(normal(12, 12, seed=2)).Q
    for same in (x @ rotation, 3.7 * x, x.flip(1), x + 1000 * torch.arange(12.0), -x):
        assert cka(same, y, unbiased=unbiased) == pytest.approx(base, abs=1e-9)
    assert cka(x.float() + 1000, y.float(), unbiased=unbiased) == pytest.approx(base, abs=2e-4)  # x lost digits itself
    stretched = x @ torch.diag(torch.logspace(0, 2, 12, dtype=torch.float64))
    assert abs(cka(stretched, y, unbiased=unbiased) - base) > 0.01
    assert cka(x, x, unbiased=unbiased) == pytest.approx(1, abs=1e-12)
    assert cka(x, y, unbiased=unbiased) == pytest.approx(cka(y, x, unbiased=unbiased), abs=1e-12)


def test_a_shift_is_no_change_to_1e_6_in_float32():
    x, y = normal(64, 30).float(), normal(64, 30, seed=1).float()
    x = (x * 64).round() / 64  # so that adding 1000 rounds nothing away
    assert linear_cka(x + 1000, y) == pytest.approx(linear_cka(x, y), abs=1e-6)


def test_the_cosine_kernel_sees_a_shift():
    x, y = normal(60, 10), normal(60, 10, seed=1)
    y += x
    assert cosine_cka(3 * x, y) == pytest.approx(cosine_cka(x, y), abs=1e-12)
    assert abs(cosine_cka(x + 3, y) - cosine_cka(x, y)) > 0.005
    unit = x / x.norm(dim=1, keepdim=True), y / y.norm(dim=1, keepdim=True)
    assert cosine_cka(x, y) == pytest.approx(linear_cka(*unit), abs=1e-12)
    x[0] = 0
    assert np.isfinite(cosine_cka(x, y))


def test_unrelated_activations():
    """n = 256: the biased estimate grows with the number of features, the unbiased one stays about 0, also below."""
    found = {}
    for p in (16, 256, 4096):
        pairs = [(normal(256, p, seed=2 * s), normal(256, p, seed=2 * s + 1)) for s in range(3)]
        found[p] = np.mean([linear_cka(x, y, unbiased=False) for x, y in pairs])
        values = [linear_cka(x, y) for x, y in pairs]
        assert np.abs(values).max() < 0.03
    assert found[16] == pytest.approx(0.059, abs=0.01)
    assert found[256] == pytest.approx(0.501, abs=0.01)
    assert found[4096] == pytest.approx(0.941, abs=0.01)
    negative = [linear_cka(normal(20, 5, seed=s), normal(20, 5, seed=s + 100)) for s in range(20)]
    assert min(negative) < 0  # not cut off


def test_wrong_matrices_are_refused():
    x = normal(10, 3)
    with pytest.raises(ValueError, match="at least 4 examples at a time, not 3"):
        linear_cka(x[:3], x[:3])
    with pytest.raises(ValueError, match="same examples, not 10 and 9"):
        linear_cka(x, x[:9])
    with pytest.raises(ValueError, match="y: activations are not finite"):
        linear_cka(x, torch.full((10, 2), torch.nan))


@pytest.mark.parametrize("measure", [linear_cka, rbf_cka, cosine_cka])
@pytest.mark.parametrize("unbiased", [True, False])
def test_what_does_not_vary_has_no_cka(measure, unbiased):
    """Whatever rounding leaves of it; what varies little has one."""
    for value, n, width in itertools.product((0, 1, 0.3, -7.123, 1e5), (4, 33, 300), (1, 7, 5000)):
        x = normal(n, 3)
        for dtype in (torch.float32, torch.float64, torch.bfloat16):
            assert np.isnan(measure(torch.full((n, width), value, dtype=dtype), x, unbiased=unbiased))
    little = 1 + 1e-2 * x
    assert measure(little, x, unbiased=unbiased) > 0.3 and linear_cka(1e3 + x.double(), x) == pytest.approx(1, abs=1e-5)


# Networks


@pytest.mark.parametrize("name", ["mlp", "cnn", "vit"])
def test_on_real_layers_it_is_the_float64_computation(name):
    model = build_model(name, "fashion_mnist", weights=None)
    other = build_model("cnn", "fashion_mnist", weights=None)
    (batch,) = batches(24, 24)
    outputs = {}
    for net, key in ((model, "a"), (other, "b")):
        for layer in choose_layers(net, batch.pixels):
            module = net.get_submodule(layer.removesuffix(":input"))
            if layer.endswith(":input"):
                hook = partial(lambda place, _, given: remember(outputs, place, _, given, given[0]), (key, layer))
                module.register_forward_pre_hook(hook)
            else:
                module.register_forward_hook(partial(remember, outputs, (key, layer)))
    table = cka_matrix(model, other, [batch])
    for row in table.itertuples():
        x, y = (outputs[place].flatten(1).double().numpy() for place in (("a", row.layer_a), ("b", row.layer_b)))
        expected = plain_cka(x, y, unbiased=True)
        assert row.cka == pytest.approx(expected, abs=1e-6)
    assert len(table) == len(choose_layers(model, batch.pixels)) * len(choose_layers(other, batch.pixels))


def test_minibatches_agree_with_the_whole_where_biased_averages_do_not():
    x, y = normal(2048, 20).float(), normal(2048, 20, seed=1).float()
    y = x[:, :20] + 0.8 * y
    whole = linear_cka(x, y)

    class Pick(nn.Module):
        def __init__(self, values):
            super().__init__()
            self.values, self.layer = values, nn.Identity()

        def forward(self, pixels):
            return self.layer(self.values[pixels[:, 0, 0, 0].long()])

    ids = torch.arange(2048)
    loader = [Batch(part.float().view(-1, 1, 1, 1), part, part) for part in ids.split(32)]
    table = cka_matrix(Pick(x), Pick(y), loader, layers_a="layer", layers_b="layer")
    assert table["cka"].item() == pytest.approx(whole, abs=0.004)
    assert table["low"].item() < table["cka"].item() < table["high"].item()
    assert table["high"].item() - table["low"].item() < 0.1
    biased = np.mean([linear_cka(x[i], y[i], unbiased=False) for i in ids.split(32)])
    assert abs(biased - whole) > 0.02


def test_layers_stand_in_the_order_in_which_they_run():
    class Crooked(nn.Module):
        def __init__(self):
            super().__init__()
            self.last, self.first, self.never = nn.Linear(8, 4), nn.Linear(12, 8), nn.Linear(1, 1)

        def forward(self, pixels):
            return self.last(self.first(pixels.flatten(1)).relu())

    model, pixels = Crooked(), torch.rand(5, 3, 2, 2)
    assert layer_names(model, pixels) == ["first", "last"]
    assert choose_layers(model, pixels, ["l*", "f*"]) == ["first", "last"]
    assert choose_layers(model, pixels, nn.Linear) == ["first", "last"]
    with pytest.raises(ValueError, match="no layer that runs matches 'never'; there are, among others, first, last"):
        choose_layers(model, pixels, ["first", "never"])
    with pytest.raises(ValueError, match="no Conv2d runs in Crooked"):
        choose_layers(model, pixels, nn.Conv2d)
    assert choose_layers(model, pixels) == ["first"]  # its parts, but for the last


def test_blocks_and_leaves_by_name():
    (batch,) = batches(4, 4)
    vit = build_model("vit", "fashion_mnist", weights=None)
    assert choose_layers(vit, batch.pixels) == ["net.patch_embed", *(f"net.blocks.{i}" for i in range(4))]
    cnn = build_model("cnn", "fashion_mnist", weights=None)
    blocks = [f"net.layer{stage}.{i}" for stage in range(1, 5) for i in range(2)]
    assert choose_layers(cnn, batch.pixels, "states") == ["net.conv1", *blocks]
    leaves = choose_layers(cnn, batch.pixels, "leaves")
    assert "net.layer1.0.bn1" in leaves and "net.layer1.0" not in leaves and leaves[-1] == "net.fc"


class InPlace(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear, self.same, self.act = nn.Linear(3 * 32 * 32, 30), nn.Identity(), nn.ReLU(inplace=True)

    def forward(self, pixels):
        return self.act(self.same(self.linear(pixels.flatten(1))))


def test_operations_in_place_spoil_nothing_and_aliases_are_looked_at_once(monkeypatch):
    calls = []
    kernel = KERNELS["linear"]
    monkeypatch.setitem(KERNELS, "linear", lambda x: calls.append(len(x)) or kernel(x))
    torch.manual_seed(0)
    model, loader = InPlace(), batches(20, 20)
    table = cka_matrix(model, model, loader, layers_a="*")
    # the identity's output is the linear layer's, the model is passed through once; the third are the inputs
    assert calls == [20, 20, 20]
    wide = table.pivot(index="layer_a", columns="layer_b", values="cka")
    assert wide.loc["linear", "same"] == pytest.approx(1, abs=1e-9)
    before = model.linear(loader[0].pixels.flatten(1)).detach()
    assert wide.loc["linear", "act"] == pytest.approx(linear_cka(before, before.relu()), abs=1e-9)
    assert wide.loc["linear", "act"] < 0.99


def test_two_halves_merge_to_the_whole():
    a, b = (build_model(name, "fashion_mnist", weights=None) for name in ("mlp", "vit"))
    loader = batches(40, 8)
    networks = {("mlp", 0): a, ("vit", 0): b}
    whole = cka_table(hsic_table(networks, loader)[0], seed=1)
    parts = [hsic_table(networks, part)[0] for part in (loader[:2], loader[2:])]
    again = cka_table(merge(parts), seed=1)
    assert whole.equals(again) and whole["n"].unique().tolist() == [40]
    two = cka_matrix(a, b, loader, seed=1)
    assert two.equals(between(whole, "mlp", "vit").reset_index(drop=True)[two.columns])
    with pytest.raises(ValueError, match="different networks, layers or settings"):
        merge([parts[0], hsic_table(networks, loader[:1], unbiased=False)[0]])


def test_what_goes_wrong_names_the_layer_and_leaves_no_hook():
    class Breaks(InPlace):
        def forward(self, pixels):
            out = super().forward(pixels)
            if len(pixels) > 2:  # not while the layers are looked for
                out = self.bad(out) if hasattr(self, "bad") else out
            return out

    model = Breaks().train()
    (batch,) = batches(8, 8)
    model.bad = nn.Linear(31, 2)
    with pytest.raises(RuntimeError):
        cka_matrix(model, model, [batch], layers_a="*")
    assert model.training and not any(module._forward_hooks for module in model.modules())
    del model.bad
    model.linear.weight.data[0, 0] = torch.nan
    with pytest.raises(ValueError, match="layer linear: activations are not finite"):
        cka_matrix(model, model, [batch], layers_a="*")
    assert not any(module._forward_hooks for module in model.modules())
    model = InPlace()
    with pytest.raises(ValueError, match="layer linear: CKA needs at least 4 examples at a time, not 3"):
        cka_matrix(model, model, batches(3, 3), layers_a="*")
    with pytest.raises(ValueError, match="another order"):
        cka_matrix(model, model, batches(8, 4), layers_a="*", loader_b=batches(8, 4)[::-1])
    with pytest.raises(ValueError, match="unknown kernel 'poly'; choose from linear, rbf, cosine"):
        cka_matrix(model, model, [batch], kernel="poly")
    with pytest.raises(ValueError, match="unknown pool 'max'"):
        cka_matrix(model, model, [batch], pool="max")


def test_the_same_images_in_another_form():
    model, loader = InPlace(), batches(16, 8)
    turned = [batch._replace(pixels=batch.pixels.flip(-1)) for batch in loader]
    found = cka_matrix(model, model, loader, layers_a="linear", loader_b=turned)["cka"].item()
    other = InPlace()
    other.linear.weight.data = model.linear.weight.data.view(30, 3, 32, 32).flip(-1).flatten(1)
    other.linear.bias.data = model.linear.bias.data
    expected = cka_matrix(model, other, loader, layers_a="linear", layers_b="linear")["cka"].item()
    assert found == pytest.approx(expected, abs=1e-4) and found < 0.99


def test_a_layer_that_stops_running_is_named():
    class Sometimes(InPlace):
        def forward(self, pixels):
            x = self.linear(pixels.flatten(1))
            return self.act(x) if len(pixels) == 2 else x

    model = Sometimes()
    with pytest.raises(ValueError, match="layer act gave no tensor in this pass"):
        cka_matrix(model, model, batches(8, 8), layers_a="*")


def test_pooling_is_of_the_pooled_activations():
    model = build_model("vit", "fashion_mnist", weights=None)
    (batch,) = batches(12, 12)
    outputs = {}
    model.net.blocks[1].register_forward_hook(partial(remember, outputs, "x"))
    options = dict(layers_a="net.blocks.1", layers_b="net.blocks.1")
    other = build_model("vit", "fashion_mnist", weights=None)
    other.net.blocks[1].register_forward_hook(partial(remember, outputs, "y"))
    for pool, reduce in (("token mean", lambda x: x.mean(1)), ("class token", lambda x: x[:, 0])):
        found = cka_matrix(model, other, [batch], pool=pool, **options)["cka"].item()
        assert found == pytest.approx(linear_cka(reduce(outputs["x"]), reduce(outputs["y"])), abs=1e-9)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("unbiased", [True, False])
def test_pieces_give_the_hsic_of_whole_kernels(kernel, unbiased):
    k, m = (KERNELS[kernel](normal(17, 5, seed=s)) for s in (0, 1))
    a, b = (Pieces.of(x) for x in (k, m))
    both = Pieces.stack([a, b])
    expected = [[hsic(x.numpy(), y.numpy(), unbiased=unbiased) for y in (k, m)] for x in (k, m)]
    np.testing.assert_allclose(both.hsic(both, unbiased=unbiased).numpy(), expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(both.own_hsic(unbiased=unbiased).numpy(), np.diag(expected), rtol=1e-9)


def test_biased_and_unbiased_side_by_side_are_each_alone():
    a, b, loader = build_model("mlp", "fashion_mnist", weights=None), InPlace(), batches(24, 8)
    options = dict(layers_b=["linear", "act"])
    both = cka_matrix(a, b, loader, unbiased="both", **options)
    for unbiased in (True, False):
        alone = cka_matrix(a, b, loader, unbiased=unbiased, **options)
        assert alone.equals(both[both["unbiased"] == unbiased].reset_index(drop=True))
    assert both["model_a"].unique().tolist() == ["mlp"] and both["model_b"].unique().tolist() == ["InPlace"]
    with pytest.raises(ValueError, match="unbiased must be True, False or 'both', not 'half'"):
        cka_matrix(a, b, loader, unbiased="half")


def test_the_states_of_the_mlp_are_what_its_blocks_leave_behind():
    model = build_model("mlp", "fashion_mnist", weights=None)
    (batch,) = batches(6, 6)
    names = choose_layers(model, batch.pixels)
    assert names == [*(f"net.layernorms.{i}:input" for i in range(len(model.net.blocks))), "net.linear_out:input"]
    seen = {}
    for name, module in model.named_modules():
        module.register_forward_hook(partial(remember, seen, name))
    state = cka_matrix(model, model, [batch], layers_a="net.layernorms.1:input", layers_b="net.linear_in")
    x = seen["net.linear_in"]
    assert state["cka"].item() == pytest.approx(linear_cka(x + seen["net.blocks.0"], x), abs=1e-6)
    assert not any(name.endswith(":input") for name in choose_layers(model, batch.pixels, "*"))


def test_a_layer_that_runs_twice_counts_when_it_first_runs():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(12, 12)

        def forward(self, pixels):
            return self.linear(self.linear(pixels.flatten(1)).relu())

    torch.manual_seed(0)
    model, (batch,) = Twice(), batches(10, 10, side=2)
    first = model.linear(batch.pixels.flatten(1)).detach()
    other = nn.Sequential(nn.Flatten(), nn.Linear(12, 5))
    found = cka_matrix(model, other, [batch], layers_a="linear", layers_b="1")["cka"].item()
    assert found == pytest.approx(linear_cka(first, other(batch.pixels).detach()), abs=1e-9)
