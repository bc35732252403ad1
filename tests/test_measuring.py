"""What all measuring functions share: the networks and images that they take, the outputs they refuse, their bars."""

from dataclasses import replace
from functools import cache, partial

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from src import attacks, cka, efficiency, feature_vis, texture_shape
from src.data import load_images
from src.data.loaders import make_loader
from src.data.pixels import to_pixels
from src.models import build_model
from src.models.access import forward
from src.models.checks import check_classifiers
from src.models.predict import predict, predict_zoo
from src.texture_shape.predictions import predict_all, predict_corrupted

N, SIZE = 24, 12  # images, two or three of each class, and how many come at a time
FEW = dict(steps=2, n_targets=2, queries=3, batch_size=16)
CONDITIONS = {"grayscale": (1,), "occlusion_black": (0.25,)}
# name -> (model, images, progress) -> table
ONE = {
    "predict": predict,
    "attack_curve": partial(attacks.attack_curve, attack="pgd", eps_grid=(0, 2 / 255), steps=2),
    "attack_curve of fgsm": partial(attacks.attack_curve, attack="fgsm", eps_grid=(0, 2 / 255)),
    "worst_case": partial(attacks.worst_case, eps=2 / 255, **FEW),
    "audit_predictions": partial(attacks.audit_predictions, queries=3),
    "masking_report": partial(attacks.masking_report, queries=3),
}
# name -> (networks, images, progress) -> table
SEVERAL = {
    "predict_zoo": predict_zoo,
    "measure_curves": partial(attacks.measure_curves, pgd_steps=1, batch_size=16),
    "measure_worst_cases": partial(attacks.measure_worst_cases, eps_255=[2, 8], **FEW),
    "transfer_predictions": partial(attacks.transfer_predictions, eps=4 / 255, steps=2),
    "measure_transfer": partial(attacks.measure_transfer, eps=4 / 255),
    "measure_audits": partial(attacks.measure_audits, queries=3),
    "predict_all": partial(predict_all, condition="clean", level=0),
    "predict_manipulated": partial(texture_shape.predict_manipulated, conditions=CONDITIONS),
    "hsic_table": lambda *given, **more: pd.concat(cka.hsic_table(*given, n_permutations=2, **more)),
    "measure_table": partial(cka.measure_table, measures=["CKA", "Procrustes"]),
}


@cache
def images_and_ids(n: int):
    return replace(load_images("fashion_mnist", "test").subset(n, seed=0), sample_ids=np.arange(n))


def record_classes(zoo, images, **more):
    options = dict(methods=["fourier", "from image"], n_seeds=2, steps=2)
    return feature_vis.record_classes(zoo, images, natural(), **options, **more)[0].drop(columns="dataset")


def record_inversions(zoo, images, **more):
    options = dict(n_stages=1, steps=2)
    return feature_vis.record_inversions(zoo, images, images_and_ids(60), natural(), **options, **more)[0].drop(
        columns="dataset"
    )


@cache
def natural():
    return feature_vis.image_statistics(to_pixels(images_and_ids(N).images))


def cka_matrix(zoo, images, **more):
    return cka.cka_matrix(*zoo.values(), images, n_resamples=2, **more)


SEVERAL |= dict(record_classes=record_classes, record_inversions=record_inversions)
MEASURES = {name: lambda zoo, *given, of=of, **more: of(zoo["mlp"], *given, **more) for name, of in ONE.items()}
MEASURES |= SEVERAL | dict(cka_matrix=cka_matrix)


@pytest.fixture(scope="module")
def images():
    return images_and_ids(N)


@pytest.fixture(scope="module")
def mlp():
    return build_model("mlp", "fashion_mnist").eval()


def same(one: pd.DataFrame, other: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(one, other, check_exact=True)


@pytest.mark.parametrize("name", MEASURES)
def test_a_table_is_the_same_from_a_loader_a_dataloader_tensors_and_arrays(name, images, mlp):
    zoo = {"mlp": mlp} | ({"twin": mlp} if name == "cka_matrix" else {})
    measure = partial(MEASURES[name], zoo, progress=False)
    pixels, labels = to_pixels(images.images), torch.from_numpy(images.labels)
    batches = list(zip(pixels.split(SIZE), labels.split(SIZE), strict=True))
    expected = measure(make_loader(images, batch_size=SIZE))
    assert len(expected) > 2
    dataset = TensorDataset(pixels, labels)
    same(measure(DataLoader(dataset, batch_size=SIZE)), expected)
    same(measure([(x.numpy(), y.numpy()) for x, y in batches]), expected)
    same(measure(batch for batch in batches), expected)  # a generator, however often it is needed
    whole = measure(make_loader(images, batch_size=N))
    same(measure((pixels, labels)), whole)
    same(measure((pixels.double().numpy(), images.labels.tolist())), whole)
    same(measure((pixels, labels.int(), torch.arange(N))), whole)
    same(measure(images), whole)


@pytest.mark.parametrize("name", SEVERAL)
def test_networks_go_by_name_or_by_name_and_seed(name, images, mlp):
    measure = SEVERAL[name]
    by_name = measure({"m1": mlp, "m2": mlp}, images, progress=False)
    same(by_name, measure({("m1", 0): mlp, ("m2", 0): mlp}, images, progress=False))
    if "model" in by_name:
        assert {"m1", "m2"} <= set(by_name["model"])
    for wrong, message in (
        ({}, "not as dict without any"),
        (mlp, "not as PixelModel"),
        ([mlp], "not as list"),
        ({"m1": "cnn"}, "'m1' is str, not a module"),
        ({("m1", "0"): mlp}, r"not under the key \('m1', '0'\)"),
        ({3: mlp}, "not under the key 3"),
        ({"m1": mlp, ("m1", 0): mlp}, "'m1' with the seed 0 is there twice"),
    ):
        with pytest.raises(ValueError, match=f"networks are given as .*{message}"):
            measure(wrong, images, progress=False)


def test_what_takes_builders_takes_modules_and_seeds_too(mlp):
    pixels = torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    options = dict(n_repeats=2, n_warmup=1, progress=False)
    models = {"a": mlp, ("b", 3): lambda: mlp}
    for table in (
        efficiency.time_inference(models, pixels, **options),
        efficiency.throughput(models, pixels, batch_sizes=(1, 8), gain=-1, **options),
        efficiency.costs({"a": mlp, ("b", 3): mlp}, pixels, progress=False),
    ):
        assert table.groupby("model", sort=False)["model_seed"].unique().explode().to_dict() == {"a": 0, "b": 3}


class Gives(nn.Module):
    """The logits of a network, changed."""

    def __init__(self, inner: nn.Module, change):
        super().__init__()
        self.inner, self.change = inner, change

    def forward(self, pixels):
        return self.change(self.inner(pixels))


def padded(k: int):
    return lambda logits: torch.cat([logits, logits.new_full((len(logits), k - logits.shape[1]), -9.0)], 1)


WRONG = {
    "tuple": (lambda logits: (logits, logits), "Gives gives tuple, not a tensor of logits"),
    "dict": (lambda logits: {"logits": logits}, "Gives gives dict, not a tensor of logits"),
    "None": (lambda logits: None, "Gives gives NoneType, not a tensor of logits"),
    "one for all": (
        lambda logits: logits[:, 0],
        r"Gives gives \(\d+,\) for \d+ images, expected logits \(\d+, classes\)",
    ),
    "maps": (lambda logits: logits[:, :, None], r"Gives gives \(\d+, 10, 1\) for \d+ images"),
    "float16": (lambda logits: logits.half(), r"logits of torch.float16, too coarse .*; take model.float\(\)"),
    "bfloat16": (lambda logits: logits.bfloat16(), "logits of torch.bfloat16, too coarse"),
    "whole numbers": (lambda logits: logits.long(), "logits of torch.int64, too coarse"),
    "NaN": (lambda logits: logits * float("nan"), "not finite, first for sample_id [0-9]+"),
    "infinite": (lambda logits: logits / 0, "not finite, first for sample_id [0-9]+"),
    "11": (padded(11), "the model gives 11 logits, and the images have 10 classes; build it with as many"),
    "1,000": (padded(1000), "the model gives 1000 logits, and the images have 10 classes"),
    "5": (lambda logits: logits[:, :5], "the model gives 5 logits, and the images have 10 classes"),
}


@pytest.mark.parametrize("given", WRONG)
@pytest.mark.parametrize("name", [*(n for n in MEASURES if n not in ("hsic_table", "measure_table", "cka_matrix"))])
def test_what_is_no_logits_of_the_classes_is_refused_at_once(name, given, images, mlp):
    change, message = WRONG[given]
    wrong = Gives(mlp, change)
    with pytest.raises(ValueError, match=message):
        MEASURES[name]({"mlp": wrong, "twin": wrong}, images, progress=False)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_weights_of_another_precision_are_refused_with_the_way_out(dtype, images):
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32**2, 10)).to(dtype)
    with pytest.raises(ValueError, match=f"has weights of {dtype} and cannot take pixels of torch.float32; take model"):
        predict(net, make_loader(images, batch_size=N), progress=False)
    forward(net.float(), torch.zeros(2, 3, 32, 32))  # and a fault of its own stays what it is
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        forward(net, torch.zeros(2, 3, 5, 5))


def test_layers_are_compared_whatever_the_output_is(images, mlp):
    zoo = {"mlp": mlp, "backbone": Gives(mlp, lambda logits: {"logits": logits.half()})}
    table = cka.measure_table(zoo, images, measures=["CKA"], progress=False)
    twins = table.query("model_a == 'mlp' and model_b == 'backbone' and index_a == index_b")
    assert len(twins) > 3 and twins["value"].to_numpy() == pytest.approx(1)


def test_a_classifier_of_as_many_classes_passes(images, mlp):
    (batch,) = make_loader(images, batch_size=N)
    check_classifiers({"mlp": mlp}, *batch, 10)
    check_classifiers({"mlp": Gives(mlp, padded(11))}, *batch, None)  # how many classes there are is not known
    with pytest.raises(ValueError, match="gives 11 logits"):
        check_classifiers({"mlp": Gives(mlp, padded(11))}, *batch, 10)


class Recorded:
    """A progress bar that is not drawn."""

    made: list["Recorded"] = []

    def __init__(self, *, desc, total, disable, leave, unit):
        self.total, self.n, self.disable, self.desc = total, 0, disable, desc
        Recorded.made.append(self)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def update(self, n=1):
        assert n >= 0
        self.n += n


@pytest.fixture
def bars(monkeypatch):
    monkeypatch.setattr("src.data.inputs.tqdm", Recorded)
    monkeypatch.setattr(Recorded, "made", [])
    return Recorded.made


def pairs_of(images):
    return texture_shape.choose_pairs(images.labels, images.sample_ids, 10, seed=0)


def pictures(mlp, **more):
    return feature_vis.maximise_activation(mlp, [0, 1], size=(32, 32), steps=30, stop_at=1e-6, **more)


TIMED = dict(n_repeats=2, n_warmup=1)
# name -> (model, images, progress); each shows one bar
MORE = {
    "predict_conflicts": lambda mlp, images, **more: texture_shape.predict_conflicts(
        {"mlp": mlp}, images, pairs_of(images), painted={"a": images.images[:10]}, style_pairs=pairs_of(images), **more
    ),
    "slow_images": lambda mlp, images, folder, **more: texture_shape.stylised(
        images, pairs_of(images), cnn(), folder=folder, steps=1, **more
    ),
    "maximise_activation": lambda mlp, images, **more: pictures(mlp, **more),
    "invert_features": lambda mlp, images, **more: feature_vis.invert_features(
        mlp, "logits", to_pixels(images.images[:2]), steps=5, **more
    ),
    "interleaved": lambda mlp, images, **more: efficiency.interleaved({"a": int, "b": int}, **TIMED, **more),
    "time_inference": lambda mlp, images, **more: efficiency.time_inference(
        {"a": mlp}, torch.zeros(1, 3, 32, 32), threads=(1, 2), variants=("eager", "contiguous"), **TIMED, **more
    ),
    "throughput": lambda mlp, images, **more: efficiency.throughput(
        {"a": mlp, "b": mlp}, torch.zeros(8, 3, 32, 32), batch_sizes=(1, 2, 4, 8), gain=1e9, **TIMED, **more
    ),
    "time_all": lambda mlp, images, **more: efficiency.time_all(
        {"a": mlp}, torch.zeros(16, 3, 32, 32), others={"b": mlp}, variants=("eager",), threads=(1,),
        batch_sizes=(1, 16), seed=0, **TIMED, **more,
    ),
    "costs": lambda mlp, images, **more: efficiency.costs(
        {"a": mlp, "b": mlp}, torch.zeros(8, 3, 32, 32), **more
    ),
}  # fmt: skip


def cnn():
    return build_model("cnn", "fashion_mnist")


@pytest.mark.parametrize("name", [*MEASURES, *MORE])
def test_one_bar_tells_how_much_there_is_and_reaches_it(name, images, mlp, bars, tmp_path):
    first, second = [dict(folder=tmp_path / at) if name == "slow_images" else {} for at in ("a", "b")]
    if name in MORE:
        MORE[name](mlp, images, **first)
    else:
        MEASURES[name]({"mlp": mlp, "twin": mlp}, make_loader(images, batch_size=SIZE))
    (bar,) = bars
    assert not bar.disable and bar.total and bar.n == bar.total, (bar.n, bar.total)
    if name in MORE:
        MORE[name](mlp, images, **second, progress=False)
    else:
        MEASURES[name]({"mlp": mlp, "twin": mlp}, make_loader(images, batch_size=SIZE), progress=False)
    assert len(bars) == 2 and bars[1].disable


def test_a_bar_counts_images_of_any_batches(images, mlp, bars):
    pixels, labels = to_pixels(images.images), torch.from_numpy(images.labels)
    dataset = TensorDataset(pixels, labels)
    in_two = [(pixels[:6], labels[:6]), (pixels[6:], labels[6:])]
    for given, n, total in (
        ((pixels, labels), 24, 24),
        (in_two, 24, 24),
        (DataLoader(dataset, batch_size=7), 24, 24),
        (DataLoader(dataset, batch_size=7, drop_last=True), 21, 21),
        (iter(in_two), 24, None),  # nobody knows before they have come
    ):
        predict(mlp, given)
        assert (bars[-1].n, bars[-1].total) == (n, total)
    n_before = len(bars)
    texture_shape.predict_images({"mlp": mlp}, images, {"others": images}, images.take(np.arange(2)))
    assert len(bars) > n_before + 1 and all(bar.n == bar.total for bar in bars[n_before:])


@pytest.mark.skipif(not texture_shape.corruptions.available(), reason="imagecorruptions-imaug is not installed")
def test_corruptions_show_one_bar(images, mlp, bars):
    predict_corrupted({"mlp": mlp}, images.take(np.arange(1)))
    (bar,) = bars
    assert bar.n == bar.total == 19 * 5
