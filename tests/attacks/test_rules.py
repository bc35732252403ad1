"""The rules of the single attacks, step by step: APGD against its paper, Square's proposals, random starts."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from torch import nn
from victims import Linear, Spy, distances, rows_of, some_images, trained_conv, wrong

from src.attacks import apgd, engine, pgd, random_noise, square
from src.attacks.norms import project, random_direction, random_start, steepest
from src.attacks.plan import Plan
from src.attacks.rules import Apgd, margin, targeted_dlr
from src.attacks.square import Square
from src.data.batches import Batch
from src.seeding import uniform

IDS = torch.arange(3000)


@pytest.fixture(scope="module")
def conv() -> nn.Module:
    return trained_conv()


@pytest.fixture(scope="module")
def images() -> Batch:
    return some_images(60)


# Balls


def test_a_point_is_projected_to_the_nearest_of_the_ball():
    generator = torch.Generator().manual_seed(0)
    centre, x = (torch.rand(50, 3, 4, 4, generator=generator) for _ in range(2))
    eps = torch.linspace(0.01, 3, 50)
    for norm in ("Linf", "L2"):
        found = project(x, centre, eps, norm)
        assert (distances(found, centre, norm) <= eps.numpy() + 1e-6).all()
        inside = distances(x, centre, norm) <= eps.numpy()
        torch.testing.assert_close(found[inside], x[inside], atol=1e-6, rtol=0)  # what lies inside stays
        torch.testing.assert_close(project(found, centre, eps, norm), found, atol=1e-6, rtol=0)
    ratio = (found - centre).flatten(1) / (x - centre).flatten(1)  # in L2 along the line to the centre
    assert (ratio.amax(1) - ratio.amin(1)).max() < 1e-3


@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_the_steepest_direction_beats_all_others_of_its_length(norm):
    generator = torch.Generator().manual_seed(0)
    gradient = torch.randn(1, 3, 4, 4, generator=generator)
    best = steepest(gradient, norm)
    assert distances(best, torch.zeros_like(best), norm) == pytest.approx(1, abs=1e-6)
    others = torch.randn(2000, 3, 4, 4, generator=generator)
    others /= torch.from_numpy(distances(others, torch.zeros_like(others), norm)).float()[:, None, None, None]
    assert (others * gradient).flatten(1).sum(1).max() < (best * gradient).sum()


# Random starts


@pytest.fixture(scope="module")
def grey() -> torch.Tensor:
    return torch.full((3000, 3, 4, 4), 0.5)


def start(centre, norm, eps=0.2, ids=IDS, keys=(0, 1)) -> torch.Tensor:
    return random_start(centre, torch.full((len(centre),), eps), norm, ids[: len(centre)], *keys)


def test_starts_fill_the_linf_ball_evenly(grey):
    delta = (start(grey, "Linf") - 0.5) / 0.2
    assert delta.abs().max() <= 1 + 1e-6
    assert stats.kstest(delta.flatten().numpy()[:20_000], stats.uniform(-1, 2).cdf).pvalue > 1e-3
    assert delta.mean(0).abs().max() < 5 / math.sqrt(3 * 3000)  # 5 standard errors, everywhere in the image
    correlation = np.corrcoef(delta.flatten(1).numpy().T) - np.eye(48)
    assert abs(correlation).max() < 5 / math.sqrt(3000)


def test_starts_fill_the_l2_ball_evenly(grey):
    delta = (start(grey, "L2", eps=0.4) - 0.5).flatten(1).numpy() / 0.4
    length = np.linalg.norm(delta, axis=1)
    assert length.max() <= 1 + 1e-6
    assert stats.kstest(length**48, "uniform").pvalue > 1e-3  # the share of the volume that is nearer
    direction = delta / length[:, None]
    # a coordinate of a point of the sphere: (1 + x) / 2 follows a beta distribution
    assert stats.kstest((1 + direction[:, 7]) / 2, stats.beta(47 / 2, 47 / 2).cdf).pvalue > 1e-3
    assert abs(direction.mean(0)).max() < 5 / math.sqrt(48 * 3000)
    assert abs(np.corrcoef(length, direction[:, 0])[0, 1]) < 0.1


def test_directions_of_noise_are_signs_or_points_of_the_sphere(grey):
    signs = random_direction(grey, "Linf", IDS, 0)
    assert set(signs.unique().tolist()) == {-1.0, 1.0} and abs(signs.mean()) < 5 / math.sqrt(signs.numel())
    on_sphere = random_direction(grey, "L2", IDS, 0)
    np.testing.assert_allclose(distances(on_sphere, torch.zeros_like(grey), "L2"), 1, atol=1e-5)
    assert on_sphere.mean(0).abs().max() < 5 / math.sqrt(48 * 3000)


def test_the_extreme_random_numbers_give_directions_too():
    """`uniform` gives 0 and 1 - 2^-24, where the inverse of the normal distribution runs off to infinity."""
    centre, sample = torch.full((1, 3, 32, 32), 0.5), torch.tensor([3959])
    keys = (0, 21, 0)  # those of PGD's first start with seed 0
    assert uniform(sample, *keys, draws=3073)[:, 1:].max() == 1 - 2**-24
    found = random_start(centre, torch.tensor([1.0]), "L2", sample, *keys)
    assert found.isfinite().all() and 0.9 < distances(found, centre, "L2")[0] <= 1 + 1e-6


@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_a_start_belongs_to_its_sample_seed_and_restart(noise, norm):
    ids = torch.arange(40) + 500
    whole = start(noise, norm, ids=ids)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    assert torch.equal(start(noise[order], norm, ids=ids[order]), whole[order])
    parts = [start(noise[i : i + 7], norm, ids=ids[i : i + 7]) for i in range(0, 40, 7)]
    assert torch.equal(torch.cat(parts), whole)
    for other in (dict(keys=(0, 2)), dict(keys=(1, 1)), dict(ids=ids + 40)):
        changed = start(noise, norm, **(dict(ids=ids) | other))
        assert (changed != whole).flatten(1).float().mean(1).min() > 0.5
    restarts = torch.arange(40)  # each row at a restart of its own
    for i in (0, 13):
        assert torch.equal(
            start(noise, norm, ids=ids, keys=(0, restarts))[i], start(noise, norm, ids=ids, keys=(0, i))[i]
        )


@pytest.mark.parametrize("attack", [pgd, apgd, square, random_noise])
def test_random_attacks_follow_seed_and_sample_alone(conv, images, attack):
    options = {} if attack is random_noise else dict(early_stop=False)
    options |= {pgd: dict(steps=1), apgd: dict(steps=1), square: dict(queries=1)}.get(attack, {})

    def run(chosen: Batch, seed: int = 0):
        return attack(conv, *chosen[:2], eps=0.1, seed=seed, sample_ids=chosen.sample_ids, **options)

    whole = run(images)
    order = torch.arange(59, -1, -1)
    # a start is the same to the last bit; the gradient at it may differ in the last bit with the batch
    same = (run(rows_of(images, order)) == whole[order]).float().mean()
    assert same > 0.999
    for other in (run(images, seed=1), run(images._replace(sample_ids=images.sample_ids + 1))):
        # an image that is misclassified as it is may be given back where all other points are right
        assert (other != whole).flatten(1).any(1).float().mean() > 0.9


@pytest.mark.parametrize("attack", [pgd, apgd, square])
def test_every_restart_starts_elsewhere(conv, images, attack):
    spy, one = Spy(conv, keep=True), rows_of(images, slice(0, 1))
    options = {"queries" if attack is square else "steps": 1}
    attack(spy, *one[:2], eps=0.1, restarts=4, early_stop=False, **options)
    starts = torch.cat(spy.seen[1:])[::2]  # after the clean image, two points of each
    assert len(starts) == 4
    for i in range(4):
        for j in range(i):
            assert (starts[i] != starts[j]).float().mean() > 0.2


# APGD


def paper_checkpoints(steps: int) -> list[int]:
    """Croce & Hein 2020, section 3.1: p_0 = 0, p_1 = 0.22, p_{j+1} = p_j + max(p_j - p_{j-1} - 0.03, 0.06)."""
    p = [0.0, 0.22]
    while p[-1] <= 1:
        p.append(p[-1] + max(p[-1] - p[-2] - 0.03, 0.06))
    return [math.ceil(round(share * steps, 6)) for share in p if 0 < share <= 1]


@pytest.mark.parametrize("steps", [100, 200, 1000])
def test_checkpoints_are_those_of_the_paper(steps):
    windows = Apgd(steps=steps).windows
    found = windows.nonzero()[:, 0].tolist()
    assert found == paper_checkpoints(steps)
    assert windows[found].tolist() == np.diff([0, *found]).tolist()
    assert steps != 100 or found == [22, 41, 57, 70, 80, 87, 93, 99]


def test_few_steps_have_checkpoints_too():
    for steps in range(1, 30):
        windows = Apgd(steps=steps).windows
        at = windows.nonzero()[:, 0].tolist()
        assert at[0] == max(int(0.22 * steps), 1) and at[-1] <= steps
        assert (np.diff([0, *at]) == windows[at].numpy()).all()


def loss_and_gradient(model, x, labels, norm):
    x = x.clone().requires_grad_()
    logits = model(x)
    loss = F.cross_entropy(logits, labels, reduction="none")
    (gradient,) = torch.autograd.grad(loss.sum(), x)
    return loss.detach(), steepest(gradient, norm), logits.detach()


def apgd_of_the_paper(model, clean, labels, x, eps: float, norm: str, steps: int) -> list[torch.Tensor]:
    """Algorithm 1 of Croce & Hein 2020 image by image, only the network sees all at once: the points visited."""
    n, radius = len(clean), torch.tensor([eps])
    checkpoints = set(paper_checkpoints(steps))
    visited, history = [x], []
    x_top, loss_top, gradient_top = [None] * n, [-math.inf] * n, [None] * n
    length, x_last = [2 * eps] * n, list(x.clone())
    length_then, top_then, last_check = [2 * eps] * n, [None] * n, 0
    for k in range(steps):
        loss, gradient, _ = loss_and_gradient(model, x, labels, norm)
        history.append(loss.tolist())
        following = []
        for i in range(n):
            here, uphill, now = x[i], gradient[i], float(loss[i])
            if now > loss_top[i]:
                x_top[i], loss_top[i], gradient_top[i] = here, now, uphill
            if k == 0:
                top_then[i] = loss_top[i]
            if k in checkpoints:
                rises = sum(history[j][i] > history[j - 1][i] for j in range(last_check + 1, k + 1))
                stuck = length[i] == length_then[i] and loss_top[i] == top_then[i]
                length_then[i], top_then[i] = length[i], loss_top[i]
                if rises <= 0.75 * (k - last_check) or stuck:
                    length[i] /= 2
                    here, uphill = x_top[i], gradient_top[i]
            z = project((here + length[i] * uphill)[None], clean[i : i + 1], radius, norm)[0]
            share = 1.0 if k == 0 else 0.75
            mixed = here + share * (z - here) + (1 - share) * (here - x_last[i])
            x_last[i] = here
            following.append(project(mixed[None], clean[i : i + 1], radius, norm)[0])
        if k in checkpoints:
            last_check = k
        x = torch.stack(following)
        visited.append(x)
    return visited


@pytest.mark.parametrize("norm, eps", [("Linf", 8 / 255), ("L2", 1.0)])
def test_apgd_visits_the_points_of_the_papers_algorithm(conv, images, norm, eps):
    chosen, steps = rows_of(images, slice(0, 16)), 100
    spy = Spy(conv, keep=True)
    options = dict(eps=eps, norm=norm, steps=steps, sample_ids=chosen.sample_ids, early_stop=False)
    apgd(spy, chosen.pixels, chosen.labels, **options)
    ours = spy.seen[1:]  # after the clean images
    expected = apgd_of_the_paper(conv, chosen.pixels, chosen.labels, ours[0], eps, norm, steps)
    assert len(ours) == len(expected) == steps + 1
    apart = np.array([distances(a, b, "Linf") for a, b in zip(ours, expected, strict=True)])
    assert apart[:23].max() < 1e-6  # up to the first checkpoint
    # later a loss that differs in its last bit may halve a step here and not there, in few images
    assert (apart.max(0) < 1e-5).mean() >= 12 / 16


def halvings(losses: list[float]) -> list[int]:
    """At which steps APGD of 100 steps halves its step length, when its points have these losses."""
    grey, eps, one = torch.full((1, 3, 2, 2), 0.5), torch.tensor([0.1]), torch.tensor([1])
    rule, steps = Apgd(steps=100), []
    rows = {"clean": grey, "eps": eps, "id": one, "start": 0 * one, "y": 0 * one}
    rows |= rule.prepare(rows, torch.zeros(1, 10))
    rows |= rule.start(rows)
    for step, loss in enumerate(losses):
        before = rows["length"]
        rows |= rule.move(rows | {"step": step * one}, torch.tensor([loss]), torch.ones_like(grey))
        if rows["length"] < before:
            assert rows["length"] == before / 2
            steps.append(step)
    return steps


def test_the_step_is_halved_as_the_paper_says():
    rising = [float(i) for i in range(100)]
    assert halvings(rising) == []
    every = [22, 41, 57, 70, 80, 87, 93, 99]
    assert halvings([float(i % 2) for i in range(100)]) == every  # up half of the time only
    assert halvings([-loss for loss in rising]) == every
    # rising, but never to the loss of the start: halved, unless it has just been
    assert halvings([1000.0, *rising[1:]]) == [22, 57, 80, 93]
    # up three times in four is not often enough: 12 of the 16 steps from 41 to 57
    sixteen = [float(i // 4 * 3 + i % 4) if i % 4 < 3 else float(i // 4 * 3 + 1) for i in range(100)]
    ups = sum(b > a for a, b in zip(sixteen[41:57], sixteen[42:58], strict=True))
    assert ups <= 12 and 57 in halvings(sixteen)


def test_targeted_dlr_by_hand():
    logits = torch.tensor([[5.0, 3.0, 2.0, 1.0, 0.0], [1.0, 4.0, 0.0, 2.0, 8.0]])
    labels, targets = torch.tensor([0, 3]), torch.tensor([2, 1])
    expected = [(2 - 5) / (5 - (2 + 1) / 2), (4 - 2) / (8 - (2 + 1) / 2)]
    torch.testing.assert_close(targeted_dlr(logits, labels, targets), torch.tensor(expected))


def test_targeted_dlr_does_not_change_with_scale_and_shift():
    logits = torch.randn(100, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels, targets = torch.arange(100) % 10, (torch.arange(100) + 3) % 10
    expected = targeted_dlr(logits, labels, targets)
    for scale, shift in ((1000.0, 0.0), (0.01, 5.0), (3.0, -70.0)):
        torch.testing.assert_close(targeted_dlr(scale * logits + shift, labels, targets), expected)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("loss", ["ce", "dlr"])
def test_apgd_works_for_two_and_three_classes(n_classes, loss):
    model = Linear(48, n_classes)
    pixels = 0.4 + 0.2 * torch.rand(60, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    labels = model(pixels).argmax(1)
    w = model.layer.weight.detach()
    logits = model(pixels).detach()
    # image by image: some class is within reach, the closed form for a linear model
    slopes = (w[None] - w[labels][:, None]).abs().sum(-1)
    gaps = logits.gather(1, labels[:, None]) - logits
    reach = torch.where(slopes > 0, gaps / slopes, torch.inf).amin(1)
    eps = float(reach.median())
    clear = (reach / eps - 1).abs() > 0.01
    broken = wrong(model, apgd(model, pixels, labels, eps=eps, steps=30, loss=loss), labels)
    assert 15 < broken.sum() < 45
    if loss == "dlr" or n_classes == 2:
        np.testing.assert_array_equal(broken[clear], (reach < eps)[clear])
    else:  # cross-entropy is convex, and may climb towards the wrong one of two classes
        assert not (broken & (reach >= eps).numpy())[clear].any() and broken.sum() > 0.7 * (reach < eps).sum()


def test_targets_are_the_likeliest_other_classes_one_start_each(conv, images):
    """Each start climbs the loss towards a target of its own, restarts after all targets."""
    chosen = rows_of(images, slice(0, 20))
    others = conv(chosen.pixels).scatter(1, chosen.labels[:, None], -torch.inf)
    targets = dict(zip(chosen.sample_ids.tolist(), others.topk(3).indices, strict=True))
    seen = []

    class Noted(Apgd):
        def loss(self, logits, rows):
            found = super().loss(logits, rows)
            ids, starts = rows["id"].tolist(), rows["start"].tolist()
            turns = torch.stack([targets[i][start % 3] for i, start in zip(ids, starts, strict=True)])
            torch.testing.assert_close(found, targeted_dlr(logits, rows["y"], turns))
            seen.extend(starts)
            return found

    engine.run(conv, [chosen], Noted(steps=1, n_targets=3, restarts=2), Plan((0.05,), early_stop=False))
    assert sorted(seen) == sorted(list(range(6)) * 20 * 2)  # two points of each start


# Square


def square_rows(steps: torch.Tensor, *, side: int = 32, ids=None, eps: float = 0.1) -> dict[str, torch.Tensor]:
    """Rows of grey images as Square sees them, one for each step number."""
    n = len(steps)
    grey = torch.full((n, 3, side, side), 0.5)
    ids = torch.arange(n) if ids is None else ids
    state = {"clean": grey, "x": grey, "kept": grey, "kept_loss": torch.full((n,), -torch.inf)}
    return state | {"id": ids, "eps": torch.full((n,), eps), "start": torch.zeros_like(ids), "step": steps}


def proposed(rule: Square, rows) -> torch.Tensor:
    return rule.move(rows, torch.zeros(len(rows["id"])), None)["x"]


@pytest.mark.parametrize("steps", [60, 1000, 10_000])
def test_squares_shrink_as_in_the_authors_code(steps):
    """By the share of the queries that came before: with few of them, too, the first square has its full area."""
    shares = {0.001: 1, 0.005: 2, 0.02: 4, 0.05: 8, 0.1: 16, 0.2: 32, 0.4: 64, 0.6: 128, 0.8: 256, 1.0: 512}
    turns = [round(limit * steps) for limit in shares]
    at = sorted({0, *(turn + i for turn in turns for i in (-2, -1, 0, 1) if 0 <= turn + i < steps)})
    found = (proposed(Square(steps=steps), square_rows(torch.tensor(at))) != 0.5)[:, 0].sum((1, 2))
    for step, area in zip(at, found.tolist(), strict=True):
        share = next(part for limit, part in shares.items() if step / steps <= limit)
        expected = max(round(math.sqrt(0.8 * 1024 / share)), 1)
        assert area == expected**2, f"step {step}"


def test_a_proposal_is_one_square_of_one_sign_in_each_channel():
    found = proposed(Square(steps=1000), square_rows(torch.full((200,), 30)))
    for image in found:
        for channel in image:
            rows, columns = (channel != 0.5).nonzero(as_tuple=True)
            height, width = (int(at.max() - at.min()) + 1 for at in (rows, columns))
            assert height == width and len(rows) == height * width
            values = channel[rows, columns].unique()
            assert len(values) == 1 and abs(abs(float(values) - 0.5) - 0.1) < 1e-6
    signs = (found.amax((2, 3)) > 0.5).float().mean(0)
    assert ((signs - 0.5).abs() < 0.15).all()
    all_alike = (found.amax((2, 3)) > 0.5).float().sum(1) % 3 == 0
    assert 0.1 < all_alike.float().mean() < 0.4  # a quarter, where each channel has a sign of its own


def test_squares_lie_everywhere_alike():
    found = proposed(Square(steps=1000), square_rows(torch.full((5000,), 30), side=8)) != 0.5
    top, left = found[:, 0].any(2).float().argmax(1), found[:, 0].any(1).float().argmax(1)
    side = int(found[0, 0].any(1).sum())
    places = 8 - side + 1
    assert places > 1
    assert stats.chisquare(np.bincount(top * places + left, minlength=places**2)).pvalue > 1e-3


def test_square_keeps_only_what_raises_the_margin(conv, images):
    holding = ~wrong(conv, images.pixels, images.labels)
    for position in np.flatnonzero(holding)[:5]:
        spy = Spy(conv, keep=True)
        one = rows_of(images, slice(int(position), int(position) + 1))
        eps, queries = 0.05, 60
        found = square(spy, *one[:2], eps=eps, queries=queries, sample_ids=one.sample_ids, early_stop=False)
        tried = torch.cat(spy.seen[1:])
        assert len(tried) == queries + 1 and spy.n_backward == 0
        margins = margin(conv(tried), one.labels.expand(len(tried))).tolist()
        sides = [Square(steps=queries)._sides(torch.tensor([step]), 32, 32).item() for step in range(queries)]
        best = 0
        for query in range(1, len(tried)):
            changed = (tried[query] != tried[best]).any(0).nonzero()
            if len(changed):  # a square on the best point so far, never on a worse one
                assert (changed.amax(0) - changed.amin(0)).max() < sides[query - 1]
            if margins[query] > margins[best]:
                best = query
        assert torch.equal(found[0], tried[best])


def test_square_moves_every_pixel_to_the_edge_of_the_ball(conv, images):
    found = square(conv, images.pixels, images.labels, eps=0.1, queries=30, early_stop=False)
    moved = (found - images.pixels).abs()
    on_edge = (moved - 0.1).abs() < 1e-6
    clipped = (found == 0) | (found == 1)
    assert (on_edge | clipped).all() and on_edge.float().mean() > 0.3


def test_square_starts_with_stripes(conv, images):
    spy = Spy(conv, keep=True)
    square(spy, torch.full_like(images.pixels, 0.5), images.labels, eps=0.1, queries=1, early_stop=False)
    stripes = spy.seen[1] - 0.5
    assert torch.equal(stripes, stripes[:, :, :1].expand_as(stripes))  # one sign for each column and channel
    torch.testing.assert_close(stripes.abs(), torch.full_like(stripes, 0.1))
    assert abs(stripes[:, :, 0].sign().mean()) < 5 / math.sqrt(60 * 96)
