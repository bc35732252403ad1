"""Corruption errors by hand, by scipy's bootstrap, and in the figure."""

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from scipy import stats

from src import plotting
from src.tables.texture_shape import corruption_errors


def planted(model: str = "cnn", *, n: int = 80, seed: int = 0) -> pd.DataFrame:
    """A network that errs on a tenth of the clean images, on 30 % under fog, and on half to all under snow."""
    rng = np.random.default_rng(seed)
    shares = {("clean", 0.0): 0.1, ("fog", 1.0): 0.3, ("fog", 2.0): 0.3, ("snow", 1.0): 0.5, ("snow", 2.0): 1.0}
    rows = [
        pd.DataFrame(dict(condition=name, level=level, sample_id=range(n), label=1, prediction=rng.random(n) >= share))
        for (name, level), share in shares.items()
    ]
    return pd.concat(rows).assign(model=model, model_seed=0, dataset="planted").astype({"prediction": int})


def test_errors_are_means_over_severities_then_corruptions():
    table = planted()
    wrong = table.assign(wrong=table["prediction"] != 1).groupby(["condition", "level"])["wrong"].mean()
    (row,) = corruption_errors(table, n_resamples=10).itertuples()
    mean = (wrong["fog"].mean() + wrong["snow"].mean()) / 2
    assert (row.n, row.clean, row.mce) == pytest.approx((80, wrong["clean", 0], mean))
    assert row.relative == pytest.approx(mean - wrong["clean", 0])


def test_one_corruption_counts_once_however_many_severities_it_has():
    table = planted()
    fewer = table[~((table["condition"] == "fog") & (table["level"] == 2))]
    wrong = fewer.assign(wrong=fewer["prediction"] != 1).groupby(["condition", "level"])["wrong"].mean()
    (row,) = corruption_errors(fewer, n_resamples=10).itertuples()
    assert row.mce == pytest.approx((wrong["fog"].mean() + wrong["snow"].mean()) / 2)


def test_the_interval_is_the_bootstrap_of_scipy():
    table = planted(n=200)
    wide = table.assign(wrong=1.0 * (table["prediction"] != 1)).pivot(
        index="sample_id", columns=["condition", "level"], values="wrong"
    )
    excess = wide[["fog", "snow"]].mean(axis=1) - wide["clean", 0]
    other = stats.bootstrap((excess,), np.mean, n_resamples=4000, method="percentile", rng=1).confidence_interval
    (row,) = corruption_errors(table, n_resamples=4000).itertuples()
    assert (row.relative_low, row.relative_high) == pytest.approx(other, abs=0.01)


def test_a_network_that_corruptions_do_not_touch_has_nothing_relative():
    table = planted()
    clean = table.loc[table["condition"] == "clean", "prediction"].to_numpy()
    (row,) = corruption_errors(table.assign(prediction=np.tile(clean, 5))).itertuples()
    assert row.mce == pytest.approx(row.clean)
    assert np.abs([row.relative, row.relative_low, row.relative_high]).max() < 1e-6


def test_tables_with_holes_are_refused():
    table = pd.concat([planted(), planted("vit", seed=1)])
    hole = (table["model"] == "vit") & (table["condition"] == "snow") & (table["sample_id"] == 3)
    with pytest.raises(ValueError, match="did not see the same images"):
        corruption_errors(table[~hole])
    with pytest.raises(ValueError, match="no corruptions"):
        corruption_errors(table[table["condition"] == "clean"])


def test_the_figure_says_what_corruptions_cost():
    table = pd.concat([planted(), planted("vit", seed=1)])
    figure = plotting.texture_shape.corruptions(table)
    texts = [text.get_text() for text in figure.axes[0].texts]
    for name, row in zip(("CNN", "ViT"), corruption_errors(table).itertuples(), strict=True):
        assert any(text.startswith(f"{name}\n+{100 * row.relative:.0f} [") for text in texts)
    plt.close(figure)
