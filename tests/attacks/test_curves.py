from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from victims import Linear, Spy, in_batches, robust_accuracy, rows_of, some_images, trained_conv, wrong

from src.attacks import attack_curve, engine, fgsm, pgd, worst_case
from src.attacks.norms import project, random_start, steepest, wide
from src.attacks.plan import Plan
from src.attacks.rules import Apgd, Pgd
from src.attacks.square import Square
from src.data.batches import Batch
from src.models.access import input_gradient
from src.models.predict import predict
from src.seeding import Stream
from src.tables.attacks import FGSM_GRID, breaking_radius, cumulative

GRID = (2 / 255, 6 / 255, 10 / 255)
ATTACKS = {
    "fgsm": {},
    "pgd": dict(steps=4, restarts=2),
    "apgd": dict(steps=8),
    "apgd-t": dict(steps=3, n_targets=3),
    "square": dict(queries=15),
}
FACTS = ["prediction", "confidence", "label_rank", "distance"]


@pytest.fixture(scope="module")
def conv() -> nn.Module:
    return trained_conv()


@pytest.fixture(scope="module")
def images() -> Batch:
    return some_images(150)


@pytest.fixture(scope="module")
def few(images) -> Batch:
    return rows_of(images, slice(0, 60))


def curve_of(model, images: Batch, attack: str, *, loader_batch: int = 64, **options) -> pd.DataFrame:
    options = dict(eps_grid=GRID) | ATTACKS[attack] | options
    return attack_curve(model, in_batches(images, loader_batch), attack=attack, **options)


def grid_of(curve: pd.DataFrame, column: str) -> np.ndarray:
    """A column as an array: a row for each image, a column for each radius."""
    return curve.pivot(index="sample_id", columns="eps", values=column).to_numpy()


# Whatever the batches


@pytest.fixture(scope="module")
def reference(conv, images):
    curves = {}

    def get(attack: str) -> pd.DataFrame:
        if attack not in curves:
            curves[attack] = curve_of(conv, images, attack)
        return curves[attack]

    return get


OTHER_RUNS = {
    "small batches": lambda conv, images, attack: curve_of(conv, images, attack, loader_batch=37, batch_size=29),
    "one batch": lambda conv, images, attack: curve_of(conv, images, attack, loader_batch=150, batch_size=500),
    "shuffled": lambda conv, images, attack: curve_of(
        conv, rows_of(images, torch.randperm(150, generator=torch.Generator().manual_seed(0))), attack
    ),
    "every other image": lambda conv, images, attack: curve_of(conv, rows_of(images, slice(0, None, 2)), attack),
    "batch after batch": lambda conv, images, attack: curve_of(
        conv, images, attack, **({} if attack == "fgsm" else dict(continuous=False))
    ),
}


@pytest.mark.parametrize("run", OTHER_RUNS)
@pytest.mark.parametrize("attack", ATTACKS)
def test_an_image_meets_the_same_fate_in_any_company(conv, images, reference, attack, run):
    found = OTHER_RUNS[run](conv, images, attack)
    both = reference(attack).merge(found, on=["sample_id", "label", "eps"], suffixes=("", "_again"))
    assert len(both) == len(found) == 3 * (75 if run == "every other image" else 150)
    broken = both["label_rank"] >= 1
    assert 0.1 < broken.mean() < 0.9
    # sums may differ in the last bit with the batch, which turns one row in a thousand or so
    assert (broken != (both["label_rank_again"] >= 1)).mean() <= 0.015
    assert (both["n_evaluations"] != both["n_evaluations_again"]).mean() <= 0.03
    assert (abs(both["distance"] - both["distance_again"]) < 1e-6).mean() >= 0.97


def test_rows_come_in_the_order_of_the_loader(conv, images):
    shuffled = rows_of(images, torch.randperm(150, generator=torch.Generator().manual_seed(0)))
    for attack in ATTACKS:
        curve = curve_of(conv, rows_of(shuffled, slice(0, 40)), attack, loader_batch=9, eps_grid=(0.1, 0.0, 0.02))
        assert curve["sample_id"].tolist() == shuffled.sample_ids[:40].repeat_interleave(3).tolist()
        assert curve["label"].tolist() == shuffled.labels[:40].repeat_interleave(3).tolist()
        assert curve["eps"].tolist() == [0.0, 0.02, 0.1] * 40


def test_one_seed_one_result_another_seed_another(conv, few):
    options = dict(eps_grid=(0.02,), loader_batch=20, early_stop=False)
    a, b, c = (curve_of(conv, few, "pgd", seed=seed, **options) for seed in (0, 0, 1))
    pd.testing.assert_frame_equal(a, b)
    assert (a["confidence"] != c["confidence"]).mean() > 0.9


@pytest.mark.parametrize("attack", ["fgsm", "noise"])
def test_no_batch_of_a_curve_is_larger_than_asked(conv, few, attack):
    class Sizes(nn.Module):
        def __init__(self):
            super().__init__()
            self.seen = set()

        def forward(self, pixels):
            self.seen.add(len(pixels))
            return conv(pixels)

    sizes = Sizes()
    attack_curve(sizes, [few], attack=attack, eps_grid=GRID, batch_size=25)
    assert sizes.seen == {25, 10}


@pytest.mark.parametrize("attack, k", [("fgsm", 1), ("fgsm", 3), ("noise", 1)])
def test_one_direction_with_early_stop_is_cumulative_for_its_k(conv, images, attack, k):
    shuffled = rows_of(images, torch.randperm(150, generator=torch.Generator().manual_seed(0)))
    raw, stopped = (
        attack_curve(conv, [shuffled], attack=attack, eps_grid=FGSM_GRID, **options)
        for options in ({}, dict(early_stop=True, k=k))
    )
    assert stopped["sample_id"].tolist() == raw["sample_id"].tolist()  # still in the loader's order
    keys = ["sample_id", "eps"]
    pd.testing.assert_frame_equal(raw[keys].merge(cumulative(raw, k=k), on=keys)[raw.columns], stopped)
    assert (stopped["label_rank"] != raw["label_rank"]).mean() > (0.05 if attack == "fgsm" else 0)


# What it costs


def test_fgsm_takes_one_backward_pass_an_image_for_the_whole_curve(conv, images):
    spy = Spy(conv)
    curve = curve_of(spy, images, "fgsm", eps_grid=FGSM_GRID)
    assert len(FGSM_GRID) == 21 and len(curve) == 21 * 150
    assert spy.n_backward == 150 and spy.n_forward == 21 * 150
    assert (curve["n_evaluations"] == 1).all()


def test_a_fgsm_curve_is_fgsm_at_every_radius(conv, images):
    curve = curve_of(conv, images, "fgsm", eps_grid=(0.0, 0.02, 0.3))
    for column, eps in enumerate((0.0, 0.02, 0.3)):
        judged = predict(conv, [images._replace(pixels=fgsm(conv, *images[:2], eps=eps))])
        found = curve.loc[curve["eps"] == eps, "label_rank"].to_numpy()
        assert (found == judged["label_rank"]).mean() >= 0.97, column
    curve = curve_of(conv, images, "fgsm", eps_grid=(1.5,), norm="L2")
    judged = predict(conv, [images._replace(pixels=fgsm(conv, *images[:2], eps=1.5, norm="L2"))])
    assert (curve["label_rank"] == judged["label_rank"]).mean() >= 0.97


def test_noise_and_square_take_no_backward_pass(conv, few):
    for attack, options in (("noise", {}), ("square", dict(queries=5))):
        spy = Spy(conv)
        attack_curve(spy, [few], attack=attack, eps_grid=GRID, **options)
        assert spy.n_backward == 0 and spy.n_forward >= 4 * 40


@pytest.mark.parametrize("attack", [name for name in ATTACKS if name != "fgsm"])
@pytest.mark.parametrize("options", [{}, dict(warm_start=False), dict(early_stop=False), dict(continuous=False)])
def test_evaluations_are_counted_and_none_is_wasted(conv, few, attack, options):
    spy = Spy(conv)
    curve = curve_of(spy, few, attack, eps_grid=(0.0, *GRID), batch_size=16, **options)
    assert (curve.loc[curve["eps"] == 0, "n_evaluations"] == 1).all()
    assert spy.n_forward == curve["n_evaluations"].sum()
    assert spy.n_backward == 0 if attack == "square" else spy.n_backward < spy.n_forward


@pytest.mark.parametrize("warm_start", [True, False])
def test_all_steps_are_done_unless_stopped_early(conv, few, warm_start):
    spy = Spy(conv)
    curve = curve_of(spy, few, "pgd", steps=5, restarts=3, early_stop=False, warm_start=warm_start)
    later = 18 - warm_start  # three starts of five steps from a point each; a warm start knows its first point
    np.testing.assert_array_equal(grid_of(curve, "n_evaluations"), np.tile([18, later, later], (60, 1)))
    assert spy.n_backward == 60 * 3 * 15  # the last point of a start needs no gradient


def test_an_image_that_holds_costs_steps_and_one_that_falls_nothing_more(conv, images):
    clean_errors = wrong(conv, images.pixels, images.labels)
    curve = curve_of(conv, images, "pgd", steps=5, restarts=1)
    order = np.argsort(images.sample_ids.numpy())
    clean_errors = clean_errors[order]
    evaluations, broken = grid_of(curve, "n_evaluations"), grid_of(curve, "label_rank") >= 1
    holds = ~broken
    assert holds[:, 0].sum() > 50 and (holds[:, 0] & broken[:, 2]).sum() > 15 and clean_errors.sum() > 10
    assert (evaluations[holds[:, 0], 0] == 6).all()
    assert (evaluations[:, 1:][holds[:, 1:]] == 5).all()
    assert (evaluations[clean_errors] == 0).all() and broken[clean_errors].all()
    for column in range(3):
        here = broken[:, column] & ~clean_errors
        before = broken[:, column - 1] if column else np.zeros(150, dtype=bool)
        assert (evaluations[here & before, column] == 0).all()
        assert (evaluations[here & ~before, column] >= 1).all()
        assert (evaluations[here & ~before, column] <= 6).all()


# What it finds


@pytest.mark.parametrize("attack", [name for name in ATTACKS if name != "fgsm"])
def test_once_broken_always_broken_by_the_same_point(reference, attack):
    curve = reference(attack)
    broken = grid_of(curve, "label_rank") >= 1
    assert (broken[:, 1:] >= broken[:, :-1]).all() and (broken[:, 2] > broken[:, 0]).any()
    for name in FACTS:
        values = grid_of(curve, name)
        for column in (1, 2):
            was = broken[:, column - 1]
            np.testing.assert_array_equal(values[was, column], values[was, column - 1], err_msg=name)
    assert (curve["distance"] <= curve["eps"] + 1e-6).all()
    pd.testing.assert_frame_equal(curve, cumulative(curve))


def broken_at(model, images: Batch, eps: float, **options) -> np.ndarray:
    return (curve_of(model, images, "pgd", eps_grid=(eps,), **options)["label_rank"] >= 1).to_numpy()


def test_stopping_early_changes_no_verdict(conv, images):
    options = dict(eps=6 / 255, steps=6, restarts=2)
    stopped, complete = (broken_at(conv, images, early_stop=early, **options) for early in (True, False))
    assert (stopped != complete).mean() <= 0.03 and 0.2 < stopped.mean() < 0.8


def test_more_restarts_and_more_steps_break_no_fewer(conv, images):
    """The first start is the same, and so are its first steps: image for image, nothing that fell stands up."""
    options = dict(eps=6 / 255, rel_step=0.3)
    base = broken_at(conv, images, steps=2, restarts=1, **options)
    for more in (dict(steps=2, restarts=4), dict(steps=12, restarts=1)):
        found = broken_at(conv, images, **options, **more)
        assert (base & ~found).mean() <= 0.03
    assert found.mean() > base.mean() + 0.02


def test_top_5_is_broken_when_five_classes_come_first(conv, images):
    clean = predict(conv, [images])
    options = dict(eps_grid=(0.05, 0.2), steps=6, restarts=1)
    curves = {k: curve_of(conv, images, "pgd", k=k, **options) for k in (1, 5)}
    broken = {k: grid_of(curve, "label_rank") >= k for k, curve in curves.items()}
    assert 5 < broken[5][:, 1].sum() < broken[1][:, 1].sum()
    assert (broken[1] | ~broken[5]).mean() > 0.99
    # images that are merely not top-1 are attacked on, those that are not top-5 are not
    standing = (clean["label_rank"] < 5).to_numpy()[np.argsort(images.sample_ids.numpy())]
    assert ((grid_of(curves[5], "n_evaluations")[:, 0] > 0) == standing).all()
    assert (grid_of(curves[5], "label_rank")[:, 1] >= 5).mean() > (grid_of(curves[1], "label_rank")[:, 1] >= 5).mean()


def test_warm_starts_are_no_weaker_than_fresh_ones(conv, few):
    for attack in ("pgd", "apgd", "apgd-t", "square"):
        warm, fresh = (curve_of(conv, few, attack, warm_start=warm) for warm in (True, False))
        assert robust_accuracy(warm) <= robust_accuracy(fresh) + 0.02
        at_first = [curve[curve["eps"] == GRID[0]][FACTS].reset_index(drop=True) for curve in (warm, fresh)]
        assert (at_first[0]["label_rank"] == at_first[1]["label_rank"]).mean() > 0.9


@dataclass(frozen=True)
class Walk:
    """A rule that goes to given places, with given losses: places are shares of eps above the clean image."""

    places: tuple[float, ...]
    losses: tuple[float, ...]
    norm: str = "Linf"
    n_starts: int = 1
    uses_gradient = False

    @property
    def steps(self) -> int:
        return len(self.places) - 1

    def prepare(self, rows, logits):
        return {}

    def start(self, rows):
        return self._go(rows, torch.zeros_like(rows["step"]))

    def widen(self, rows):
        return {}

    def loss(self, logits, rows):
        return torch.tensor(self.losses)[rows["step"]]

    def move(self, rows, loss, gradient):
        return self._go(rows, rows["step"] + 1)

    def _go(self, rows, step):
        return {"x": rows["clean"] + (rows["eps"] * torch.tensor(self.places)[step])[:, None, None, None]}


class Brightness(nn.Module):
    """Class 1 where an image is brighter than 0.65, else class 0."""

    def forward(self, pixels):
        mean = pixels.mean((1, 2, 3))
        return torch.stack([torch.zeros_like(mean), mean - 0.65], 1)


def walk(places, losses, grid=(0.2,), **options) -> tuple[pd.DataFrame, torch.Tensor]:
    one = Batch(torch.full((1, 3, 2, 2), 0.5), torch.tensor([0]), torch.tensor([7]))
    record = engine.run(Brightness(), [one], Walk(places, losses), Plan(grid, keep_pixels=True, **options))
    return record.table((0.0, *grid)), record.pixels


@pytest.mark.parametrize("early_stop", [True, False])
@pytest.mark.parametrize("breaks", [0, 1, 2])
def test_every_restart_counts(breaks, early_stop):
    class FromAnotherPlace(Walk):
        def _go(self, rows, step):
            share = torch.where(rows["start"] == breaks, 1.0, 0.1)
            return {"x": rows["clean"] + (rows["eps"] * share)[:, None, None, None]}

    one = Batch(torch.full((1, 3, 2, 2), 0.5), torch.tensor([0]), torch.tensor([7]))
    plan = Plan((0.2,), early_stop=early_stop)
    run = engine.run(Brightness(), [one], FromAnotherPlace((0.0, 0.0), (1.0, 1.0), n_starts=3), plan)
    table = run.table((0.0, 0.2))
    assert table["label_rank"][1] == 1
    assert table["n_evaluations"][1] == (2 * breaks + 1 if early_stop else 6)


@pytest.mark.parametrize("early_stop", [True, False])
def test_the_strongest_point_is_kept_not_the_last(early_stop):
    # no point breaks it: the one of the highest loss, in the middle
    table, pixels = walk((0.1, 0.5, 0.2), (1.0, 3.0, 2.0), early_stop=early_stop)
    assert table["distance"][1] == pytest.approx(0.1)
    torch.testing.assert_close(pixels, torch.full((1, 3, 2, 2), 0.6))
    # only the second breaks it: it counts, whatever the losses
    table, pixels = walk((0.1, 1.0, 0.2), (5.0, 1.0, 9.0), early_stop=early_stop)
    assert table["label_rank"].tolist() == [0, 1]
    assert table["distance"][1] == pytest.approx(0.2)
    assert table["n_evaluations"][1] == (2 if early_stop else 3)


def test_the_first_that_breaks_is_kept_or_among_all_that_do_the_highest_loss():
    table, pixels = walk((0.9, 1.0, 0.1), (1.0, 2.0, 3.0))
    assert table["distance"][1] == pytest.approx(0.18) and table["n_evaluations"][1] == 1
    table, pixels = walk((0.9, 1.0, 0.1), (1.0, 2.0, 3.0), early_stop=False)
    assert table["distance"][1] == pytest.approx(0.2)


def test_a_warm_start_remembers_and_a_fresh_one_forgets():
    """Highest loss at the first radius; a radius later only lower ones are met."""
    places, losses = (0.1, 0.5, 0.1), (1.0, 3.0, 1.0)
    falling = dict(grid=(0.1, 0.2), early_stop=False)
    # warm, the second radius begins at its first step and meets places 0.5 and 0.1 of 0.2: a tie, the old one stays
    warm, _ = walk(places, losses, warm_start=True, **falling)
    assert warm["distance"].tolist() == pytest.approx([0, 0.05, 0.05])
    fresh, _ = walk(places, losses, warm_start=False, **falling)
    assert fresh["distance"].tolist() == pytest.approx([0, 0.05, 0.1])
    # an image that fell at the first radius does not stand up at the second, even if all steps are done
    fallen, _ = walk((1.6, 0.1, 0.1), losses, warm_start=True, **falling)
    assert fallen["label_rank"].tolist() == [0, 1, 1]


def test_a_gradient_is_that_of_the_loss_it_is_climbed_for(conv, few):
    """A warm start goes from the last target of the old radius to the first of the new one."""
    judged: dict[int, int] = {}
    compared = []

    class Noted(Apgd):
        def loss(self, logits, rows):
            judged.update(zip(rows["id"].tolist(), rows["start"].tolist(), strict=True))
            return super().loss(logits, rows)

        def move(self, rows, loss, gradient):
            compared.extend(judged[i] == s for i, s in zip(rows["id"].tolist(), rows["start"].tolist(), strict=True))
            return super().move(rows, loss, gradient)

    engine.run(conv, [few], Noted(steps=3, n_targets=3), Plan(GRID, early_stop=False))
    assert len(compared) == 60 * 3 * 9 and all(compared)


def test_square_starts_a_wider_radius_from_what_it_kept(conv, few):
    """The last proposal of the old radius is given up if it was worse, as any other."""
    moved = []

    class Noted(Square):
        def move(self, rows, loss, gradient):
            new = super().move(rows, loss, gradient)
            warm = (rows["step"] == 0) & (rows["eps"] > 0.05)
            moved.append((new["kept_loss"] - rows["kept_loss"])[warm])
            return new

    engine.run(conv, [few], Noted(steps=10), Plan((0.05, 0.1), early_stop=False))
    grown = torch.cat(moved)
    assert len(grown) == 60 and (grown >= 0).all() and grown.isfinite().all() and (grown == 0).any()


# Reduced precision


class WrongInHalf(nn.Module):
    """Says the opposite whenever it computes under autocast."""

    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner, self.n_half = inner, 0

    def forward(self, pixels):
        half = torch.is_autocast_enabled("cpu")
        self.n_half += half * len(pixels)
        return self.inner(pixels) * (-1 if half else 1)


@pytest.mark.parametrize("early_stop", [True, False])
def test_bfloat16_claims_are_looked_at_again_in_full_precision(conv, few, early_stop):
    model = WrongInHalf(conv)
    eps = 1e-4 / 255  # breaks nothing
    for attack in ("pgd", "apgd", "square"):
        model.n_half = 0
        curve = curve_of(model, few, attack, eps_grid=(0.0, eps), dtype="bfloat16", early_stop=early_stop)
        assert model.n_half > 0
        rank = grid_of(curve, "label_rank")
        np.testing.assert_array_equal(rank[:, 1], rank[:, 0])


def test_what_bfloat16_breaks_is_broken_in_float32(conv, images):
    curve = curve_of(conv, images, "pgd", eps_grid=(6 / 255,), dtype="bfloat16", restarts=1)
    options = dict(steps=4, sample_ids=images.sample_ids, dtype="bfloat16", batch_size=128)
    found = pgd(conv, images.pixels, images.labels, eps=6 / 255, **options)
    broken = (curve["label_rank"] >= 1).to_numpy()
    assert wrong(conv, found, images.labels)[broken].all()
    full = curve_of(conv, images, "pgd", eps_grid=(6 / 255,), restarts=1)
    assert abs(robust_accuracy(curve) - robust_accuracy(full)) <= 0.05


# Curves in words


def test_a_curve_is_made_cumulative_by_hand():
    rows = [  # sample, eps, label_rank, prediction, confidence
        (4, 0.0, 0, 3, 0.9),
        (4, 0.1, 2, 5, 0.8),
        (4, 0.2, 0, 3, 0.7),  # stands up again: takes over the row of its first break
        (4, 0.3, 6, 1, 0.6),
        (2, 0.0, 1, 8, 0.5),  # misclassified as it is
        (2, 0.1, 0, 3, 0.4),
        (2, 0.2, 0, 3, 0.3),
        (2, 0.3, 3, 7, 0.2),
        (9, 0.0, 0, 3, 0.11),  # never broken
        (9, 0.1, 0, 3, 0.12),
        (9, 0.2, 0, 3, 0.13),
        (9, 0.3, 0, 3, 0.14),
    ]
    curve = pd.DataFrame(rows, columns=["sample_id", "eps", "label_rank", "prediction", "confidence"])
    curve = curve.assign(label=3, distance=curve["eps"].astype("float32"), n_evaluations=1).sample(
        frac=1, random_state=0
    )
    before = curve.copy()
    table = cumulative(curve).set_index(["sample_id", "eps"])
    assert table.index.tolist() == [(i, eps) for i in (2, 4, 9) for eps in (0.0, 0.1, 0.2, 0.3)]
    assert table["label_rank"].tolist() == [1, 1, 1, 1, 0, 2, 2, 2, 0, 0, 0, 0]
    assert table["prediction"].tolist() == [8, 8, 8, 8, 3, 5, 5, 5, 3, 3, 3, 3]
    assert table["confidence"].tolist() == [0.5] * 4 + [0.9, 0.8, 0.8, 0.8, 0.11, 0.12, 0.13, 0.14]
    np.testing.assert_allclose(table["distance"], [0, 0, 0, 0, 0, 0.1, 0.1, 0.1, 0, 0.1, 0.2, 0.3], atol=1e-7)
    assert table["n_evaluations"].tolist() == [1] * 12 and table["label_rank"].dtype == curve["label_rank"].dtype
    # top-3: rank 2 is no break
    top_3 = cumulative(curve, k=3).set_index(["sample_id", "eps"])
    assert top_3["label_rank"].tolist() == [1, 0, 0, 3, 0, 2, 0, 6, 0, 0, 0, 0]
    pd.testing.assert_frame_equal(curve, before)


def test_breaking_radii_by_hand():
    curve = pd.DataFrame(
        {
            "sample_id": [5, 5, 5, 1, 1, 1, 8, 8, 8],
            "label": [2, 2, 2, 0, 0, 0, 7, 7, 7],
            "eps": [0.2, 0.0, 0.1, 0.0, 0.1, 0.2, 0.0, 0.1, 0.2],
            "label_rank": [4, 0, 1, 1, 0, 0, 0, 0, 0],
        }
    )
    table = breaking_radius(curve)
    assert table.columns.tolist() == ["sample_id", "label", "eps"]
    assert table.values.tolist() == [[1, 0, 0.0], [5, 2, 0.1], [8, 7, np.inf]]
    assert breaking_radius(curve, k=2)["eps"].tolist() == [np.inf, 0.2, np.inf]


def test_a_fgsm_curve_may_rise_and_its_cumulative_may_not(images):
    class Waves(Linear):
        """A long step overshoots."""

        def forward(self, pixels):
            return super().forward((15 * pixels).sin())

    model = Waves(3 * 32 * 32, 10)
    images = images._replace(labels=model(images.pixels).argmax(1))
    curve = curve_of(model, images, "fgsm", eps_grid=FGSM_GRID)
    broken, worst = (grid_of(table, "label_rank") >= 1 for table in (curve, cumulative(curve)))
    assert (np.maximum.accumulate(broken, axis=1) == worst).all() and (worst != broken).any()
    first = np.where(worst.any(1), np.array(FGSM_GRID)[worst.argmax(1)], np.inf)
    np.testing.assert_array_equal(breaking_radius(curve)["eps"], first)


# The worst case


WORST = dict(steps=8, n_targets=2, queries=40)


@pytest.fixture(scope="module")
def alone(conv, images) -> dict[str, pd.DataFrame]:
    """Each attack of the ensemble on all images."""
    options = {"apgd": dict(steps=8), "apgd-t": dict(steps=8, n_targets=2), "square": dict(queries=40)}
    return {
        name: curve_of(conv, images, name, eps_grid=(8 / 255,), **options[name]).set_index("sample_id")
        for name in options
    }


@pytest.fixture(scope="module")
def worst(conv, images) -> pd.DataFrame:
    table = worst_case(conv, in_batches(images, 64), eps=8 / 255, **WORST)
    assert table["sample_id"].tolist() == images.sample_ids.tolist()
    return table.set_index("sample_id")


def test_the_worst_case_is_the_pointwise_minimum(conv, images, alone, worst):
    some_break = np.logical_or.reduce([(table["label_rank"] >= 1).to_numpy() for table in alone.values()])
    found = (worst["label_rank"] >= 1).to_numpy()
    assert (found != some_break).mean() <= 0.03 and 0.2 < found.mean() < 0.8
    assert all(robust_accuracy(worst) <= robust_accuracy(table) + 0.03 for table in alone.values())


def test_who_broke_an_image_is_the_first_that_could(conv, images, alone, worst):
    expected = pd.Series("", index=worst.index)
    for name in reversed(alone):
        expected[alone[name]["label_rank"] >= 1] = name
    expected[wrong(conv, images.pixels, images.labels)] = "clean"
    assert (worst["broken_by"] == expected).mean() >= 0.97
    assert {"", "clean", "apgd"} <= set(worst["broken_by"])
    for name, table in alone.items():
        chosen = (worst["broken_by"] == name) & (expected == name)
        if not chosen.any():
            continue
        assert (worst.loc[chosen, "prediction"] != table.loc[chosen, "prediction"]).sum() <= max(0.05 * chosen.sum(), 3)


def test_what_is_broken_is_spared_the_next_attack(conv, images, alone, worst):
    cost = pd.DataFrame({name: table["n_evaluations"] for name, table in alone.items()})
    upto = {"clean": [], "apgd": ["apgd"], "apgd-t": ["apgd", "apgd-t"]}
    expected = [cost.loc[i, upto.get(by, list(cost))].sum() for i, by in worst["broken_by"].items()]
    assert (worst["n_evaluations"] == expected).mean() >= 0.97
    spy = Spy(conv)
    table = worst_case(spy, [images], eps=1.0, **WORST)  # everything falls to the first attack
    assert set(table["broken_by"]) == {"clean", "apgd"}
    right = (table["broken_by"] == "apgd").sum()
    assert spy.n_forward == 150 + right + table["n_evaluations"].sum()  # those right as they are begin with a pass more


class PartlyBlind(nn.Module):
    """Linear, but without gradient where the first pixel is dark, which no radius below 0.1 changes."""

    def __init__(self):
        super().__init__()
        self.linear = Linear(3 * 8 * 8, 4)

    def forward(self, pixels):
        logits = self.linear(pixels)
        blind = logits.detach() + 0 * logits  # no gradient: only a black box gets through
        return torch.where(pixels[:, :1, 0, 0] < 0.3, blind, logits)


def test_square_breaks_what_has_no_gradient():
    pixels = 0.4 + 0.2 * torch.rand(60, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    pixels[::2, :, 0, 0] = 0.1
    model = PartlyBlind()
    labels = model(pixels).argmax(1)
    table = worst_case(model, [Batch(pixels, labels, torch.arange(60))], eps=0.08, steps=5, n_targets=2, queries=300)
    blind = np.arange(60) % 2 == 0
    assert set(table.loc[~blind, "broken_by"]) <= {"apgd", "apgd-t", ""}
    assert (table.loc[blind, "broken_by"] == "square").sum() > 15
    assert (table.loc[table["broken_by"] == "", "label_rank"] == 0).all()


def test_the_worst_case_in_l2_does_without_square(conv, few):
    table = worst_case(conv, [few], eps=1.0, norm="L2", **WORST)
    assert set(table["broken_by"]) <= {"", "clean", "apgd", "apgd-t"} and "apgd" in set(table["broken_by"])
    assert (table["distance"] <= 1 + 1e-6).all() and 0.1 < robust_accuracy(table) < 0.9


@pytest.mark.parametrize("norm, eps", [("Linf", 8 / 255), ("L2", 1.0)])
def test_the_engine_does_the_loop_of_its_docstring(conv, few, norm, eps):
    """The same points from the same start, whatever comes and goes in the batch, and the strongest of them."""
    steps, rel_step, radii = 6, 0.25, torch.full((60,), eps)
    x = random_start(few.pixels, radii, norm, few.sample_ids, 0, Stream.ATTACK_START, 0)
    visited, best, best_loss = [x], few.pixels, torch.full((60,), -torch.inf)
    for _ in range(steps):
        _, loss, gradient = input_gradient(conv, x, lambda logits: cross_entropy(logits, few.labels))
        x = x + rel_step * eps * steepest(gradient, norm)
        x = project(x, few.pixels, radii, norm)
        visited.append(x)
    for point in visited:
        logits = conv(point).detach()
        loss, was_broken = cross_entropy(logits, few.labels), wrong(conv, best, few.labels)
        broken = torch.from_numpy(wrong(conv, point, few.labels))
        was_broken = torch.from_numpy(was_broken) & best_loss.isfinite()
        better = (broken & ~was_broken) | ((broken == was_broken) & (loss > best_loss))
        best = torch.where(wide(better), point, best)
        best_loss = torch.where(better, loss, best_loss)

    options = dict(eps=eps, norm=norm, steps=steps, rel_step=rel_step, sample_ids=few.sample_ids, early_stop=False)
    spy = Spy(conv, keep=True)
    ours = pgd(spy, few.pixels, few.labels, **options)
    assert len(spy.seen) == 1 + len(visited)  # the clean images come first
    for seen, expected in zip(spy.seen[1:], visited, strict=True):
        assert ((seen - expected).abs() < 1e-5).float().mean() > 0.999  # a gradient of nearly 0 may lose its sign
    assert ((ours - best).abs() < 1e-5).flatten(1).float().mean(1).gt(0.99).float().mean() > 0.95
    in_turns = pgd(conv, few.pixels, few.labels, batch_size=7, **options)
    assert ((ours - in_turns).abs() < 1e-5).flatten(1).float().mean(1).gt(0.99).float().mean() > 0.95


def cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return nn.functional.cross_entropy(logits, labels, reduction="none")


def test_engine_rules_agree_with_the_functions(conv, few):
    """The names of the curves mean what the functions of these names do."""
    record = engine.run(conv, [few], Pgd(steps=4, restarts=2), Plan((GRID[0],)))
    curve = curve_of(conv, few, "pgd", eps_grid=(GRID[0],))
    pd.testing.assert_frame_equal(record.table((GRID[0],)), curve)
