"""What tables of pictures say, against scipy and closed forms; the figures of notebook 04b; neither needs torch."""

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from scipy import stats

from src import plotting, tables
from src.results import save_table


def class_rows(values, model="cnn", condition="maco"):
    """values: [targets, seeds]."""
    return pd.DataFrame(
        [
            dict(model=model, model_seed=0, condition=condition, target=k, seed=s, p=float(value))
            for k, row in enumerate(values)
            for s, value in enumerate(row)
        ]
    )


def test_one_class_gives_students_interval():
    values = np.array([[0.2, 0.5, 0.6, 0.4]])
    (row,) = tables.feature_vis.mean_over_seeds(class_rows(values), ["p"], by=["model"]).itertuples()
    low, high = stats.t.interval(0.95, 3, loc=values.mean(), scale=stats.sem(values[0]))
    assert (row.mean, row.low, row.high, row.n) == pytest.approx((values.mean(), low, high, 4))


def test_two_classes_give_welchs_interval():
    """The mean of two classes is half their sum: the interval of Welch's test, as for a difference."""
    a, b = [0.1, 0.4, 0.3], [0.8, 0.9, 0.4]
    (row,) = tables.feature_vis.mean_over_seeds(class_rows([a, b]), ["p"], by=["model"]).itertuples()
    welch = stats.ttest_ind(a, -np.array(b), equal_var=False).confidence_interval(0.95)
    assert (2 * row.low, 2 * row.high) == pytest.approx((welch.low, welch.high))


def test_seeds_without_spread_and_without_company():
    groups = pd.concat([class_rows([[0.5, 0.5]], "mlp"), class_rows([[0.3]], "cnn")])
    table = tables.feature_vis.mean_over_seeds(groups, ["p"], by=["model", "condition"]).set_index("model")
    assert tuple(table.loc["mlp", ["mean", "low", "high"]]) == pytest.approx((0.5, 0.5, 0.5))
    assert table.loc["cnn", "mean"] == 0.3 and np.isnan(table.loc["cnn", "low"])


def test_the_interval_of_a_probability_ends_at_0_and_1():
    table = class_rows([[0.999, 0.9], [0.8, 1.0]]).assign(tv=[0.999, 0.9, 0.8, 1.0])
    cut, whole = tables.feature_vis.mean_over_seeds(table, ["p", "tv"], by=["model"]).itertuples()
    assert cut.high == 1 and whole.high > 1 and cut.low == whole.low < cut.mean
    (low,) = tables.feature_vis.mean_over_seeds(table.assign(p=1 - table["p"]), ["p"], by=["model"]).itertuples()
    assert low.low == 0 and low.high == pytest.approx(1 - cut.low)


def test_the_interval_over_seeds_covers_the_truth():
    rng, truth, inside = np.random.default_rng(0), np.array([0.2, 0.5, 0.9]), 0
    for _ in range(300):
        values = truth[:, None] + rng.normal(0, [[0.02], [0.1], [0.05]], (3, 3))
        (row,) = tables.feature_vis.mean_over_seeds(class_rows(values), ["p"], by=["model"]).itertuples()
        inside += row.low <= truth.mean() <= row.high
    assert 0.91 < inside / 300 <= 0.99


def inversion_rows(curves, model="cnn", condition="fourier"):
    """curves: [images, depths]."""
    curves = np.asarray(curves, float)
    return pd.DataFrame(
        [
            dict(model=model, model_seed=0, condition=condition, layer=f"l{d}", depth=d / (curves.shape[1] - 1))
            | dict(sample_id=i, seed=0, ssim=curves[i, d])
            for d in range(curves.shape[1])
            for i in range(curves.shape[0])
        ]
    )


def test_depth_curves_have_bootstrap_intervals_over_images():
    curves = np.random.default_rng(1).random((25, 3))
    table = tables.feature_vis.depth_curve(inversion_rows(curves), "ssim")
    np.testing.assert_allclose(table["mean"], curves.mean(0))
    assert table["layer"].tolist() == ["l0", "l1", "l2"] and (table["n"] == 25).all()
    for d, row in enumerate(table.itertuples()):
        peer = stats.bootstrap((curves[:, d],), np.mean, method="percentile", n_resamples=10_000, rng=0)
        assert (row.low, row.high) == pytest.approx(tuple(peer.confidence_interval), abs=0.006)


def test_seeds_of_one_image_are_no_further_images():
    once = inversion_rows([[0.9, 0.1], [0.5, 0.3], [0.7, 0.0]])
    twice = pd.concat([once.assign(ssim=once["ssim"] + 0.1), once.assign(seed=1, ssim=once["ssim"] - 0.1)])
    pd.testing.assert_frame_equal(
        tables.feature_vis.depth_curve(twice, "ssim"), tables.feature_vis.depth_curve(once, "ssim")
    )


def test_survival_is_the_area_under_the_curve():
    table = inversion_rows([[1, 0.5, 0], [1, 1, 1]]).sample(frac=1, random_state=0)
    areas = tables.feature_vis.survival(table, "ssim").set_index("sample_id")["survival"]
    assert areas[0] == pytest.approx(0.5) and areas[1] == pytest.approx(1)


def test_pairs_are_compared_by_wilcoxon_and_holm():
    rng = np.random.default_rng(2)
    values = {name: rng.random(15) + shift for name, shift in (("mlp", 0.5), ("cnn", 0.1), ("vit", 0.0))}
    table = pd.concat(
        pd.DataFrame(dict(model=name, sample_id=np.arange(15), survival=v)) for name, v in values.items()
    ).sample(frac=1, random_state=1)
    table = table.sort_values("model", key=lambda names: names.map(list(values).index), kind="stable")
    tests = tables.feature_vis.compare_pairs(table, "survival", of="model", on=["sample_id"])
    assert list(zip(tests["a"], tests["b"], strict=True)) == [("mlp", "cnn"), ("mlp", "vit"), ("cnn", "vit")]
    p = [stats.wilcoxon(values[a], values[b]).pvalue for a, b in zip(tests["a"], tests["b"], strict=True)]
    np.testing.assert_allclose(tests["p_value"], p)
    ordered = np.sort(p)
    assert tests["p_holm"].min() == pytest.approx(min(1, 3 * ordered[0])) and (tests["p_holm"] >= p).all()
    assert tests["difference"][0] == pytest.approx(values["mlp"].mean() - values["cnn"].mean())
    same = tables.feature_vis.compare_pairs(
        pd.concat([table.assign(model="a"), table.assign(model="b")]).drop_duplicates(["model", "sample_id"]),
        "survival", of="model", on=["sample_id"],
    )  # fmt: skip
    assert same["p_value"].tolist() == [1.0] and same["difference"].tolist() == [0.0]
    with pytest.raises(ValueError, match="lack a value"):
        tables.feature_vis.compare_pairs(table.iloc[1:], "survival", of="model", on=["sample_id"])
    with pytest.raises(ValueError, match="twice"):
        tables.feature_vis.compare_pairs(pd.concat([table, table]), "survival", of="model", on=["sample_id"])


def judged_rows(model, **judges):
    """Six classes by one method, seen with constant probabilities by each judge; NaN of one that did not judge."""
    table = class_rows(np.full((6, 1), 0.9), model)
    return table.assign(**{f"p_by_{name}": value + 0.01 * np.arange(6) for name, value in judges.items()})


def test_makers_are_compared_by_the_judges_that_both_have():
    """The mean over all judges would put the MLP first, whom alone the lenient CNN judges; the ViT says otherwise."""
    seen = dict(mlp=dict(cnn=0.9, vit=0.2), cnn=dict(mlp=0.1, vit=0.4), vit=dict(mlp=0.1, cnn=0.8))
    table = pd.concat([judged_rows(model, **by) for model, by in seen.items()])
    tests = tables.feature_vis.compare_makers(table).set_index(["a", "b"])
    assert tests["judges"].to_dict() == {("mlp", "cnn"): "vit", ("mlp", "vit"): "cnn", ("cnn", "vit"): "mlp"}
    assert tests["difference"].tolist() == pytest.approx([-0.2, 0.1, 0.0])
    assert tests.loc[("mlp", "cnn"), "p_value"] == pytest.approx(2 / 2**6)
    assert (tests["p_holm"] >= tests["p_value"]).all()
    more = table[table["model"] != "vit"].assign(p_by_mixer=[*[0.6] * 6, *[0.2] * 6])
    (both,) = tables.feature_vis.compare_makers(more).itertuples()
    assert both.judges == "vit and mixer" and both.difference == pytest.approx((-0.2 + 0.4) / 2)


def test_makers_without_a_judge_in_common_and_tables_without_judges_are_not_compared():
    alone = pd.concat([judged_rows("mlp", cnn=0.5), judged_rows("cnn", mlp=0.5)])
    for table in (alone, alone[["model", "condition", "target", "seed", "p"]]):
        assert tables.feature_vis.compare_makers(table).empty
    assert tables.feature_vis.judged(alone) == ["p_by_mlp", "p_by_cnn"]


def test_panels_of_judges_lack_their_own_architecture():
    table = pd.concat([judged_rows("mlp", cnn=0.5, vit=0.2), judged_rows("cnn", mlp=0.1, vit=0.4)])
    columns = tables.feature_vis.judged(table)
    means = tables.feature_vis.mean_over_seeds(table, columns, by=["model", "condition"])
    figure = plotting.feature_vis.measures(means)
    assert [ax.get_xlabel() for ax in figure.axes] == [f"probability,\njudged by {n}" for n in ("MLP", "CNN", "ViT")]
    shown = [[float(line.get_xdata()[0]) for line in ax.lines] for ax in figure.axes]
    np.testing.assert_allclose(shown, [[np.nan, 0.125], [0.525, np.nan], [0.225, 0.425]])
    plt.close(figure)


def test_diversity_is_the_distance_between_seeds():
    images = np.zeros((4, 2, 2, 3), np.uint8)
    images[1], images[2], images[3] = 51, 102, 255
    table = class_rows([[0, 0, 0], [0]]).assign(picture=[0, 1, 2, 3])
    found = tables.feature_vis.diversity(images, table).set_index("target")
    assert found.loc[0, "distance"] == pytest.approx((0.2 + 0.4 + 0.2) / 3) and found.loc[0, "n"] == 3
    assert np.isnan(found.loc[1, "distance"])
    again = tables.feature_vis.diversity(images / 255, table).set_index("target")
    assert again.loc[0, "distance"] == pytest.approx(found.loc[0, "distance"])


def test_pictures_come_back_and_only_with_their_own_table(tmp_path):
    name = (tmp_path, "04b_feature_vis", "classes")
    images = np.random.default_rng(0).integers(0, 256, (3, 4, 4, 3)).astype(np.uint8)
    table = class_rows([[0.1, 0.2]]).assign(dataset="fashion_mnist")

    def keep(images):
        checksum = tables.feature_vis.save_pictures(images, *name)
        save_table(table, *name, parameters=dict(pictures_sha256=checksum), provenance={})

    keep(images)
    np.testing.assert_array_equal(tables.feature_vis.load_pictures(*name), images)
    keep(images[..., :1].repeat(3, axis=3))
    np.testing.assert_array_equal(tables.feature_vis.load_pictures(*name), images[..., :1].repeat(3, axis=3))
    with np.load(tmp_path / "04b_feature_vis" / "classes.npz") as file:
        assert file["images"].shape == (3, 4, 4, 1)
    tables.feature_vis.save_pictures(images[::-1], *name)
    with pytest.raises(ValueError, match="does not hold the pictures"):
        tables.feature_vis.load_pictures(*name)
    with pytest.raises(ValueError, match="uint8"):
        tables.feature_vis.save_pictures(images / 255, *name)


def test_what_is_not_finite_is_left_out_of_a_curve():
    table = inversion_rows([[np.inf, 0.5], [0.9, 0.3], [np.nan, 0.1]])
    curve = tables.feature_vis.depth_curve(table, "ssim")
    assert curve["n"].tolist() == [1, 3] and curve["mean"].tolist() == pytest.approx([0.9, 0.3])
    assert tables.feature_vis.depth_curve(table.assign(ssim=np.nan), "ssim").empty


# ---- figures


def test_rows_of_pictures_may_differ_in_length():
    rows = [
        ("CNN", [np.full((4, 4, 3), v) for v in (0.1, 0.2, 0.3)], ["a", "b\nb", "c"]),
        ("MLP", np.full((2, 4, 4, 3), 128, np.uint8), ["d", "e"]),
    ]
    figure = plotting.feature_vis.picture_rows(rows, titles=["x", "y", "z"], title="all")
    grid = np.reshape(figure.axes, (2, 3))
    shown = [[float(ax.images[0].get_array().max()) if ax.images else None for ax in row] for row in grid]
    assert shown == [pytest.approx([0.1, 0.2, 0.3]), [128, 128, None]]
    assert [ax.get_xlabel() for ax in grid[0]] == ["a", "b\nb", "c"] and grid[1, 0].get_ylabel() == "MLP"
    assert grid[1, 0].images[0].get_clim() == (0, 255) and grid[0, 0].images[0].get_clim() == (0, 1)
    assert [ax.get_title() for ax in grid[0]] == ["x", "y", "z"] and figure.get_suptitle() == "all"
    plt.close(figure)


def test_points_stand_at_the_means_with_their_intervals():
    rows = [("mlp", "fourier", 0.4), ("mlp", "real", 0.8), ("cnn", "fourier", 0.6), ("cnn", "real", 0.9)]
    table = pd.DataFrame(rows, columns=["model", "condition", "mean"]).assign(measure="p_transfer", n=20)
    table = table.assign(low=table["mean"] - 0.1, high=table["mean"] + 0.05)
    table = pd.concat([table, table.assign(measure="p_shift", mean=np.nan)])  # nothing to draw
    figure = plotting.feature_vis.measures(table, dataset="cifar10")
    (ax,) = figure.axes
    np.testing.assert_allclose([line.get_xdata() for line in ax.lines], [[0.4, 0.8], [0.6, 0.9]])
    segments = [segment for lines in ax.collections for segment in lines.get_segments()]
    np.testing.assert_allclose([s[:, 0] for s in segments], [[0.3, 0.45], [0.7, 0.85], [0.5, 0.65], [0.8, 0.95]])
    assert [label.get_text() for label in ax.get_yticklabels()] == ["fourier", "real"]
    assert ax.get_ylim()[0] > ax.get_ylim()[1] and ax.get_xlim() == (-0.03, 1.03)
    (band,) = ax.patches
    assert band.get_y() == 0.5 and band.get_height() == 1
    assert figure.get_suptitle().startswith("CIFAR-10, 20 pictures a point")
    plt.close(figure)


def test_depth_curves_stand_at_the_means_and_references_behind_them():
    own = tables.feature_vis.depth_curve(inversion_rows([[0.9, 0.5, 0.1], [0.7, 0.3, 0.3]]), "ssim")
    noise = tables.feature_vis.depth_curve(inversion_rows([[0.01, 0.01, 0.01]], condition="noise"), "ssim")
    curves = {"ssim": pd.concat([own, own.assign(model_seed=1), noise]), "distance": own, "p_transfer": own.iloc[:0]}
    figure = plotting.feature_vis.depth(curves, dataset="cifar10")
    ax, other = figure.axes
    curve, again, reference, _ = ax.lines
    np.testing.assert_allclose(curve.get_xydata(), [[0, 0.8], [0.5, 0.4], [1, 0.2]])
    np.testing.assert_allclose(again.get_xydata(), curve.get_xydata())
    np.testing.assert_allclose(reference.get_ydata(), 0.01)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["CNN", "noise"]
    assert ax.get_yscale() == "linear" and other.get_yscale() == "log"
    assert other.get_ylabel() == "relative feature distance"
    assert figure.get_suptitle() == "CIFAR-10, 2 images; bands: 95 % over images; depth 0: stem, 1: logits"
    plt.close(figure)


def test_untrained_networks_are_long_dashes_beside_the_curves():
    own = tables.feature_vis.depth_curve(inversion_rows([[0.9, 0.5, 0.1], [0.7, 0.3, 0.3]]), "ssim")
    random = tables.feature_vis.depth_curve(inversion_rows([[1.0, 0.9, 0.2]], condition="untrained"), "ssim")
    figure = plotting.feature_vis.depth({"ssim": pd.concat([own, random])}, dataset="cifar10")
    curve, reference, _ = figure.axes[0].lines
    np.testing.assert_allclose(reference.get_ydata(), [1.0, 0.9, 0.2])
    assert reference.get_color() == curve.get_color() and reference.get_linestyle() == "--"
    assert figure.get_suptitle().startswith("CIFAR-10, 2 images, 1 of them also out of untrained networks")
    plt.close(figure)


def class_table(models=("mlp", "cnn"), seeds=(1, 0), conditions=("maco", "from image", "real"), n_classes=3):
    """Two pictures a class of one grey each, which tells the row of the table that it is of."""
    rows = [
        dict(model=model, model_seed=model_seed, condition=condition, target=k, seed=seed, dataset="cifar10")
        for model in models
        for model_seed in seeds
        for condition in conditions
        for seed in (0, 1)
        for k in range(n_classes)
    ]
    table = pd.DataFrame(rows).assign(p=0.5, p_transfer=0.25, n_steps=7)
    table["picture"] = np.arange(len(table))
    return table, np.arange(len(table), dtype=np.uint8)[:, None, None, None].repeat(3, 3)


def shown_rows(figure):
    """Label of each row -> the rows of the table whose pictures it shows."""
    rows = {}
    for ax in figure.axes:
        rows.setdefault(ax.get_gridspec() and ax.get_subplotspec().rowspan.start, []).append(ax)
    return {
        axes[0].get_ylabel(): [int(ax.images[0].get_array().max()) for ax in axes if ax.images]
        for axes in rows.values()
    }


def test_pictures_of_classes_are_of_the_first_training_seed_of_the_table():
    """Seed 0 was asked for before, which a table need not have."""
    table, pictures = class_table()
    figure = plotting.feature_vis.classes(table, pictures, class_names=["a", "b", "c"])
    wanted = table[(table["model_seed"] == 1) & (table["seed"] == 0)].set_index(["model", "condition"])["picture"]
    expected = {"MLP\nmaco": ("mlp", "maco"), "CNN\nmaco": ("cnn", "maco"), "real, for\nMLP": ("mlp", "real")}
    assert shown_rows(figure) == {label: wanted[key].tolist() for label, key in expected.items()}
    assert [ax.get_title() for ax in figure.axes[:3]] == ["a", "b", "c"]
    assert figure.axes[0].get_xlabel() == "0.50 → 0.25" and figure.get_suptitle().startswith("CIFAR-10, 7 steps")
    plt.close(figure)


def test_a_model_without_the_seed_of_the_others_shows_its_own():
    table, pictures = class_table()
    table = table[~((table["model"] == "cnn") & (table["model_seed"] == 1))]
    figure = plotting.feature_vis.classes(table, pictures, class_names=["a", "b", "c"])
    assert len(shown_rows(figure)["CNN\nmaco"]) == 3
    plt.close(figure)


def test_a_model_alone_has_no_judges_in_its_captions():
    table, pictures = class_table(models=["mlp"], seeds=[0])
    figure = plotting.feature_vis.classes(table.assign(p_transfer=np.nan), pictures, class_names=["a", "b", "c"])
    assert {ax.get_xlabel() for ax in figure.axes if ax.images} == {"0.50"}
    plt.close(figure)


def test_several_pictures_of_a_class_stand_side_by_side():
    table, pictures = class_table()
    figure = plotting.feature_vis.diversity(table, pictures, class_names=["a", "b", "c"])
    own = table[(table["model_seed"] == 1) & (table["condition"] == "maco")].sort_values(["target", "seed"])
    expected = {name.upper(): own.loc[own["model"] == name, "picture"].tolist() for name in ("mlp", "cnn")}
    assert shown_rows(figure) == expected
    assert [ax.get_title() for ax in figure.axes[:6]] == ["a", "", "b", "", "c", ""]
    plt.close(figure)
    figure = plotting.feature_vis.diversity(table, pictures, class_names=["a", "b", "c"], method="fourier")
    assert "from image" in figure.get_suptitle()  # the last that there is
    plt.close(figure)


def test_a_picture_from_an_image_stands_below_the_image_of_the_next_class():
    table, pictures = class_table(seeds=[0])
    figure = plotting.feature_vis.from_image(table, pictures, class_names=["a", "b", "c"])
    first = table[table["seed"] == 0].set_index(["model", "condition"])["picture"]
    real = first["mlp", "real"].tolist()
    expected = {"start": [*real[1:], real[0]], "MLP": first["mlp", "from image"].tolist()}
    assert shown_rows(figure) == expected | {"CNN": first["cnn", "from image"].tolist()}
    plt.close(figure)


def test_a_ladder_shows_an_image_and_what_each_stage_leaves():
    table = pd.concat(inversion_rows(np.ones((4, 2)), model) for model in ("mlp", "cnn"))
    table = pd.concat([table, table.assign(condition="noise")], ignore_index=True)
    table = table.assign(dataset="cifar10", distance=0.5, psnr=20.0, picture=np.arange(len(table)))
    pictures = np.arange(len(table), dtype=np.uint8)[:, None, None, None].repeat(3, 3)
    originals = {i: np.full((1, 1, 3), 200 + i, np.uint8) for i in range(4)}
    figure = plotting.feature_vis.ladder(table, pictures, originals, n_images=2)
    values = [int(ax.images[0].get_array().max()) for ax in figure.axes]
    made = table[table["condition"] == "fourier"].set_index(["model", "sample_id"])["picture"]
    assert values == [v for i in (0, 1) for model in ("mlp", "cnn") for v in (200 + i, *made[model, i])]
    assert [ax.get_xlabel() for ax in figure.axes[:3]] == ["original", "l0\n0.5, 20 dB", "l1\n0.5, 20 dB"]
    plt.close(figure)
