from math import comb, sqrt

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import softmax
from scipy.stats import binomtest
from sklearn.metrics import top_k_accuracy_score
from statsmodels.stats.contingency_tables import mcnemar
from torch import nn

from src.data.augment import Augmentation
from src.data.batches import Batch
from src.data.loaders import make_loader
from src.models.predict import logits_of, predict
from src.tables.statistics import accuracy, hits, paired_test, seed_spread, wilson_interval, without_logits


class Toy(nn.Module):
    """Logits that are linear in the mean colour; dropout, so that a forgotten eval mode shows."""

    def __init__(self, n_classes: int = 10):
        super().__init__()
        self.drop = nn.Dropout(0.9)
        self.head = nn.Linear(3 * 32 * 32, n_classes)
        nn.init.normal_(self.head.weight, std=0.2, generator=torch.Generator().manual_seed(0))

    def forward(self, pixels):
        return self.head(self.drop(pixels.flatten(1)))


def judged(labels, predictions, ids=None, **columns) -> pd.DataFrame:
    ids = np.arange(len(labels)) if ids is None else ids
    return pd.DataFrame(dict(sample_id=ids, label=labels, prediction=predictions, **columns))


def loader_of(logits, labels):
    """A model that gives these logits, and the loader it gives them for."""
    logits, labels = torch.as_tensor(logits), torch.as_tensor(labels)
    return nn.Identity(), [Batch(logits, labels, torch.arange(len(labels)) + 1000)]


def test_predict_equals_numpy(clothes):
    model = Toy().train()
    table = predict(model, make_loader(clothes, batch_size=77))
    flat = clothes.images.transpose(0, 3, 1, 2).reshape(500, -1) / 255
    logits = flat @ model.head.weight.detach().double().numpy().T + model.head.bias.detach().double().numpy()
    np.testing.assert_allclose(logits_of(table), logits, atol=1e-4)
    np.testing.assert_array_equal(table["prediction"], logits.argmax(1))
    np.testing.assert_allclose(table["confidence"], softmax(logits, 1).max(1), atol=1e-4)
    np.testing.assert_array_equal(table["label"], clothes.labels)
    np.testing.assert_array_equal(table["sample_id"], clothes.sample_ids)
    of_label = logits[np.arange(500), clothes.labels]
    np.testing.assert_array_equal(table["label_rank"], (logits > of_label[:, None]).sum(1))
    assert model.training and model.head.weight.requires_grad


def test_predict_leaves_every_part_in_its_mode(few_clothes):
    model = Toy().eval()
    model.drop.train()
    predict(model, make_loader(few_clothes, batch_size=50))
    assert not model.training and model.drop.training and not model.head.training


@pytest.mark.parametrize("training", [True, False])
def test_predict_leaves_the_mode_as_it_was_also_on_failure(few_clothes, training):
    model = Toy().train(training)
    predict(model, make_loader(few_clothes, batch_size=50))
    assert model.training == training and model.drop.training == training
    model.head.weight.data[0, 0] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        predict(model, make_loader(few_clothes, batch_size=50))
    assert model.training == training and model.drop.training == training


def test_a_logit_that_is_not_finite_is_refused_by_sample():
    logits = torch.zeros(5, 3)
    logits[3, 1] = torch.inf
    with pytest.raises(ValueError, match="not finite, first for sample_id 1003"):
        predict(*loader_of(logits, [0, 1, 2, 0, 1]))


def test_labels_the_model_does_not_know_are_refused(few_clothes):
    with pytest.raises(ValueError, match="label [5-9] is out of range for a model of 5 classes"):
        predict(Toy(5), list(make_loader(few_clothes, batch_size=50)))  # how many classes it does not tell
    with pytest.raises(ValueError, match="gives 5 logits, and the images have 10 classes"):
        predict(Toy(5), make_loader(few_clothes, batch_size=50))
    with pytest.raises(ValueError, match="mixed labels cannot be judged"):
        predict(Toy(), make_loader(few_clothes, batch_size=50, augment=Augmentation(mixup=0.2)))


@pytest.mark.parametrize("k", [1, 2, 5, 10])
def test_hits_agree_with_scikit_learn(clothes, k):
    table = predict(Toy(), make_loader(clothes, batch_size=100))
    if k < 10:
        expected = top_k_accuracy_score(table["label"], logits_of(table), k=k, labels=range(10))
        assert hits(table, k=k).mean() == pytest.approx(expected)
    else:
        assert hits(table, k=k).all()
    assert hits(table, k=k).dtype == bool
    np.testing.assert_array_equal(hits(without_logits(table), k=k), hits(table, k=k))


def test_of_equal_logits_the_first_class_wins_for_every_k():
    table = predict(*loader_of(torch.zeros(4, 4), [0, 1, 2, 3]))
    for k in (1, 2, 3, 4):
        assert hits(table, k=k).tolist() == [label < k for label in range(4)]
    # these two differ, but not after a softmax in float32
    close = torch.tensor([[20.0, 20.000002]])
    table = predict(*loader_of(close, [1]))
    assert table["prediction"].item() == 1 and table["label_rank"].item() == 0


def test_the_interval_ends_at_none_and_all_and_holds_the_share():
    """Rounding left the upper end of all successes just below 1, so that error bars were negative."""
    n = np.arange(1, 3000)
    for level in (0.9, 0.95, 0.99):
        low, high = wilson_interval(np.zeros_like(n), n, level=level)
        assert (low == 0).all() and (high > 0).all()
        low, high = wilson_interval(n, n, level=level)
        assert (high == 1).all() and (low < 1).all()
        low, high = wilson_interval(n // 2, n, level=level)
        assert (low <= (n // 2) / n).all() and ((n // 2) / n <= high).all()


def wilson_by_hand(successes: int, n: int, z: float = 1.959963984540054) -> tuple[float, float]:
    share = successes / n
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return centre - half, centre + half


@pytest.mark.parametrize("successes, n", [(0, 10), (1, 10), (10, 10), (123, 500), (9446, 10_000)])
def test_accuracy_and_its_wilson_interval(successes, n):
    labels = np.zeros(n, dtype=int)
    row = accuracy(judged(labels, (np.arange(n) >= successes).astype(int))).iloc[0]
    assert (row["n"], row["correct"], row["accuracy"]) == (n, successes, successes / n)
    assert (row["low"], row["high"]) == pytest.approx(wilson_by_hand(successes, n), abs=1e-9)
    low, high = wilson_interval(successes, n, level=0.9)
    assert (low, high) == pytest.approx(wilson_by_hand(successes, n, z=1.6448536269514722), abs=1e-9)


def test_accuracy_by_groups_counts_each_group_alone():
    rng = np.random.default_rng(0)
    n = 400
    table = judged(
        rng.integers(3, size=n),
        rng.integers(3, size=n),
        model=rng.choice(["cnn", "vit"], n),
        level=rng.choice([0, 1], n),
    )
    for by in ("model", ["model", "level"], ["label"]):
        found = accuracy(table, by=by)
        names = [by] if isinstance(by, str) else by
        assert list(found.columns) == [*names, "n", "correct", "accuracy", "low", "high"]
        assert found["n"].sum() == n
        for row in found.to_dict("records"):
            group = table[np.logical_and.reduce([table[name] == row[name] for name in names])]
            correct = sum(group["label"] == group["prediction"])
            assert (row["n"], row["correct"]) == (len(group), correct)
            assert (row["low"], row["high"]) == pytest.approx(wilson_by_hand(correct, len(group)), abs=1e-9)


def test_rows_without_a_level_are_a_group_of_their_own():
    table = judged([0, 0, 0], [0, 1, 0], level=[np.nan, np.nan, 1.0])
    found = accuracy(table, by="level")
    assert found["n"].tolist() == [1, 2]


def test_top_five_accuracy_of_groups(clothes):
    table = predict(Toy(), make_loader(clothes, batch_size=100))
    found = accuracy(table, by="label", k=5)
    for label, share in zip(found["label"], found["accuracy"], strict=True):
        rows = logits_of(table[table["label"] == label])
        assert share == pytest.approx(np.mean([label in np.argsort(row)[-5:] for row in rows]))


def mcnemar_by_hand(only_a: int, only_b: int) -> float:
    n, least = only_a + only_b, min(only_a, only_b)
    return min(1.0, 2 * sum(comb(n, i) for i in range(least + 1)) / 2**n)


@pytest.mark.parametrize("both, only_a, only_b, neither", [(50, 12, 3, 5), (10, 0, 8, 1), (9, 4, 4, 0), (7, 0, 0, 3)])
def test_paired_test_against_hand_counts_and_two_libraries(both, only_a, only_b, neither):
    right_a = np.repeat([1, 1, 0, 0], [both, only_a, only_b, neither])
    right_b = np.repeat([1, 0, 1, 0], [both, only_a, only_b, neither])
    n, rng = len(right_a), np.random.default_rng(0)
    labels, ids = rng.integers(10, size=n), rng.permutation(10 * n)[:n]
    a, b = (judged(labels, np.where(right, labels, (labels + 1) % 10), ids) for right in (right_a, right_b))
    found = paired_test(a, b)
    assert (found["n"], found["only_a"], found["only_b"]) == (n, only_a, only_b)
    assert found["difference"] == pytest.approx((only_a - only_b) / n)
    assert found["p_value"] == pytest.approx(mcnemar_by_hand(only_a, only_b))
    if only_a + only_b:
        assert found["p_value"] == pytest.approx(binomtest(only_a, only_a + only_b).pvalue)
        assert found["p_value"] == pytest.approx(mcnemar([[both, only_a], [only_b, neither]], exact=True).pvalue)
    shuffled = b.sample(frac=1, random_state=1).reset_index(drop=True)
    assert paired_test(a, shuffled) == found
    back = paired_test(b, a)
    assert back["difference"] == -found["difference"] and back["p_value"] == found["p_value"]


def test_paired_test_refuses_other_images_and_repeated_ones():
    a = judged([0, 1, 2], [0, 1, 1])
    with pytest.raises(ValueError, match="hold 3 and 2 images, 2 of them in both"):
        paired_test(a, a.iloc[:2])
    with pytest.raises(ValueError, match="2 of them in both with the same label"):
        paired_test(a, a.assign(label=[0, 1, 1]))
    with pytest.raises(ValueError, match="0 of them in both"):
        paired_test(a, a.assign(sample_id=a["sample_id"] + 3))
    with pytest.raises(ValueError, match="table b holds an image twice"):
        paired_test(a, pd.concat([a, a]))


def three_models() -> pd.DataFrame:
    values = {"cnn": (0.90, 0.92, 0.94), "vit": (0.93, 0.95, 0.97), "mlp": (0.60, 0.61, 0.62)}
    return pd.DataFrame(
        [dict(model=name, model_seed=i, accuracy=x) for name, xs in values.items() for i, x in enumerate(xs)]
    )


def test_seed_spread_says_which_is_larger():
    table = seed_spread(three_models()).set_index("model")
    np.testing.assert_allclose(table["mean"], [0.92, 0.95, 0.61])
    np.testing.assert_allclose(table["spread"], [0.04, 0.04, 0.02])
    np.testing.assert_allclose(table["gap"].astype(float), [0.03, 0.03, 0.31])
    assert table["n_seeds"].tolist() == [3, 3, 3]
    assert table["nearest"].tolist() == ["vit", "cnn", "cnn"]
    assert table["separated"].tolist() == [False, False, True]


def test_seed_spread_keeps_groups_apart():
    lower = three_models().assign(eps=0.5, accuracy=three_models()["accuracy"] - 0.5)
    values = pd.concat([three_models().assign(eps=0.0), lower])
    with pytest.raises(ValueError, match="a seed twice"):
        seed_spread(values)
    table = seed_spread(values, by="eps")
    assert table["eps"].tolist() == [0.0] * 3 + [0.5] * 3
    np.testing.assert_allclose(table["mean"][:3] - 0.5, table["mean"][3:])
    assert table["nearest"].tolist() == ["vit", "cnn", "cnn"] * 2


def test_a_model_alone_has_no_neighbour():
    table = seed_spread(three_models().query("model == 'cnn'"))
    assert table["nearest"].isna().all() and table["gap"].isna().all() and table["spread"].item() == pytest.approx(0.04)
