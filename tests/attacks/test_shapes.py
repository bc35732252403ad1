"""Two to two hundred classes, grey and 96 pixels through the tables and figures of attacks."""

import pytest
import torch
from shapes import SHAPES, images_of, zoo_of

from src import plotting, tables
from src.attacks import apgd, measure_audits, measure_curves, measure_transfer, measure_worst_cases
from src.data.loaders import make_loader


@pytest.fixture(params=SHAPES)
def shape(request):
    return request.param


def test_the_tables_and_figures_are_whole(shape):
    images, zoo = images_of(shape).subset(8, seed=0), zoo_of(shape)
    loader = make_loader(images, batch_size=6)
    curves = measure_curves(zoo, loader, pgd_steps=1).assign(dataset="pictures")
    rows = curves.groupby(["model", "condition", "eps"]).size()
    assert (rows == 8).all() and curves["prediction"].between(0, len(images.classes) - 1).all()
    worst = measure_worst_cases(zoo, loader, eps_255=[8], steps=2, n_targets=9, queries=4)
    assert (worst.groupby("model")["sample_id"].nunique() == 8).all()
    transfer = measure_transfer(zoo, loader, eps=8 / 255)
    audit = measure_audits(zoo, loader, queries=4)
    checks = tables.attacks.judge_audit(audit)
    assert len(checks) == 14 - len(tables.attacks.blunt_square(audit)) and checks["passed"].dtype == bool
    plotting.attacks.curves(curves, pgd_steps=1).canvas.draw()
    plotting.attacks.radii(curves, pgd_steps=1).canvas.draw()
    plotting.attacks.transfer(transfer).canvas.draw()


def test_the_targeted_loss_finds_the_only_other_class():
    """Of two classes the other one is the only target, however many are asked for."""
    images = images_of("2 classes")
    (batch,) = make_loader(images, batch_size=len(images))
    model = zoo_of("2 classes")["own conv", 0]
    attacked = apgd(model, batch.pixels, batch.labels, eps=0.5, loss="dlr", n_targets=9, steps=10)
    with torch.no_grad():
        assert (model(attacked).argmax(1) != batch.labels).all()
