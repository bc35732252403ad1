"""Names that are none: of models, runs, data sets and the devices they are on."""

import pytest
from refusals import first_line

from src.data import load_images
from src.data.load import check_dataset
from src.names import check_model, check_run, parse_dataset, parse_model, parse_models, slug
from src.runtime import pick_device

MODELS = [
    ("", "'' is no model's name; write one such as cnn, cnn@seed1, timm:resnet18@untrained"),
    (" ", "' ' is no model's name"),
    (None, "None is no model's name"),
    (3, "3 is no model's name"),
    (["cnn"], "['cnn'] is no model's name"),
    ("@seed1", "'@seed1' is no model's name; write it as cnn@seed1"),
    ("cnn@", "'cnn@' is no model's name"),
    ("=cnn", "'=cnn' has a label that is no plain word"),
    ("a b=cnn", "'a b=cnn' has a label that is no plain word"),
    ("-x=cnn", "'-x=cnn' has a label that is no plain word"),
    ("../x=cnn", "unknown MODEL '../x=cnn'"),
    ("a;b=cnn", "'a;b=cnn' has a label that is no plain word"),
    ("ü=cnn", "'ü=cnn' has a label that is no plain word"),
    ("cnn\n", "unknown MODEL 'cnn\\n' (did you mean cnn?)"),
    ("cnn;touch F", "unknown MODEL 'cnn;touch F'"),
    ("timm:", "unknown MODEL 'timm:'"),
    ("hub:a/b", "unknown MODEL 'hub:a/b'"),
    ("none.py:build", "MODEL 'none.py:build' names none.py, and there is no such file, seen from "),
    (".py:build", "MODEL '.py:build' names .py, and there is no such file"),
    ("mlp@none.safetensors", "MODEL 'mlp@none.safetensors' names none.safetensors, and there is no such file"),
]

SEVERAL = [
    ("mlp", "models must be a list of at least one name, such as ['mlp', 'cnn'], not 'mlp'"),
    ([], "models must be a list"),
    (None, "models must be a list"),
    (["mlp", "cnn", "mlp"], "model 'mlp' is named twice; give one a label of its own, as in b=mlp"),
    (["a/b.py:c", "a:b.py:c"], "model 'a:b.py:c' and 'a/b.py:c' have the same name in files"),
    ([f"{'x' * 300}=mlp"], f"{'x' * 40}… has 300 letters, a file's name 120 at most; give it a label in front"),
    (["a=mlp", "a=cnn"], "model 'a' and 'a' have the same name in files"),
]

RUNS = [
    "",
    ".",
    "..",
    "a/b",
    "../x",
    "/etc",
    "a b",
    "a;b",
    "$(x)",
    "`x`",
    3,
    None,
    "-n",
    "a\nb",
    "ü",
    "x" * 300,
    "comparisons",
]

DATASETS = [
    ("", "'' is no data set's name; write one such as cifar10"),
    (None, "None is no data set's name"),
    (10, "10 is no data set's name"),
    ("cifra10", "unknown data set 'cifra10' (did you mean cifar10?); choose from cifar10, cifar100"),
    (
        "MNIST-3D-xyz",
        "unknown data set 'MNIST-3D-xyz'; choose from cifar10, cifar100, fashion_mnist, fashion_mnist_full",
    ),
    ("CIFAR10", "unknown data set 'CIFAR10' (did you mean cifar10?)"),
    ("hub:", "unknown data set 'hub:'"),
    ("folder:", "unknown data set 'folder:'"),
    ("beton:", "unknown data set 'beton:'"),
    ("http://a/b", "unknown data set 'http://a/b'"),
    ("=cifar10", "'=cifar10' has a label that is no plain word"),
    ("a b=folder:.", "'a b=folder:.' has a label that is no plain word"),
    ("c10=cifar10", "cifar10 goes by its own name, which weights and tables have too; leave out the label c10"),
    ("cifar10=folder:.", "cifar10 is a data set of its own; give folder:. another label"),
    ("folder:nowhere@32", "no folder nowhere (seen from "),
]

DEVICES = ["gpu", "", "cuda:99", "cuda:-1", "cuda:x", "cpu:1", "CPU", "mps:7"]


@pytest.mark.parametrize(("name", "says"), MODELS)
def test_a_bad_name_of_a_model_is_told(name, says, tmp_path):
    assert first_line(lambda: check_model(name), tmp_path).startswith(says)


@pytest.mark.parametrize(("names", "says"), SEVERAL)
def test_models_that_tables_could_not_tell_apart_are_told(names, says, tmp_path):
    assert first_line(lambda: parse_models(names), tmp_path).startswith(says)


@pytest.mark.parametrize("name", RUNS)
def test_a_run_is_named_by_one_plain_word(name, tmp_path):
    said = first_line(lambda: check_run(name), tmp_path)
    assert said == f"run must be a flat name of letters, digits and _.+@-, such as mine, not {name!r}"


@pytest.mark.parametrize(("name", "says"), DATASETS)
def test_a_bad_name_of_a_data_set_is_told_before_anything_is_read(name, says, tmp_path):
    for act in (check_dataset, lambda asked: load_images(asked, "test")):
        assert first_line(lambda act=act: act(name), tmp_path).startswith(says)


@pytest.mark.parametrize("name", DEVICES)
def test_a_device_that_is_not_there_is_never_another(name, tmp_path):
    said = first_line(lambda: pick_device(name), tmp_path)
    assert said.startswith(f"device {name!r} is not on this machine; choose from auto, ")


@pytest.mark.parametrize("split", ["val", "validation", "Test", "", None])
def test_a_split_is_train_or_test(split, tmp_path):
    said = first_line(lambda: load_images("fashion_mnist", split), tmp_path)
    assert said == f"unknown split {split!r}; choose from train, test"


@pytest.mark.parametrize("source", ["internet", "idx", "idx:", "hub:zalando-datasets/fashion_mnist", ""])
def test_a_source_is_one_of_those_there_are(source, tmp_path):
    said = first_line(lambda: load_images("fashion_mnist", "test", source=source), tmp_path)
    assert said.startswith(f"unknown source {source!r}; choose from embedded, local, hub, beton, idx:FOLDER")


@pytest.mark.parametrize("name", ["", "/", "..", "---", "ü/.."])
def test_a_name_without_a_letter_makes_no_file(name, tmp_path):
    said = first_line(lambda: slug(name), tmp_path)
    assert said.startswith(f"{name!r} leaves no letter for a file's name; give it a label in front")


@pytest.mark.parametrize("name", ["a/../../b", "../../etc/passwd", "a\0b", "a b;c", "C:\\x", "con/x"])
def test_a_name_of_anything_else_stays_in_its_folder(name):
    assert set("/\\\0;: ").isdisjoint(slug(name)) and not slug(name).startswith((".", "-"))
    label = parse_model(f"a={name}").label, parse_dataset(f"folder:{name}")[0]
    assert label == ("a", f"folder:{name}")
