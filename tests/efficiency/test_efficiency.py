"""Sizes and operations against closed forms, torchinfo and the profiler; timings against sleeps that are planted."""

import time
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import pyplot as plt
from torch import nn
from torch.profiler import ProfilerActivity, profile

from src import efficiency, plotting, tables
from src.data import load_images
from src.data.loaders import make_loader
from src.efficiency import (
    VARIANTS,
    activation_memory,
    costs,
    count_macs,
    interleaved,
    model_size,
    prepare,
    throughput,
    time_all,
    time_blocks,
    time_cold_start,
    time_in_processes,
    time_inference,
    time_loading,
)
from src.efficiency.size import card_accuracy, torchinfo_sizes
from src.models import build_model
from src.models.build import SIZES, Task
from src.models.weights import read_card, save_weights, weights_path
from src.names import ModelName
from src.results import load_table


class Slow(nn.Module):
    """Sleeps and gives the pixels' means."""

    def __init__(self, seconds: float):
        super().__init__()
        self.seconds, self.calls, self.shapes = seconds, 0, set()

    def forward(self, pixels):
        self.calls += 1
        self.shapes.add(tuple(pixels.shape))
        time.sleep(self.seconds)
        return pixels.mean((2, 3))


def images(n: int = 4, side: int = 32) -> torch.Tensor:
    return torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(0))


# Operations


def vit_macs(*, dim: int, depth: int, tokens: int, n_classes: int, patch: int = 4) -> int:
    """By hand: patches, q k v and output, scores and their use, two layers of 4 × dim, the classifier."""
    block = tokens * 4 * dim**2 + 2 * tokens**2 * dim + tokens * 8 * dim**2
    return tokens * 3 * patch**2 * dim + depth * block + dim * n_classes


@pytest.mark.parametrize("fused", [True, False])
def test_attention_is_counted(fused):
    model = build_model("vit", "cifar10", weights=None)
    for block in model.net.blocks:
        block.attn.fused_attn = fused
    shape = SIZES["vit"]["base"]
    expected = vit_macs(dim=shape["embed_dim"], depth=shape["depth"], tokens=64, n_classes=10)
    assert count_macs(model, images()) == pytest.approx(expected, rel=1e-3)
    without = expected - shape["depth"] * 2 * 64**2 * shape["embed_dim"]
    assert without < 0.98 * expected  # leaving attention out would be seen


def test_vit_s_16_at_32_pixels_is_as_published():
    model = build_model("timm:vit_small_patch16_224", "cifar10", weights=None)
    model.input_side = 224
    expected = vit_macs(dim=384, depth=12, tokens=197, n_classes=10, patch=16)
    expected -= 3 * 16**2 * 384  # the class token comes from no patch
    assert count_macs(model, images(1)) == pytest.approx(expected, rel=1e-3)


def test_convolutions_and_linear_layers_by_hand():
    model = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 16 * 16, 5))
    by_hand = 16 * 16 * 8 * 3 * 9 + 8 * 16 * 16 * 5
    assert count_macs(model, images(1)) == count_macs(model, images(7)) == by_hand
    biases = 8 * 16 * 16 + 5  # are in torchinfo's number
    assert torchinfo_sizes(model, images(1))["torchinfo_mult_adds"] == by_hand + biases


# Sizes


def test_parameters_are_torchinfos_and_shared_ones_count_once():
    model = build_model("cnn", "fashion_mnist", weights=None)
    size = model_size(model)
    assert size["n_parameters"] == sum(value.numel() for value in model.parameters())
    buffers = sum(value.numel() * value.element_size() for value in model.buffers())
    assert size["bytes"] == 4 * size["n_parameters"] + buffers
    layer = nn.Linear(4, 4, bias=False)
    assert model_size(nn.Sequential(layer, layer)) == {"n_parameters": 16, "n_buffers": 0, "bytes": 64}
    assert model_size(nn.Linear(4, 4, bias=False).half())["bytes"] == 32


def test_torchinfo_misses_what_its_docstring_says():
    model = build_model("vit", "cifar10", weights=None)
    ours, theirs = model_size(model), torchinfo_sizes(model, images(2))
    assert theirs["torchinfo_params_bytes"] == 4 * (ours["n_parameters"] - model.net.pos_embed.numel())
    assert theirs["torchinfo_mult_adds"] < count_macs(model, images(2)) / 20


# Memory


def test_activations_of_a_chain_by_hand():
    """1000 → 400 → 400 → 10: in inference the largest pair of neighbours, in training all that backward needs."""
    chain = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 400), nn.ReLU(), nn.Linear(400, 10))
    found = activation_memory(chain, images(8))
    assert found["inference_bytes"] == 4 * (400 + 400)
    assert found["training_bytes"] == 4 * (400 + 10)  # ReLU keeps its result, which the last layer needs too
    in_place = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 400), nn.ReLU(inplace=True), nn.Linear(400, 10))
    assert activation_memory(in_place, images(8))["inference_bytes"] == 4 * (400 + 10)


@pytest.mark.parametrize("name", ["mlp", "cnn", "vit"])
def test_activations_are_what_the_profiler_sees(name):
    model, pixels = build_model(name, "fashion_mnist", weights=None), images(8)

    def forward():
        with torch.inference_mode():
            model(pixels)

    forward()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        forward()
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    events.sort(key=lambda event: event.start_ns())
    peak = np.cumsum([event.nbytes() for event in events]).max()
    found = 8 * activation_memory(model, pixels)["inference_bytes"]
    assert 0.85 * peak <= found <= 1.001 * peak  # an operator's own buffers are in the profiler's number alone


def test_what_training_keeps_is_what_autograd_saves():
    model, pixels, saved = build_model("vit", "fashion_mnist", weights=None).train(), images(8), {}
    own = {value.untyped_storage().data_ptr() for value in [*model.parameters(), *model.buffers(), pixels]}

    def pack(tensor):
        saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        logits = model(pixels)
    kept = sum(size for place, size in saved.items() if place not in own) + 4 * logits.numel()
    assert 8 * activation_memory(model, pixels)["training_bytes"] == pytest.approx(kept, rel=0.01)


def test_attention_of_torch_s_own_layers_is_counted():
    """Two products of 64 tokens' queries, keys and values, which torch's fused path hides from its counter."""

    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

        def forward(self, pixels):
            return self.layer(pixels.flatten(2)[:, :1].mT.expand(-1, -1, 8)).mean(1)

    tokens, width, hidden = 64, 8, 16
    expected = tokens * (4 * width**2 + 2 * width * hidden) + 2 * tokens**2 * width
    assert efficiency.count_macs(Encoder(), torch.rand(2, 3, 8, 8)) == expected
    assert torch.backends.mha.get_fastpath_enabled()


def test_the_model_comes_back_as_it_was():
    model = build_model("cnn", "fashion_mnist", weights=None)
    model.net.layer1.train()
    next(model.parameters()).requires_grad_(False)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    flags = [value.requires_grad for value in model.parameters()]
    costs({"cnn": model}, images())
    time_blocks(model, images(), n_repeats=2, n_warmup=1)
    with pytest.raises(ValueError, match="Flatten has no parts to time"):
        time_blocks(nn.Flatten(), images())
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert modes == [module.training for module in model.modules()]
    assert flags == [value.requires_grad for value in model.parameters()]
    assert all(value.grad is None for value in model.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


# Accuracies


@pytest.mark.parametrize("dataset", ["fashion_mnist", "fashion_mnist_full"])
def test_accuracy_is_the_cards_and_both_fashion_mnists_have_one(dataset):
    """fashion_mnist_full is measured with the weights of fashion_mnist, and had no card of its own name."""
    card = read_card(weights_path("cnn", "cnn", "fashion_mnist"))["test"]
    expected = dict(accuracy=card["accuracy"], low=card["interval"][0], high=card["interval"][1])
    assert card_accuracy(build_model("cnn", dataset)) == expected


@pytest.mark.parametrize("name", ["resnet18", "timm:resnet18", "timm:mobilenetv3_small_100"])
def test_a_network_without_a_card_has_no_accuracy(name):
    model = build_model(f"{name}@untrained", "cifar10")
    assert np.isnan([*card_accuracy(model).values()]).all()


def test_costs_give_an_untrained_network_no_accuracy():
    zoo = {"mlp": build_model("mlp", "fashion_mnist"), "cnn": build_model("cnn", "fashion_mnist", weights=None)}
    table = costs(zoo, images(8)).set_index("model")
    assert table.loc["mlp", "accuracy"] > 0.85 and table.loc["cnn", ["accuracy", "low", "high"]].isna().all()
    assert table.loc["mlp", "macs"] == count_macs(zoo["mlp"], images(8))
    assert table.loc["mlp", "n_parameters"] == model_size(zoo["mlp"])["n_parameters"]


# Time


def test_a_planted_sleep_is_seen_and_every_repeat_kept():
    slow, quick = Slow(0.02), Slow(0.005)
    table = time_inference({"slow": lambda: slow, "quick": lambda: quick}, images(), n_repeats=6, n_warmup=3)
    assert table.groupby("model").size().to_dict() == {"slow": 6, "quick": 6}
    assert slow.calls == quick.calls == 9  # warm-up is run, and not in the table
    medians = table.groupby("model")["ms"].median()
    assert 20 <= medians["slow"] < 35 and 5 <= medians["quick"] < 15
    assert set(table.columns) >= {"model", "condition", "threads", "batch_size", "repeat", "position", "ms"}
    (pair,) = tables.efficiency.time_ratios(table).itertuples()
    assert (pair.slower, pair.faster, pair.separated) == ("slow", "quick", True) and 2 < pair.ratio < 5


def test_loading_is_never_in_a_models_time():
    """A loader that takes its time is read before; what is timed alone is the model."""

    class SlowLoader:
        def __iter__(self):
            for _ in range(3):
                time.sleep(0.03)
                yield images(), None, None

    loading = time_loading(SlowLoader())
    assert len(loading) == 3 and (loading["ms"] >= 30).all() and (loading["n"] == 4).all()
    pixels, *_ = next(iter(SlowLoader()))
    quick = Slow(0)
    assert time_inference({"quick": lambda: quick}, pixels, n_repeats=5)["ms"].median() < 10


def test_turns_are_in_random_order_and_seeded():
    calls = []
    contenders = {name: (lambda name=name: calls.append(name)) for name in "abc"}
    table = interleaved(contenders, n_repeats=40, n_warmup=1, seed=3)
    order = table["name"].tolist()
    assert calls == ["a", "b", "c", *order]
    for _, part in table.groupby("repeat"):
        assert sorted(part["name"]) == ["a", "b", "c"] and part["position"].tolist() == [0, 1, 2]
    firsts = table[table["position"] == 0]["name"].value_counts()
    assert firsts.min() >= 5
    again = interleaved(contenders, n_repeats=40, n_warmup=1, seed=3)["name"].tolist()
    assert order == again != interleaved(contenders, n_repeats=40, n_warmup=1, seed=4)["name"].tolist()


def test_repeats_end_for_all_once_the_seconds_of_one_are_spent(monkeypatch):
    monkeypatch.setattr("src.efficiency.timing._milliseconds", lambda call, device: call())
    contenders = {"slow": lambda: 30.0, "quick": lambda: 0.1}
    for seconds, n_repeats in ((0.05, 3), (0.25, 9), (np.inf, 20)):
        table = interleaved(contenders, n_repeats=20, n_warmup=1, seconds=seconds)
        assert table["name"].value_counts().to_dict() == {"quick": n_repeats, "slow": n_repeats}
        assert table["repeat"].tolist() == sorted([*range(n_repeats)] * 2)  # ratios need both in every repeat
    few = interleaved(contenders, n_repeats=2, n_warmup=1, seconds=0)
    assert len(few) == 4


def test_any_names_come_back_as_they_are():
    """Names were once joined by line breaks, and parted there again."""
    names = ["two\nlines", "plain"]
    table = time_inference({name: nn.Identity for name in names}, images(), n_repeats=2, n_warmup=1)
    assert set(table["model"]) == set(names) and set(table["condition"]) == {"eager"}
    keys = [("a", 1), ("a", 2)]
    assert set(interleaved(dict.fromkeys(keys, int), n_repeats=2)["name"]) == set(keys)


def test_all_sweeps_stand_in_one_table_which_gives_the_overview():
    options = dict(
        variants=["eager", "contiguous"], threads=[1, 2], batch_sizes=[1, 4], n_repeats=6, n_warmup=1, seed=0
    )
    own, others = {"slow": lambda: Slow(0.004)}, {"quick": lambda: Slow(0.001)}
    table = time_all(own, images(), others=others, **options)
    sizes = table.groupby(["sweep", "model", "batch_size"]).size().to_dict()
    assert sizes == {
        ("latency", "slow", 1): 12, ("latency", "quick", 1): 12, ("variants", "slow", 4): 12,
        ("alone", "slow", 1): 12, ("alone", "quick", 1): 12,
        ("batches", "slow", 1): 3, ("batches", "slow", 4): 3, ("batches", "quick", 1): 3, ("batches", "quick", 4): 3,
    }  # fmt: skip
    single = tables.efficiency.one_image(table)
    assert set(single["threads"]) == {2} and set(single["sweep"]) == {"latency"}
    paper = pd.DataFrame(dict(model=["slow", "quick"], accuracy=[0.9, np.nan], low=0.8, high=1.0))
    paper = paper.assign(macs=[2e6, 1e6], n_parameters=[3e6, 1e6], inference_bytes=2**21)
    overview = tables.efficiency.overview(paper, table)
    assert overview["model"].tolist() == ["slow", "quick"] and overview["macs"].tolist() == [2, 1]
    assert overview["p50"].tolist() == [single.query("model == @name")["ms"].median() for name in ("slow", "quick")]
    assert overview["activations"].tolist() == [2, 2]


def test_threads_are_swept_and_put_back():
    before, seen = torch.get_num_threads(), []

    class Thread(nn.Module):
        def forward(self, pixels):
            seen.append(torch.get_num_threads())
            return pixels

    table = time_inference({"a": Thread}, images(), threads=(1, 2), n_repeats=2, n_warmup=1)
    assert seen == [1] * 3 + [2] * 3 and torch.get_num_threads() == before
    assert table["threads"].tolist() == [1, 1, 2, 2]


def test_throughput_stops_where_larger_batches_bring_nothing():
    class PerImage(Slow):
        """A fixed cost and one for each image: gains fall as batches grow."""

        def forward(self, pixels):
            self.seconds = 0.004 + 0.001 * len(pixels)
            return super().forward(pixels)

    model, flat = PerImage(0), Slow(0.002)
    builders = {"per image": lambda: model, "flat": lambda: flat}
    table = throughput(builders, images(64, side=4), batch_sizes=(1, 4, 16, 32, 64), gain=0.2, n_repeats=5, n_warmup=1)
    sizes = table.groupby("model")["batch_size"].unique().map(sorted).to_dict()
    assert sizes == {"per image": [1, 4, 16, 32], "flat": [1, 4, 16, 32, 64]}  # 32 gained less than a fifth over 16
    rates = table.groupby(["model", "batch_size"])["images_per_s"].median()
    assert rates["flat", 64] == pytest.approx(64 / 0.002, rel=0.5)
    slow = dict(slow=lambda: PerImage(0)), images(64, side=4)
    table = throughput(*slow, batch_sizes=(1, 4, 64), gain=-1, longest=0.05, n_repeats=5, n_warmup=1)
    assert table["batch_size"].unique().tolist() == [1, 4]  # 4 took 8 ms, 64 would take 128 at that pace
    with pytest.raises(ValueError, match="batch of 128 was asked for, and only 64"):
        throughput(builders, images(64, side=4), batch_sizes=(128,), n_repeats=2)


def test_the_slow_block_is_found():
    net = nn.Sequential()
    net.stem = nn.Conv2d(3, 3, 1)
    net.blocks = nn.ModuleList([nn.Identity(), Slow(0.01)])
    net.forward = lambda pixels: net.blocks[1](net.stem(pixels))
    table = time_blocks(SimpleNamespaceModel(net), images(), n_repeats=3, n_warmup=1)
    assert table["block"].tolist() == ["stem", "blocks.1"] * 3
    medians = table.groupby("block")["ms"].median()
    assert medians["blocks.1"] >= 10 > 5 > medians["stem"]


class SimpleNamespaceModel(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, pixels):
        return self.net(pixels)


@pytest.mark.parametrize("variant", [name for name in VARIANTS if name != "compile"])
def test_variants_compute_the_same(variant):
    model, pixels = build_model("cnn", "fashion_mnist", weights=None), images()
    with torch.inference_mode():
        expected = model(pixels)
        found = prepare(build_model("cnn", "fashion_mnist", weights=None), pixels, variant)
        assert found().shape == expected.shape
        close = dict(atol=0.1, rtol=0.1) if variant == "bfloat16" else dict(atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(prepare(model, pixels, variant)().float(), expected, **close)


def test_a_cold_start_takes_longer_than_what_follows():
    times = time_cold_start("mlp", "fashion_mnist")
    assert times["build_ms"] + times["first_ms"] > times["third_ms"] > 0  # each alone hangs on what else runs
    with pytest.raises(RuntimeError, match="cold start of mpl failed.*unknown model 'mpl'"):
        time_cold_start("mpl", "fashion_mnist")


OWN = "from torch import nn\n\n\ndef build(n, s):\n    return nn.Sequential(nn.Flatten(), nn.Linear(3 * s * s, n))\n"


def test_a_fresh_process_starts_every_kind_of_network_on_any_task(tmp_path, monkeypatch):
    """Files are named from the working directory, which is not the repository's."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(OWN)
    task = Task("pictures", 5, 16)
    own = build_model("mine.py:build@untrained", task)
    save_weights(own.net, tmp_path / "weights" / "mixer_pictures.safetensors", {})
    for name in ("mixer=mine.py:build", ModelName("cnn", "cnn", "untrained"), "timm:test_resnet@untrained"):
        times = time_cold_start(name, task, folder="weights")
        assert times.keys() == {"build_ms", "first_ms", "third_ms"} and min(times.values()) > 0
    with pytest.raises(RuntimeError, match="cold start of mixer failed.*no weights mixer_others.safetensors"):
        time_cold_start("mixer=mine.py:build", Task("others", 5, 16), folder="weights")


def test_energy_is_the_counters_difference(monkeypatch):
    """On a stand-in for NVML that counts 50 mJ a call; without a GPU there is nothing to read."""
    assert efficiency.energy_per_image(lambda: None, n_images=1, device=torch.device("cpu")) is None
    joules = [0]
    fake = SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlShutdown=lambda: None,
        nvmlDeviceGetHandleByUUID=lambda uuid: uuid,
        nvmlDeviceGetTotalEnergyConsumption=lambda _: joules[0],
        NVMLError_NotSupported=KeyError,
    )
    monkeypatch.setitem(__import__("sys").modules, "pynvml", fake)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(uuid="0"))
    monkeypatch.setattr("src.efficiency.resources.synchronise", lambda _: None)

    def call():
        joules[0] += 50
        time.sleep(0.002)

    device = torch.device("cuda")
    found = efficiency.energy_per_image(call, n_images=10, device=device, seconds=0.05)
    assert found == pytest.approx(0.005)


def test_wrong_input_is_refused():
    with pytest.raises(ValueError, match="at least 2 repeats and 1 warm-up, not 1 and 10"):
        interleaved({"a": lambda: None}, n_repeats=1)
    with pytest.raises(ValueError, match="unknown variant 'fast'; choose from eager"):
        prepare(nn.Identity(), images(), "fast")


def test_loading_of_the_embedded_images_is_timed():
    loader = make_loader(load_images("fashion_mnist", "test").subset(100, seed=0), batch_size=40)
    assert time_loading(loader)["n"].tolist() == [40, 40, 20]


# What tables say


def timings(**medians: float) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    drift = 1 + 0.3 * np.sin(np.arange(40))
    return pd.concat(
        pd.DataFrame(dict(model=name, repeat=range(40), ms=ms * drift * rng.uniform(0.97, 1.03, 40)))
        for name, ms in medians.items()
    )


def test_ratios_hold_in_spite_of_drift():
    """Every repeat's machine is up to a third slower or faster; a fifth more time is still seen, a hundredth not."""
    pairs = tables.efficiency.time_ratios(timings(a=10, b=12, c=10.02)).set_index(["slower", "faster"])
    assert pairs.loc[("b", "a"), "ratio"] == pytest.approx(1.2, rel=0.02) and pairs.loc[("b", "a"), "separated"]
    close = pairs[[set(pair) == {"a", "c"} for pair in pairs.index]].iloc[0]
    assert not close["separated"] and close["low"] < 1 < close["high"]
    with pytest.raises(ValueError, match="a repeat twice"):
        tables.efficiency.time_ratios(pd.concat([timings(a=1), timings(a=1)]))
    with pytest.raises(ValueError, match="not every contender was timed in every repeat"):
        tables.efficiency.time_ratios(pd.concat([timings(a=1), timings(b=1).iloc[:5]]))


def in_processes(rng, *, ratio: float, between: float, n_processes: int = 5, n: int = 8) -> pd.DataFrame:
    """Contenders a and b, whose times are multiplied in each process by a number of their own."""
    parts = []
    for process in range(n_processes):
        for name, ms in (("a", 10), ("b", 10 * ratio)):
            times = ms * np.exp(rng.normal(0, between) + rng.normal(0, 0.02, n))
            parts.append(pd.DataFrame(dict(model=name, process=process, repeat=range(n), ms=times)))
    return pd.concat(parts, ignore_index=True)


def test_the_interval_covers_a_ratio_that_processes_change():
    """Nominal 95 %; repeats alone, as if of one process, know nothing of it."""
    rng, covered, repeats_alone = np.random.default_rng(0), 0, 0
    for trial in range(300):
        table = in_processes(rng, ratio=1.25, between=0.06)
        (pair,) = tables.efficiency.time_ratios(table, n_resamples=400, seed=trial).itertuples()
        low, high = (pair.low, pair.high) if pair.slower == "b" else (1 / pair.high, 1 / pair.low)
        covered += low <= 1.25 <= high
        pooled = table.assign(repeat=table["repeat"] + 100 * table["process"]).drop(columns="process")
        (pair,) = tables.efficiency.time_ratios(pooled, n_resamples=400, seed=trial).itertuples()
        repeats_alone += pair.slower == "b" and pair.low <= 1.25 <= pair.high
    assert 0.92 <= covered / 300 <= 0.985 and repeats_alone / 300 < 0.8


def test_tables_without_processes_are_of_one():
    table = timings(a=10, b=12)
    (old,) = tables.efficiency.time_ratios(table).itertuples()
    (new,) = tables.efficiency.time_ratios(table.assign(process=3)).itertuples()
    assert old == new and old.processes == 1


def test_processes_may_have_had_other_numbers_of_repeats():
    """As under a budget of seconds; of a process that had one repeat alone, no more is drawn of the others."""
    table = timings(a=10, b=12)
    few = pd.concat([table.assign(process=0), table.query("repeat < 5").assign(process=1)])
    (pair,) = tables.efficiency.time_ratios(few).itertuples()
    assert pair.processes == 2 and pair.ratio == pytest.approx(1.2, rel=0.02) and pair.low < pair.ratio < pair.high
    one = pd.concat([table.assign(process=0), table.query("repeat == 0").assign(process=1)])
    _, drawn, _ = tables.efficiency.medians_drawn(one, n_resamples=50)
    first = table.query("repeat == 0").set_index("model")["ms"]
    assert np.allclose(drawn, first[["a", "b"]].to_numpy())


def test_the_headline_is_side_by_side_and_leaves_out_what_was_not_timed():
    paper = pd.DataFrame(dict(model=["a", "b"], macs=[1e6, 5e6]))
    single = timings(a=10, b=20).assign(threads=2, batch_size=1)
    batch = timings(a=40, b=160).query("repeat < 6").assign(threads=2, batch_size=8, sweep="batches")
    batch["images_per_s"] = 8000 / batch["ms"]
    alone = single.assign(sweep="alone", ms=single["ms"] / 2)
    old = pd.concat([single.assign(sweep="latency"), batch])
    whole = tables.efficiency.headline(paper, pd.concat([old, alone])).set_index(["what", "model"])
    assert whole.loc[("MACs", "b"), "value"] == 5
    assert whole.loc[("saturation", "b"), "value"] == pytest.approx(20, rel=0.4)  # six repeats of the drift
    assert whole.loc[("turns over alone", "a"), ["value", "low", "high"]].tolist() == pytest.approx([2, 2, 2])
    assert set(tables.efficiency.headline(paper, old)["what"]) == {"MACs", "saturation", "latency"}
    for table, said in ((old, "not timed alone"), (pd.concat([old, alone]), "hollow: alone")):
        figure = plotting.efficiency.headline(paper, table.assign(dataset="somewhere", device="cpu"))
        assert said in figure.get_suptitle() and len(figure.axes) == 3
    plt.close("all")


def test_each_fresh_process_times_all_sweeps(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(OWN)
    names = {"mine": "mine.py:build@untrained"}
    options = dict(variants=["eager"], threads=[1], batch_sizes=[1, 2], n_repeats=2, n_warmup=1)
    table = time_in_processes(names, Task("pictures", 5, 16), others={}, n_processes=2, progress=False, **options)
    assert (
        table.groupby(["process", "sweep"])
        .size()
        .unstack()
        .loc[[0, 1], ["latency", "alone", "variants"]]
        .eq(2)
        .all(axis=None)
    )
    assert set(table["model"]) == {"mine"} and (table["ms"] > 0).all() and set(table["condition"]) == {"eager"}
    with pytest.raises(RuntimeError, match="timing mpl failed.*unknown model 'mpl'"):
        time_in_processes({"mpl": "mpl"}, "fashion_mnist", others={}, n_processes=1, progress=False, **options)
    with pytest.raises(ValueError, match="n_processes must be at least 1, not 0"):
        time_in_processes(names, "fashion_mnist", others={}, n_processes=0, **options)


def test_speed_ups_are_ratios_to_the_base():
    ways = timings(eager=10, quick=5, slow=12).rename(columns={"model": "condition"}).assign(model="cnn")
    table = tables.efficiency.speed_ups(ways)
    rows = table.set_index("condition")
    assert rows.loc["eager", ["speed_up", "low", "high"]].tolist() == [1, 1, 1]
    assert rows.loc["quick", "speed_up"] == pytest.approx(2, rel=0.03)
    assert rows.loc["slow", "speed_up"] == pytest.approx(10 / 12, rel=0.03)
    assert ((table["low"] <= table["speed_up"]) & (table["speed_up"] <= table["high"])).all()
    with pytest.raises(ValueError, match="no condition 'compile' of cnn among eager, quick, slow"):
        tables.efficiency.speed_ups(ways, base="compile")


def test_percentiles_are_numpys():
    table = timings(a=10, b=3)
    found = tables.efficiency.percentiles(table, by="model").set_index("model")
    for name, part in table.groupby("model"):
        ours = found.loc[name, ["p50", "p90", "p99"]].to_numpy(float)
        np.testing.assert_allclose(ours, np.percentile(part["ms"], [50, 90, 99]))
    assert found["n"].tolist() == [40, 40]


def test_the_front_by_hand():
    table = pd.DataFrame(dict(cost=[1, 2, 3, 2, 3, 1], gain=[1, 3, 3, 2, 4, 1]))
    assert tables.efficiency.pareto_front(table, cost="cost", gain="gain").tolist() == [
        True,
        True,
        False,
        False,
        True,
        True,
    ]


# Figures from stored tables


def test_figures_are_drawn_from_the_stored_tables_alone():
    names = ("costs", "timings", "blocks")
    paper, stored, parts = (load_table("results/cifar10", "06_efficiency", name) for name in names)
    pareto = plotting.efficiency.pareto(paper, stored)
    assert len(pareto.axes) == 4 and pareto.get_suptitle().startswith("CIFAR-10, ")
    latency = tables.efficiency.one_image(stored).groupby("model")["ms"].median()
    drawn = {bars.get_label(): bars.lines[0].get_xdata()[0] for bars in pareto.axes[0].containers}
    assert drawn == {"MLP": latency["mlp"], "CNN": latency["cnn"], "ViT": latency["vit"]}  # the others have no accuracy
    left, middle, right = plotting.efficiency.times(stored).axes
    assert len(left.get_yticks()) == stored["model"].nunique() > len(middle.lines) == len(right.containers) == 3
    assert len(plotting.efficiency.blocks(parts).axes) == 3
    plt.close("all")


def test_networks_without_an_accuracy_leave_an_empty_figure_and_no_error():
    paper, stored = (load_table("results/cifar10", "06_efficiency", name) for name in ("costs", "timings"))
    figure = plotting.efficiency.pareto(paper.assign(accuracy=np.nan), stored)
    assert not any(ax.containers for ax in figure.axes)
    plt.close(figure)
