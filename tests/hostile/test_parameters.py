"""Parameters that mean nothing: each is named with its value and what it may be, before anything is computed."""

import math

import pytest
from refusals import first_line

from src.attacks.plan import Plan
from src.cka.direct import KERNELS
from src.cka.other_measures import NEIGHBOURS
from src.data.loaders import BACKENDS
from src.efficiency.variants import VARIANTS
from src.feature_vis.record import METHODS
from src.parameters import CHOICES, LEAST, MOST, default_parameters, read_parameters
from src.plotting.style import FORMATS
from src.results import WORDS
from src.tables.attacks import BUDGETS

NOTEBOOKS = (*WORDS, "07_plots")
DEFAULTS = {notebook: default_parameters(f"{notebook}.ipynb") for notebook in NOTEBOOKS}

REFUSED = [  # notebook, parameter, value, how the error goes on after "<parameter> = "
    ("01", "dataset", 3, "3 must be a text; the notebook has dataset = 'fashion_mnist'"),
    ("01", "dataset", None, "None must be a text"),
    ("01", "run", 7, "7 must be a text; the notebook has run = ''"),
    ("01", "backbone", ["vit"], "['vit'] must be a text"),
    ("01", "pretrained_on", "cifar11", "'cifar11' is not among cifar10, cifar100, fashion_mnist"),
    ("01", "n_train", -1, "-1 must be at least 0 and finite; the notebook has n_train = 3000"),
    ("01", "n_train", math.inf, "inf must be a whole number"),
    ("01", "linear_epochs", 0, "0 must be at least 1"),
    ("01", "full_epochs", 1.5, "1.5 must be a whole number"),
    ("01", "linear_lr", -0.1, "-0.1 must be above 0 and finite"),
    ("01", "linear_lr", 0, "0 must be above 0"),
    ("01", "full_lr", math.inf, "inf must be above 0 and finite"),
    ("01", "full_lr", "1e-3", "'1e-3' must be a number"),
    ("01", "linear_crop_scale", 0, "0 must be above 0 and at most 1"),
    ("01", "full_crop_scale", 1.5, "1.5 must be above 0 and at most 1"),
    ("01", "batch_size", 0, "0 must be at least 1"),
    ("01", "device", "gpu", "'gpu' is none of auto, cuda, mps, cpu, or cuda:1 for the second; the notebook has device"),
    ("01", "loader", "disk", "'disk' is not among memory, ffcv; the notebook has loader = 'memory'"),
    ("02", "worst_eps_255", [2, 2], "[2, 2] must name at least one, each once"),
    ("02", "worst_eps_255", [2, 2.0], "[2, 2.0] must name at least one, each once"),
    ("02", "worst_eps_255", [-2], "[-2] must be above 0 and at most 255"),
    ("02", "worst_eps_255", [0, 2], "[0, 2] must be above 0 and at most 255"),
    ("02", "worst_eps_255", [300], "[300] must be above 0 and at most 255"),
    ("02", "worst_eps_255", 8, "8 must be a list, each a number"),
    ("02", "worst_eps_255", [math.nan], "[nan] must be above 0"),
    ("02", "worst_eps_255", [], "[] must name at least one"),
    ("02", "transfer_eps_255", 256, "256 must be above 0 and at most 255"),
    ("02", "transfer_eps_255", 0, "0 must be above 0"),
    ("02", "apgd_steps", "ten", "'ten' must be a whole number; the notebook has apgd_steps = None"),
    ("02", "apgd_steps", 3.5, "3.5 must be a whole number"),
    ("02", "apgd_steps", 0, "0 must be at least 1"),
    ("02", "n_targets", "three", "'three' must be a whole number"),
    ("02", "queries", -1, "-1 must be at least 0"),
    ("02", "pgd_steps", 0, "0 must be at least 1"),
    ("02", "pgd_steps", True, "True must be a whole number"),
    ("02", "budget", "fast", "'fast' is not among quick, standard; the notebook has budget = 'quick'"),
    ("02", "dtype", "float16", "'float16' is not among float32, bfloat16"),
    ("03", "loader", None, "None must be a text"),
    ("03", "n_pairs", 0, "0 must be at least 1"),
    ("03", "n_stylised", 0, "0 must be at least 1"),
    ("03", "n_transformed", 0, "0 must be at least 1"),
    ("03", "n_corrupted", 0, "0 must be at least 1"),
    ("03", "style_steps", -5, "-5 must be at least 1"),
    ("03", "texture_steps", 0, "0 must be at least 1"),
    ("04a", "kernel", "cubic", "'cubic' is not among linear, rbf, cosine"),
    ("04a", "unbiased", 1, "1 must be true or false"),
    ("04a", "unbiased", "no", "'no' must be true or false"),
    ("04a", "n_permutations", 0, "0 must be at least 1"),
    ("04a", "n_permutations", 10**9, "1000000000 must be at least 1 and at most 100000;"),
    ("04a", "n_untrained", 0, "0 must be at least 1"),
    ("04a", "n_measured", 0, "0 must be at least 1"),
    ("04a", "measured_batch_size", 10, "10 must be at least 11"),
    ("04b", "methods", [], "[] must name at least one"),
    ("04b", "methods", ["pixels", "dreams"], "['pixels', 'dreams'] is not among pixels, fourier, maco, from image"),
    ("04b", "methods", "maco", "'maco' must be a list, each a text"),
    ("04b", "methods", ["maco", "maco"], "['maco', 'maco'] must name at least one, each once"),
    ("04b", "n_seeds", 0, "0 must be at least 1"),
    ("04b", "steps", 0, "0 must be at least 1"),
    ("04b", "inversion_steps", -1, "-1 must be at least 1"),
    ("05", "models", [], "[] must name at least one, each once; the notebook has models = ['mlp', 'cnn', 'vit']"),
    ("05", "models", "abc", "'abc' must be a list, each a text"),
    ("05", "models", None, "None must be a list"),
    ("05", "models", ["mlp", "mlp"], "['mlp', 'mlp'] must name at least one, each once"),
    ("05", "models", ["mlp", 3], "['mlp', 3] must be a list, each a text"),
    ("05", "models", [["mlp"]], "[['mlp']] must be a list, each a text"),
    ("05", "models", {"mlp": 1}, "{'mlp': 1} must be a list"),
    ("05", "model_seeds", 0, "0 must be a list, each a whole number"),
    ("05", "model_seeds", [], "[] must name at least one"),
    ("05", "model_seeds", [0, 0], "[0, 0] must name at least one, each once"),
    ("05", "model_seeds", [-1], "[-1] must be at least 0 and at most 4294967295"),
    ("05", "model_seeds", {}, "{} must be a list"),
    ("05", "model_seeds", {"mlp": []}, "[] must name at least one"),
    ("05", "model_seeds", {"mlp": [0, -1]}, "[0, -1] must be at least 0 and at most 4294967295"),
    ("05", "model_seeds", {"mlp": 1}, "1 must be a list, each a whole number"),
    ("05", "n_test", -1, "-1 must be at least 0"),
    ("05", "n_test", 2.5, "2.5 must be a whole number"),
    ("05", "n_test", True, "True must be a whole number"),
    ("05", "n_test", "all", "'all' must be a whole number"),
    ("05", "n_bins", 0, "0 must be at least 1"),
    ("05", "n_bins", 10**9, "1000000000 must be at least 1 and at most 10000"),
    ("05", "n_resamples", 0, "0 must be at least 1"),
    ("05", "n_resamples", 10**12, "1000000000000 must be at least 1 and at most 100000;"),
    ("05", "batch_size", 10**12, "1000000000000 must be at least 1 and at most 1000000"),
    ("05", "seed", -1, "-1 must be at least 0"),
    ("05", "seed", 2**70, "1180591620717411303424 must be at least 0 and at most 4294967295"),
    ("05", "seed", 10**400, "100000000000000000...0000000000000000000 must be at least 0"),
    ("05", "seed", "0", "'0' must be a whole number"),
    ("05", "shift_eps_max", math.nan, "nan must be at least 0 and at most 1"),
    ("05", "shift_eps_max", math.inf, "inf must be at least 0 and at most 1"),
    ("05", "shift_eps_max", 8, "8 must be at least 0 and at most 1"),
    ("06", "batch_sizes", [0], "[0] must be at least 1"),
    ("06", "batch_sizes", [1, 1], "[1, 1] must name at least one, each once"),
    ("06", "threads", [0], "[0] must be at least 1"),
    ("06", "threads", [10**6], "[1000000] must be at least 1 and at most 1024"),
    ("06", "variants", ["eager", "quick"], "['eager', 'quick'] is not among eager, contiguous, channels_last"),
    ("06", "others", "timm:resnet18", "'timm:resnet18' must be a list, each a text"),
    ("06", "n_processes", 0, "0 must be at least 1"),
    ("06", "n_repeats", 1, "1 must be at least 2"),
    ("06", "n_warmup", 0, "0 must be at least 1"),
    ("06", "seconds", -0.5, "-0.5 must be at least 0"),
    ("06", "seconds", math.inf, "inf must be at least 0"),
    ("07", "models", [], "[] must name at least one"),
    ("07", "tables", ["runs/mine"], "['runs/mine'] must be a text"),
    ("07", "n_resamples", 0, "0 must be at least 1"),
    ("07", "n_bins", "15", "'15' must be a whole number"),
]

NAMES = [  # notebook, parameter, value, how the error begins
    ("02", "shard", "3/2", 'shard must be "k/n" with k from 1 to n, such as "2/3", or "gather", not \'3/2\''),
    ("02", "shard", "0/0", "shard must be"),
    ("03", "shard", "first", "shard must be"),
    ("05", "shard", "", "shard must be"),
    ("05", "model_seeds", {"mpl": [0, 1]}, "model_seeds names mpl, not among the models mlp, cnn, vit"),
    ("05", "model_seeds", {"mlp": [1, 0], "cnn": [0]}, "the lists of model_seeds must begin with the same"),
    ("05", "models", ["a=mlp", "a=cnn"], "model 'a' and 'a' have the same name in files"),
    ("05", "models", ["=mlp"], "'=mlp' has a label that is no plain word"),
    ("07", "models", [""], "'' is no model's name"),
]

TAKEN = [
    ("05", "model_seeds", {"cnn": [0, 1, 2]}),
    ("01", "linear_lr", 1),
    ("01", "n_train", 0),
    ("01", "pretrained_on", ""),
    ("02", "apgd_steps", 3),
    ("02", "n_targets", None),
    ("02", "queries", 0),
    ("02", "worst_eps_255", [255, 1]),
    ("03", "shard", "gather"),
    ("05", "shift_eps_max", 0),
    ("05", "seed", 2**32 - 1),
    ("06", "others", []),
    ("06", "n_warmup", 1),
]


def read(number: str, name: str, value: object) -> dict:
    (notebook,) = (notebook for notebook in NOTEBOOKS if notebook.startswith(f"{number}_"))
    return read_parameters(f"{notebook}.ipynb", DEFAULTS[notebook] | {name: value, "other": 1})


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_a_notebooks_own_parameters_are_right(notebook):
    assert (
        read_parameters(f"{notebook}.ipynb", DEFAULTS[notebook]) == DEFAULTS[notebook] and len(DEFAULTS[notebook]) > 5
    )


@pytest.mark.parametrize(("number", "name", "value", "says"), REFUSED, ids=lambda value: repr(value)[:40])
def test_a_value_that_means_nothing_is_named_with_what_it_may_be(number, name, value, says, tmp_path):
    said = first_line(lambda: read(number, name, value), tmp_path)
    assert said.startswith(f"{name} = {says}") and f"; the notebook has {name} = " in said and len(said) < 200


@pytest.mark.parametrize(("number", "name", "value", "says"), NAMES)
def test_a_name_that_is_none_is_named(number, name, value, says, tmp_path):
    assert first_line(lambda: read(number, name, value), tmp_path).startswith(says)


@pytest.mark.parametrize(("number", "name", "value"), TAKEN)
def test_a_value_at_the_edge_is_taken(number, name, value):
    assert read(number, name, value)[name] == value and "other" not in read(number, name, value)


def test_the_choices_are_those_that_the_code_has():
    known = dict(loader=BACKENDS, budget=BUDGETS, kernel=KERNELS, methods=METHODS, variants=VARIANTS, formats=FORMATS)
    assert {name: tuple(values) for name, values in known.items()} == {name: CHOICES[name] for name in known}
    for dtype in set(CHOICES["dtype"]) - {"auto"}:  # which a study resolves
        Plan((0.1,), dtype=dtype)
    assert LEAST["measured_batch_size"] == NEIGHBOURS + 1
    parameters = {name for defaults in DEFAULTS.values() for name in defaults}
    assert {*CHOICES, *LEAST, *MOST} <= parameters
