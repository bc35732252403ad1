"""Mutual nearest neighbours, Procrustes and SVCCA against scikit-learn, scipy and closed forms."""

import numpy as np
import pytest
import torch
from scipy.linalg import orthogonal_procrustes, subspace_angles
from scipy.stats import ortho_group
from sklearn.cross_decomposition import CCA
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from src.cka import cka_matrix, linear_cka, measure_table, mutual_knn, procrustes_similarity, svcca
from src.cka.activations import look_at
from src.cka.direct import gram
from src.cka.other_measures import MEASURES, coordinates
from src.models import build_model
from tests.cka.test_cka import InPlace, batches, normal

ALL = [mutual_knn, procrustes_similarity, svcca]


def related(n: int = 60, p: int = 8, q: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    x, y = normal(n, p), normal(n, q, seed=1)
    y[:, :4] += 1.5 * x[:, :4]
    return x + 3, 2 * y - 1


@pytest.mark.parametrize("neighbours", [1, 5, 59])
def test_neighbours_are_scikit_learns(neighbours):
    x, y = related()
    near = [NearestNeighbors(n_neighbors=neighbours).fit(v.numpy()).kneighbors(return_distance=False) for v in (x, y)]
    shared = [len(set(a) & set(b)) for a, b in zip(*near, strict=True)]
    assert mutual_knn(x, y, neighbours=neighbours) == pytest.approx(np.mean(shared) / neighbours, abs=1e-12)


def test_procrustes_is_scipys():
    x, y = related(q=8)
    centred = [(v - v.mean(0)).numpy() for v in (x, y)]
    unit = [v / np.linalg.norm(v) for v in centred]
    rotation, total = orthogonal_procrustes(*unit)
    assert procrustes_similarity(x, y) == pytest.approx(total, abs=1e-12)
    distance = np.linalg.norm(unit[0] @ rotation - unit[1])
    assert procrustes_similarity(x, y) == pytest.approx(1 - distance**2 / 2, abs=1e-12)


@pytest.mark.parametrize("variance", [0.6, 0.9, 0.99, 1.0])
def test_svcca_is_the_angles_between_principal_subspaces(variance):
    x, y = related(n=90, p=30, q=24)
    bases = []
    for values in (x, y):
        pca = PCA().fit(values.numpy())
        kept = int(np.searchsorted(np.cumsum(pca.explained_variance_ratio_), variance - 1e-12)) + 1
        bases.append(pca.transform(values.numpy())[:, :kept])
    expected = np.cos(subspace_angles(*bases)).mean()
    assert svcca(x, y, variance=variance) == pytest.approx(expected, abs=1e-7)
    if variance == 1:
        n = min(basis.shape[1] for basis in bases)
        projected = CCA(n_components=n, max_iter=20_000, tol=1e-10).fit(*bases).transform(*bases)
        correlations = [np.corrcoef(projected[0][:, i], projected[1][:, i])[0, 1] for i in range(n)]
        assert svcca(x, y, variance=1) == pytest.approx(np.mean(correlations), abs=1e-4)


@pytest.mark.parametrize("measure", ALL)
def test_rotation_scale_and_shift_change_nothing(measure):
    x, y = related()
    base = measure(x, y)
    rotation = torch.tensor(ortho_group.rvs(8, random_state=0))
    assert measure(5 * x @ rotation + 100, y) == pytest.approx(base, abs=1e-9)
    assert measure(y, x) == pytest.approx(base, abs=1e-12)
    assert measure(x, x @ rotation) == pytest.approx(1, abs=1e-9)
    assert 0 < base < 1
    assert measure(coordinates(gram(x)), coordinates(gram(y))) == pytest.approx(base, abs=1e-9)
    wide = normal(20, 500)
    assert measure(wide, coordinates(gram(wide))) == pytest.approx(1, abs=1e-9)


def test_svcca_alone_does_not_see_an_invertible_map():
    x, y = related()
    stretched = x @ torch.diag(torch.logspace(0, 2, 8, dtype=torch.float64))
    assert svcca(stretched, y, variance=1) == pytest.approx(svcca(x, y, variance=1), abs=1e-6)
    assert abs(procrustes_similarity(stretched, y) - procrustes_similarity(x, y)) > 0.05
    assert abs(mutual_knn(stretched, y) - mutual_knn(x, y)) > 0.05


def test_unrelated_layers_share_neighbours_by_chance_only():
    found = [mutual_knn(normal(200, 20, seed=s), normal(200, 20, seed=s + 50)) for s in range(10)]
    assert np.mean(found) == pytest.approx(10 / 199, abs=0.006)


def test_layers_that_do_not_vary_and_bad_requests():
    x, flat = normal(20, 3), torch.ones(20, 3)
    assert np.isnan(procrustes_similarity(x, flat)) and np.isnan(svcca(flat, x))
    with pytest.raises(ValueError, match="between 1 and 19 for 20 examples, not 20"):
        mutual_knn(x, x, neighbours=20)
    with pytest.raises(ValueError, match=r"variance must be in \(0, 1\], not 0"):
        svcca(x, x, variance=0)
    for measure in ALL:
        with pytest.raises(ValueError, match="same examples, not 20 and 19"):
            measure(x, x[:19])
        with pytest.raises(ValueError, match="y: activations are not finite"):
            measure(x, torch.full((20, 3), torch.inf))


def test_the_table_is_each_measure_of_each_pair_of_layers():
    networks = {("mlp", 0): build_model("mlp", "fashion_mnist", weights=None), ("other", 1): InPlace()}
    loader, layers = batches(48, 24), {"other": ["linear", "act"]}
    table = measure_table(networks, loader, layers=layers)
    n = 7 + 2
    assert len(table) == n * (n + 1) / 2 * 2 * len(MEASURES) and (table["n"] == 24).all()
    named = {"CKA": linear_cka, "mutual kNN": mutual_knn, "Procrustes": procrustes_similarity, "SVCCA": svcca}
    x = look_at(networks["mlp", 0], loader[1].pixels, ["net.linear_in"], torch.clone)["net.linear_in"]
    y = look_at(networks["other", 1], loader[1].pixels, ["act"], torch.clone)["act"]
    rows = table[(table["index_a"] == 0) & (table["model_a"] == "mlp") & (table["layer_b"] == "act")]
    for name, measure in named.items():
        row = rows[(rows["measure"] == name) & (rows["batch"] == 1)]
        assert row["value"].item() == pytest.approx(measure(x, y), abs=1e-4)  # eigenvectors of float32 Grams
    own = table[(table["layer_a"] == table["layer_b"]) & (table["model_a"] == table["model_b"])]
    np.testing.assert_allclose(own["value"], 1, atol=1e-6)
    own = own[own["measure"] != "SVCCA"]  # 23 components of 24 images span all there is, in any order
    assert (own["null"] < own["value"] - 0.01).all()
    cka = cka_matrix(networks["mlp", 0], networks["other", 1], loader[:1], layers_b=["linear", "act"])["cka"]
    cross = table[(table["model_a"] == "mlp") & (table["model_b"] == "other") & (table["batch"] == 0)]
    np.testing.assert_allclose(cross[cross["measure"] == "CKA"]["value"], cka, atol=1e-6)
    with pytest.raises(ValueError, match="unknown measure 'RSA'; choose from CKA, mutual kNN"):
        measure_table(networks, loader, measures=["RSA"])
