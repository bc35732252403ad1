"""Every measure on the pretend GPU: it runs to its end there, and gives what the CPU gives."""

import copy
import itertools
from collections.abc import Mapping

import numpy as np
import pandas as pd
import pytest
import torch
from pretend_gpu import CUDA, pretend_gpu
from shapes import images_of, zoo_of
from torch import Tensor, nn

from src import cka, efficiency, feature_vis
from src.attacks import (
    ATTACKS,
    apgd,
    attack_curve,
    fgsm,
    measure_audits,
    measure_curves,
    measure_worst_cases,
    mi_fgsm,
    pgd,
    random_noise,
    square,
    transfer_predictions,
)
from src.data.augment import Augmentation
from src.data.beton import write_beton
from src.data.inputs import as_batches
from src.data.load import load_images
from src.data.loaders import make_loader
from src.data.pixels import to_pixels
from src.models.checks import check_images, check_logits, checked_together
from src.models.predict import predict, predict_zoo
from src.texture_shape import choose_pairs, corruptions, manipulate, predict_conflicts, predict_images, textures
from src.texture_shape.checks import levels_for
from src.texture_shape.frequency import cue_conflict
from src.texture_shape.invariance import levels_of_transformations, transform
from src.texture_shape.style_transfer import transfer_style

IMAGES = images_of("2 classes").subset(12, seed=0)
N_COMPARED = 0.95  # share of the rows that must be alike: a network may round otherwise on another machine


def zoo_on(device: str) -> dict:
    return {key: copy.deepcopy(model).to(device) for key, model in zoo_of("2 classes").items()}


def pixels_on(device: str, n: int = 6) -> tuple[Tensor, Tensor, Tensor]:
    (batch,) = make_loader(IMAGES.take(np.arange(n)), batch_size=n, device=device)
    return batch


def parts_of(result) -> list:
    """Tables as their columns, and tensors as arrays; in one list."""
    if isinstance(result, Tensor):
        return [result.detach().cpu().numpy()]
    if isinstance(result, pd.DataFrame):
        return [result[name].to_numpy() for name in result if not name.endswith("seconds")]
    if isinstance(result, Mapping):
        return [part for value in result.values() for part in parts_of(value)]
    if isinstance(result, tuple | list):
        return [part for value in result for part in parts_of(value)]
    return [np.asarray(result)]


def assert_alike(ours: list, theirs: list, *, share: float = N_COMPARED, tolerance: float = 1e-4) -> None:
    assert len(ours) == len(theirs) > 0
    for a, b in zip(ours, theirs, strict=True):
        assert a.shape == b.shape
        if np.issubdtype(a.dtype, np.floating):
            same = np.isclose(a, b, rtol=tolerance, atol=tolerance, equal_nan=True)
        else:
            same = a == b
        assert np.mean(same) >= share, (a, b)


def assert_as_on_the_cpu(measure, **options) -> None:
    """`measure` of a device on both, alike."""
    expected = parts_of(measure("cpu"))
    with pretend_gpu() as gpu:
        result = parts_of(measure("cuda"))
    assert gpu.kernels > 0
    assert_alike(result, expected, **options)


# Images


@pytest.mark.parametrize(
    "augment", [False, True, Augmentation(mixup=0.4), Augmentation(scale=(1, 1), ratio=(1, 1), pad=3, mixup=0.2)]
)
def test_loaders(augment, tmp_path, monkeypatch):
    path = tmp_path / "train.beton"
    write_beton(path, IMAGES.images, IMAGES.labels, classes=IMAGES.classes)
    monkeypatch.setattr("src.data.load.IN_MEMORY_BYTES", 0)
    on_disk = load_images(f"beton:{path}", "train")
    options = dict(batch_size=5, augment=augment, shuffle=True, seed=3)

    def measure(device: str):
        loaders = [make_loader(images, device=device, **options) for images in (IMAGES, on_disk)]
        batches = [batch for loader in loaders for batch in (*loader, *loader.batches(skip=1))]
        assert all(values.device.type == device for batch in batches for values in batch)
        return batches

    assert_as_on_the_cpu(measure)


def test_batches_of_others():
    pixels, labels = to_pixels(IMAGES.images), torch.from_numpy(IMAGES.labels)
    dataset = torch.utils.data.TensorDataset(pixels, labels)

    def measure(device: str):
        sources = (
            IMAGES,
            (pixels, labels),
            (pixels.numpy(), labels.tolist(), IMAGES.sample_ids),
            iter([(pixels, labels)]),
        )
        sources += (torch.utils.data.DataLoader(dataset, batch_size=5),)
        batches = [batch for source in sources for batch in as_batches(source, again=True, device=device)]
        assert all(values.device.type == device for batch in batches for values in batch)
        tables = [predict(model, IMAGES, progress=False) for model in zoo_on(device).values()]
        return [*batches, *tables, predict_zoo(zoo_on(device), (pixels, labels), progress=False)]

    assert_as_on_the_cpu(measure)


# Attacks

SINGLE = {
    "fgsm": fgsm,
    "noise": random_noise,
    "pgd": pgd,
    "mi_fgsm": mi_fgsm,
    "apgd": apgd,
    "apgd dlr": lambda *given, **options: apgd(*given, loss="dlr", n_targets=1, **options),
    "square": square,
}
FEW = {"square": dict(queries=5)} | dict.fromkeys(("pgd", "mi_fgsm", "apgd", "apgd dlr"), dict(steps=4))


WAYS = [
    (attack, norm, dtype)
    for attack, norm, dtype in itertools.product(SINGLE, ("Linf", "L2"), ("float32", "bfloat16"))
    if (attack, norm) != ("square", "L2") and (attack in FEW or dtype == "float32")
]


@pytest.mark.parametrize(("attack", "norm", "dtype"), WAYS)
def test_single_attacks(attack, norm, dtype):
    options = dict(eps=0.05 if norm == "Linf" else 0.8, norm=norm) | FEW.get(attack, {})
    options |= dict(dtype=dtype, batch_size=4, restarts=2) if attack in FEW and attack != "mi_fgsm" else {}

    def measure(device: str):
        pixels, labels, _ = pixels_on(device, n=8)
        made = [SINGLE[attack](model, pixels, labels, **options) for model in zoo_on(device).values()]
        assert all(x.device == pixels.device for x in made)
        return torch.stack([(x - pixels).flatten(1).norm(dim=1) for x in made]) if dtype == "bfloat16" else made

    # autocast differs between the devices: distances are then those of other points at the same radius
    assert_as_on_the_cpu(measure, **(dict(tolerance=0.1, share=0.7) if dtype == "bfloat16" else {}))


@pytest.mark.parametrize("early_stop", [True, False])
@pytest.mark.parametrize("attack", ["fgsm", "noise", *ATTACKS])
def test_curves(attack, early_stop):
    options = {"square": dict(queries=4), "pgd": dict(steps=3), "apgd": dict(steps=3)}.get(attack, {})
    options |= dict(steps=3, n_targets=1, restarts=2, k=1) if attack == "apgd-t" else {}
    options |= dict(eps_grid=(0.0, 0.02, 0.05), early_stop=early_stop, attack=attack, batch_size=5, progress=False)

    def measure(device: str):
        loader = make_loader(IMAGES, batch_size=7, device=device)
        return [attack_curve(model, loader, **options) for model in zoo_on(device).values()]

    assert_as_on_the_cpu(measure)


def test_tables_of_attacks(monkeypatch):
    monkeypatch.setattr("src.attacks.zoo.PGD_GRID", (2 / 255, 8 / 255))  # a few of the radii
    monkeypatch.setattr("src.attacks.zoo.LINF_GRID", (8 / 255,))
    monkeypatch.setattr("src.attacks.zoo.FGSM_GRID", (0.0, 1 / 255, 2 / 255, 4 / 255, 8 / 255))

    def measure(device: str):
        zoo, loader = zoo_on(device), make_loader(IMAGES.take(np.arange(8)), batch_size=8, device=device)
        return [
            measure_curves(zoo, loader, pgd_steps=1, progress=False),
            measure_worst_cases(zoo, loader, eps_255=[2, 8], steps=2, n_targets=2, queries=3, progress=False),
            transfer_predictions(zoo, loader, eps=8 / 255, steps=2, progress=False),
            measure_audits(dict([*zoo.items()][:1]), loader, queries=2, progress=False),
        ]

    assert_as_on_the_cpu(measure)


# Texture and shape


def test_manipulations():
    def measure(device: str):
        pixels, _, ids = pixels_on(device)
        changes = [(manipulate, levels_for(24)), (transform, levels_of_transformations(24))]
        made = {
            (name, level): change(name, pixels, ids, seed=1, level=level)
            for change, levels in changes
            for name, of_name in levels.items()
            for level in (of_name[0], of_name[-1])
        }
        other = pixels.flip(0)
        made |= {kind: cue_conflict(pixels, other, kind=kind) for kind in ("phase", "cutout")}
        made["hybrid"] = cue_conflict(pixels, other, kind="hybrid", cutoff=4)
        assert all(x.device == pixels.device for x in made.values())
        return made

    assert_as_on_the_cpu(measure)


def test_tables_of_texture_and_shape(monkeypatch):
    monkeypatch.setattr("src.texture_shape.predictions.CORRUPTIONS", ("brightness",))
    large = images_of("96 pixels").subset(4, seed=0)  # corruptions ask for 32 pixels or more
    pairs = choose_pairs(IMAGES.labels, IMAGES.sample_ids, 4, seed=0)

    def measure(device: str):
        zoo = zoo_on(device)
        of_large = {key: copy.deepcopy(model).to(device) for key, model in zoo_of("96 pixels").items()}
        return [
            predict_images(
                zoo, make_loader(IMAGES, batch_size=7, device=device), {"more": IMAGES}, IMAGES, progress=False
            ),
            *(
                []
                if corruptions.missing(96)
                else [_corrupted(of_large, make_loader(large, batch_size=4, device=device))]
            ),
            predict_conflicts(
                zoo,
                IMAGES,
                pairs,
                cutoffs=(4,),
                progress=False,
                painted={"filters": IMAGES.images[:4]},
                style_pairs=pairs,
            ),
        ]

    assert_as_on_the_cpu(measure)


def _corrupted(zoo, loader) -> pd.DataFrame:
    from src.texture_shape.predictions import predict_corrupted

    return predict_corrupted(zoo, loader, progress=False)


def test_painters():
    def measure(device: str):
        pixels, _, ids = pixels_on(device)
        painter = zoo_on(device)["own conv", 0]
        made = [transfer_style(pixels, pixels.flip(0), painter, steps=3)]
        if textures.available():
            large = nn.functional.interpolate(pixels[:2], (32, 32))
            made.append(textures.synthesise_texture(large, ids[:2], 0, steps=2))
        assert all(x.device == pixels.device for x in made)
        return made

    assert_as_on_the_cpu(measure)


# CKA


@pytest.mark.parametrize(("kernel", "pool"), [("linear", None), ("rbf", None), ("cosine", "spatial mean")])
def test_similarities(kernel, pool):
    def measure(device: str):
        zoo, loader = zoo_on(device), make_loader(IMAGES, batch_size=6, device=device)
        options = dict(kernel=kernel, pool=pool, progress=False)
        (first, second), x = zoo.values(), pixels_on(device, n=12)[0]
        return [
            *cka.hsic_table(zoo, loader, untrained=zoo_on(device), unbiased="both", n_permutations=2, **options),
            cka.cka_matrix(first, second, loader, n_resamples=5, **options),
            [getattr(cka, f"{kernel}_cka")(x, x[:, :1] ** 2, unbiased=unbiased) for unbiased in (True, False)],
        ]

    assert_as_on_the_cpu(measure)


def test_other_similarities():
    def measure(device: str):
        x = pixels_on(device, n=12)[0]
        table = cka.measure_table(zoo_on(device), make_loader(IMAGES, batch_size=12, device=device), progress=False)
        return [table, cka.mutual_knn(x, x**2), cka.procrustes_similarity(x, x**2), cka.svcca(x, x**2)]

    assert_as_on_the_cpu(measure)


# Feature visualisation


@pytest.mark.parametrize("parameterisation", ["pixels", "fourier", "maco"])
def test_pictures(parameterisation):
    natural = feature_vis.image_statistics(to_pixels(IMAGES.images))

    def measure(device: str):
        conv, patches = zoo_on(device).values()
        options = dict(parameterisation=parameterisation, statistics=natural, steps=4, progress=False)
        start = to_pixels(IMAGES.images[:2])
        targets = [(0, 1, 2), (1, None, None)]
        made = [
            feature_vis.maximise_activation(conv, [0, 1], **options, seed=torch.tensor([3, 4])),
            feature_vis.maximise_activation(patches, torch.tensor([1, 0]), start=start, tv=0.1, stop_at=0.6, **options),
            feature_vis.maximise_activation(
                conv, targets, layer="net.layer2", sample_ids=torch.tensor([5, 9]), **options
            ),
            feature_vis.invert_features(conv, "net.layer1", start, tv=0.1, alpha_norm=0.1, stop_at=1e-3, **options),
        ]
        return [[done.images, done.history, done.n_steps] for done in made]

    assert_as_on_the_cpu(measure, tolerance=1e-3)


def test_pictures_end_at_the_step_where_they_do_on_the_cpu():
    """A GPU is asked every ten steps, by which time a picture may have gone on."""

    class Units(nn.Module):
        """One that never responds, one that climbs, one that has a most; the third picture breaks when asked to."""

        def __init__(self, breaks: bool):
            super().__init__()
            self.weight, self.passes, self.breaks = nn.Parameter(torch.tensor(1.0)), 0, breaks

        def forward(self, x: Tensor) -> Tensor:
            self.passes += 1
            mean, broken = x.mean((1, 2, 3)) * self.weight, torch.ones(len(x), 1, 1, 1, device=x.device)
            broken[2:3] = torch.nan if self.breaks and self.passes > 13 else 1
            return torch.stack([mean.clamp(max=0), mean, mean.clamp(max=0.7)], dim=1)[..., None, None] * broken

    options = dict(layer="units", parameterisation="pixels", size=(6, 6), lr=0.02, steps=60, progress=False)
    options |= dict(jitter=0, rotate=0, scale=0)

    def measure(device: str, breaks: bool = False):
        model = nn.Sequential()
        model.add_module("units", Units(breaks))
        done = feature_vis.maximise_activation(model.to(device), [0, 1, 1, 2], stop_at=0.9, **options)
        return done.stops, done.n_steps.tolist(), done.images.cpu(), done.history

    stops, n_steps, images, history = measure("cpu")
    assert [stop.partition(":")[0] for stop in stops] == ["dead", "reached", "reached", "converged"]
    assert all((n + 1) % 10 for n in n_steps)  # not at a look
    with pretend_gpu():
        found = measure("cuda")
        with pytest.raises(ValueError, match=r"units 1 \(picture 2\) has .* not finite at step 12"):
            measure("cuda", breaks=True)
    assert found[:2] == (stops, n_steps)
    torch.testing.assert_close(found[2:], (images, history), rtol=0, atol=1e-5, equal_nan=True)


def test_tables_of_pictures():
    natural = feature_vis.image_statistics(to_pixels(IMAGES.images))

    def measure(device: str):
        zoo, options = zoo_on(device), dict(steps=2, progress=False)
        chosen = IMAGES.take(np.arange(2))
        return [
            *feature_vis.record_classes(zoo, IMAGES, natural, n_seeds=1, **options),
            *feature_vis.record_inversions(zoo, chosen, IMAGES, natural, n_stages=2, **options),
            feature_vis.image_statistics(pixels_on(device)[0]).amplitude,
        ]

    assert_as_on_the_cpu(measure, tolerance=1e-3)


# Efficiency


def test_costs_and_times():
    def measure(device: str):
        zoo, pixels = zoo_on(device), pixels_on(device, n=8)[0]
        options = dict(variants=["eager", "channels_last", "bfloat16"], threads=[1, 1], batch_sizes=[1, 4])
        builders = {key: lambda key=key: zoo_on("cpu")[key] for key in zoo}
        times = efficiency.time_all(
            builders, pixels, others={}, n_repeats=2, n_warmup=1, seed=0, progress=False, **options
        )
        blocks = efficiency.time_blocks(zoo["own patches", 0], pixels, n_repeats=2, n_warmup=1)
        loading = efficiency.time_loading(make_loader(IMAGES, batch_size=5, device=device), n_batches=2, device=device)
        assert (times["ms"] > 0).all() and (blocks["ms"] > 0).all() and (loading["ms"] > 0).all()
        return efficiency.costs(zoo, pixels, progress=False).drop(columns=["accuracy", "low", "high"])

    assert_as_on_the_cpu(measure)


def test_energy_is_read_of_the_card(monkeypatch):
    counter = itertools.count(1000, 2500)  # millijoules
    nvml = type("pynvml", (), dict.fromkeys(("nvmlInit", "nvmlShutdown"), staticmethod(lambda: None)))
    nvml.nvmlDeviceGetHandleByUUID = staticmethod(lambda uuid: uuid)
    nvml.nvmlDeviceGetTotalEnergyConsumption = staticmethod(lambda handle: next(counter))
    nvml.NVMLError_NotSupported = type("NVMLError_NotSupported", (Exception,), {})
    monkeypatch.setitem(__import__("sys").modules, "pynvml", nvml)
    calls = []
    with pretend_gpu() as gpu:
        joules = efficiency.energy_per_image(lambda: calls.append(1), n_images=5, device=CUDA, seconds=0.001)
    assert joules == pytest.approx(2.5 / ((len(calls) - 1) * 5)) and gpu.waits.total() == len(calls)


def test_checks_that_wait_for_each_other_are_read_once_and_name_the_first_that_fails():
    grey, white = torch.full((2, 3, 4, 4), 0.5), torch.ones(2, 3, 4, 4)
    labels, ids = torch.tensor([0, 1]), torch.tensor([5, 7])
    with pretend_gpu() as gpu:
        fine, wrong = (grey.to("cuda"), torch.zeros(2, 3).to("cuda")), ((2 * white).to("cuda"), white.to("cuda"))
        given = [values.to("cuda") for values in (labels, ids)]
        wrong_logits = torch.tensor([[0.0, 1], [0, torch.inf]]).to("cuda")
        gpu.waits.clear()
        with checked_together(), checked_together():  # the outer one counts
            for _ in range(10):
                check_images(fine[0])
                check_logits(fine[1], *given)
            assert not gpu.waits
        assert gpu.waits.total() == 1
        with pytest.raises(ValueError, match=r"pixels must lie in \[0, 1\], not \[2, 2\]"):
            with checked_together():
                check_images(fine[0])
                check_images(wrong[0])
                check_logits(wrong_logits, *given)
        with pytest.raises(ValueError, match="not finite, first for sample_id 7") as caught:
            with checked_together():
                check_logits(wrong_logits, *given)
                raise RuntimeError("what it led to")
        assert "what it led to" in str(caught.value.__context__)
        with pytest.raises(ValueError, match="must lie in"):  # long blocks are read on their way
            with checked_together():
                for _ in range(200):
                    check_images(wrong[0])
                raise AssertionError("came too late")
        with pytest.raises(ValueError, match="must lie in"):
            check_images(wrong[0])  # and after a block all is as before
    with checked_together(), pytest.raises(ValueError, match="must lie in"):
        check_images(2 * white)  # a CPU says so at once


@pytest.mark.parametrize("early_stop", [True, False])
def test_what_is_wrong_on_a_gpu_is_said_as_on_the_cpu(early_stop):
    class NotFinite(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, pixels):
            return (pixels.flatten(1)[:, :3] * self.scale).masked_fill(pixels.flatten(1)[:, :1] != 0.5, torch.nan)

    pixels, options = torch.full((4, 3, 4, 4), 0.5), dict(eps=0.1, steps=2, early_stop=early_stop)
    for labels, words in (
        ([0, 1, 2, 0], "not finite, first for sample_id 0"),
        ([0, 3, 2, 1], "label 3 is out of range"),
    ):
        with pytest.raises(ValueError, match=words):
            pgd(NotFinite(), pixels, torch.tensor(labels), **options)
        with pretend_gpu(), pytest.raises(ValueError, match=words):
            pgd(NotFinite().to("cuda"), pixels.to("cuda"), torch.tensor(labels).to("cuda"), **options)
