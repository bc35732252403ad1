"""Two to two hundred classes through the tables and figures of calibration."""

import numpy as np
import pandas as pd
import pytest

from src import plotting, tables


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


def test_a_network_without_a_temperature_goes_without_and_the_others_are_as_they_were():
    """Of images that are all right, or of logits at chance, no temperature is the best."""
    rng, n = np.random.default_rng(0), 60
    labels, half = np.arange(n) % 2, np.where(np.arange(n) % 4 < 2, "fit", "judged")
    strengths = {"usual": 1.0, "all right": 100.0, "against": -1.0}
    facts = dict(model_seed=0, sample_id=np.arange(n), label=labels, half=half)
    parts = [
        pd.DataFrame(facts | dict(model=name)).join(
            pd.DataFrame(rng.normal(size=(n, 2)) + strength * np.eye(2)[labels]).add_prefix("logit_")
        )
        for name, strength in strengths.items()
    ]
    with pytest.warns(UserWarning) as told:
        judged = tables.calibration.scaled(pd.concat(parts, ignore_index=True))
    assert [str(each.message).partition(";")[0] for each in told] == [
        "all right, training seed 0: temperature is left out, no temperature fits best: all 30 images are right, "
        "it runs to 0",
        "against, training seed 0: temperature is left out, no temperature fits best: the logits favour other classes, "
        "it runs to infinity",
    ]
    kinds = judged.groupby("model")["condition"].unique()
    assert list(kinds["usual"]) == ["none", "temperature", "vector", "isotonic"]
    assert list(kinds["all right"]) == list(kinds["against"]) == ["none", "vector", "isotonic"]
    alone = tables.calibration.scaled(parts[0])
    pd.testing.assert_frame_equal(judged[judged["model"] == "usual"].reset_index(drop=True), alone)
    drawing = dict(n_resamples=5, seed=0)
    measured = tables.calibration.measured(judged, n_bins=5, **drawing)
    rows = judged[judged["condition"].isin(["none", "temperature"])]
    bins = tables.calibration.reliability(rows, n_bins=5, **drawing)
    raw = judged[judged["condition"] == "none"]
    by_bins = tables.calibration.errors_by_bins(raw, **drawing)
    assert len(tables.calibration.compared(rows, n_bins=5, **drawing)) == 3  # as trained; one alone after temperature
    figure = plotting.calibration.reliability(bins, measured, dataset="pictures")
    assert (
        [ax.has_data() for ax in figure.axes]
        == [ax.axison for ax in figure.axes]
        == [True, True, True, True, False, False]
    )
    plotting.calibration.errors(measured, by_bins, tables.calibration.coverage(raw)).canvas.draw()
