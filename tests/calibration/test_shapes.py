"""Two to two hundred classes through the tables and figures of calibration."""

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from src import plotting, tables

mpl.use("Agg")


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


@pytest.mark.parametrize("n_classes", [2, 3, 200])
def test_the_tables_and_figures_are_whole(n_classes):
    rng = np.random.default_rng(0)
    n, parts = 60, []
    for model in ("a", "b"):
        labels = np.arange(n) % n_classes
        logits = rng.normal(size=(n, n_classes)) + 2 * (np.arange(n_classes) == labels[:, None])
        half = np.where(np.arange(n) % 4 < 2, "fit", "judged")
        table = pd.DataFrame(dict(model=model, model_seed=0, sample_id=np.arange(n), label=labels, half=half))
        parts.append(table.join(pd.DataFrame(logits).add_prefix("logit_")))
    judged = tables.calibration.scaled(pd.concat(parts, ignore_index=True))
    assert np.allclose(judged.filter(regex=r"^p_\d+$").sum(axis=1), 1)
    drawing = dict(n_resamples=5, seed=0)
    measured = tables.calibration.measured(judged, n_bins=5, **drawing)
    assert len(measured) == 8 and measured[["ece", "Brier"]].notna().all(axis=None)
    bins = tables.calibration.reliability(judged[judged["condition"] == "none"], n_bins=5, **drawing)
    raw = judged[judged["condition"] == "none"]
    by_bins = tables.calibration.errors_by_bins(raw, **drawing)
    for figure in (
        plotting.calibration.confidences(judged),
        plotting.calibration.reliability(bins, measured, dataset="pictures"),
        plotting.calibration.errors(measured, by_bins, tables.calibration.coverage(raw)),
    ):
        figure.canvas.draw()
