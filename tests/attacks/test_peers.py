"""The attacks against torchattacks and foolbox: same network, same images, same radius and steps."""

import foolbox
import numpy as np
import pytest
import torch
import torchattacks
from torch import nn
from victims import distances, some_images, trained_conv, wrong

from src.attacks import apgd, fgsm, pgd, square
from src.data.batches import Batch
from src.models import build_model

LINF, L2 = 8 / 255, 1.0  # about half of the images hold


@pytest.fixture(scope="module")
def conv() -> nn.Module:
    return trained_conv()


@pytest.fixture(scope="module")
def images() -> Batch:
    return some_images(1000)


def broken_by(attack, model, images: Batch, **options) -> np.ndarray:
    found = attack(model, images.pixels, images.labels, **options)
    return wrong(model, found, images.labels)


def broken_by_torchattacks(attack, model, images: Batch, **options) -> np.ndarray:
    """Which images the peer breaks; one that is misclassified as it is counts as broken whatever comes back."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        found = attack(model, **options)(images.pixels, images.labels)
    return wrong(model, found, images.labels) | wrong(model, images.pixels, images.labels)


def broken_by_foolbox(attack, model, images: Batch, eps: float) -> np.ndarray:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
        _, found, _ = attack(network, images.pixels, images.labels, epsilons=eps)
    return wrong(model, found, images.labels) | wrong(model, images.pixels, images.labels)


def report(what: str, ours: np.ndarray, *theirs: np.ndarray) -> None:
    """Shown by `pytest -rP`."""
    print(f"{what}: robust {1 - ours.mean():.1%}, peers {', '.join(f'{1 - each.mean():.1%}' for each in theirs)}")


@pytest.mark.parametrize("name", ["conv", "mlp"])
def test_fgsm_is_theirs(conv, images, name):
    model = conv if name == "conv" else build_model("mlp", "fashion_mnist")
    ours = fgsm(model, images.pixels, images.labels, eps=LINF)
    theirs = torchattacks.FGSM(model, eps=LINF)(images.pixels, images.labels)
    # the sign of a gradient that is nearly zero may differ
    assert (abs(ours - theirs) < 1e-6).float().mean() > 0.999
    network = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
    attack = foolbox.attacks.LinfFastGradientAttack(random_start=False)
    _, from_foolbox, _ = attack(network, images.pixels, images.labels, epsilons=LINF)
    verdicts = [wrong(model, x, images.labels) for x in (ours, theirs, from_foolbox)]
    report(f"FGSM {name}", *verdicts)
    assert 0.2 < verdicts[0].mean() < 0.9
    for other in verdicts[1:]:
        assert (verdicts[0] != other).mean() <= 0.01


def test_fgsm_in_l2_is_theirs(conv, images):
    ours = fgsm(conv, images.pixels, images.labels, eps=L2, norm="L2")
    network = foolbox.PyTorchModel(conv, bounds=(0, 1), device="cpu")
    attack = foolbox.attacks.L2FastGradientAttack(random_start=False)
    _, theirs, _ = attack(network, images.pixels, images.labels, epsilons=L2)
    verdicts = [wrong(conv, x, images.labels) for x in (ours, theirs)]
    report("FGSM L2", *verdicts)
    # foolbox clips to the pixel range as we do
    assert (distances(ours, theirs, "L2") < 1e-4).mean() > 0.99
    assert (verdicts[0] != verdicts[1]).mean() <= 0.01


@pytest.mark.parametrize("random_start", [False, True])
def test_pgd_is_theirs(conv, images, random_start):
    steps, share = 7, 0.3
    options = dict(steps=steps, random_start=random_start)
    ours = broken_by(pgd, conv, images, eps=LINF, rel_step=share, sample_ids=images.sample_ids, **options)
    a = broken_by_torchattacks(torchattacks.PGD, conv, images, eps=LINF, alpha=share * LINF, **options)
    b = broken_by_foolbox(foolbox.attacks.LinfPGD(abs_stepsize=share * LINF, **options), conv, images, LINF)
    report(f"PGD, random_start={random_start}", ours, a, b)
    assert 0.3 < ours.mean() < 0.7
    for theirs in (a, b):
        assert abs(ours.sum() - theirs.sum()) <= 10  # a point
        if not random_start:  # their last point is one of ours
            assert (theirs & ~ours).mean() <= 0.01


def test_pgd_ends_where_theirs_does(conv, images):
    """From the image itself, where the loss rises to the last step, as it does on nearly all images."""
    options = dict(steps=4, random_start=False)
    ours = pgd(conv, *images[:2], eps=LINF, rel_step=0.25, early_stop=False, **options)
    theirs = torchattacks.PGD(conv, eps=LINF, alpha=LINF / 4, **options)(images.pixels, images.labels)
    # a pixel whose gradient is nearly zero may go the other way
    same = (abs(ours - theirs) < 1e-6).flatten(1).float().mean(1)
    assert (same > 0.995).float().mean() > 0.9


@pytest.mark.parametrize("random_start", [False, True])
def test_pgd_in_l2_is_theirs(conv, images, random_start):
    # uniform starts lie at the edge, in any direction, and need some steps; torchattacks' are nearer to the image
    steps, share = (14, 0.2) if random_start else (7, 0.3)
    options = dict(steps=steps, random_start=random_start)
    ours = broken_by(pgd, conv, images, eps=L2, norm="L2", rel_step=share, sample_ids=images.sample_ids, **options)
    a = broken_by_torchattacks(torchattacks.PGDL2, conv, images, eps=L2, alpha=share * L2, **options)
    b = broken_by_foolbox(foolbox.attacks.L2PGD(abs_stepsize=share * L2, **options), conv, images, L2)
    report(f"PGD L2, random_start={random_start}", ours, a, b)
    assert 0.3 < ours.mean() < 0.7
    for theirs in (a, b):
        assert abs(ours.sum() - theirs.sum()) <= 10  # a point
        if not random_start:
            assert (theirs & ~ours).mean() <= 0.01


@pytest.mark.parametrize("norm, eps", [("Linf", LINF), ("L2", L2)])
def test_apgd_is_no_weaker_than_theirs(conv, images, norm, eps):
    ours = broken_by(apgd, conv, images, eps=eps, norm=norm, steps=12, sample_ids=images.sample_ids)
    theirs = broken_by_torchattacks(torchattacks.APGD, conv, images, eps=eps, norm=norm, steps=12, n_restarts=1)
    report(f"APGD-CE {norm}", ours, theirs)
    assert 0.3 < ours.mean() < 0.7 and ours.sum() >= theirs.sum() - 10


def test_targeted_apgd_is_no_weaker_than_theirs(conv, images):
    options = dict(loss="dlr", n_targets=2, sample_ids=images.sample_ids)
    ours = broken_by(apgd, conv, images, eps=LINF, steps=8, **options)
    theirs = broken_by_torchattacks(torchattacks.APGDT, conv, images, eps=LINF, steps=8, n_restarts=1, n_classes=3)
    report("APGD-T", ours, theirs)
    assert 0.3 < ours.mean() < 0.7 and ours.sum() >= theirs.sum() - 10


def test_square_is_no_weaker_than_theirs(conv, images):
    """Against the mean over seeds: the peer draws one square for all images, so that its counts differ by a hundred."""
    eps, queries = 0.1, 60
    ours = broken_by(square, conv, images, eps=eps, queries=queries, sample_ids=images.sample_ids)
    options = dict(eps=eps, n_queries=queries, n_restarts=1, loss="margin")
    theirs = [broken_by_torchattacks(torchattacks.Square, conv, images, seed=seed, **options) for seed in range(12)]
    report("Square", ours, *theirs)
    assert 0.3 < ours.mean() < 0.8 and ours.mean() >= np.mean(theirs) - 0.04
