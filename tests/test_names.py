"""Names as users write them."""

import pytest

from src.names import ModelName, check_run, parse_dataset, parse_model, parse_models, slug


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("cnn", ("cnn", "cnn", "default")),
        ("cnn@seed1", ("cnn@seed1", "cnn", "seed1")),
        ("timm:resnet10t", ("timm:resnet10t", "timm:resnet10t", "default")),
        ("timm:resnet18.a1_in1k@untrained", ("timm:resnet18.a1_in1k@untrained", "timm:resnet18.a1_in1k", "untrained")),
        ("t=timm:resnet10t@runs/a/weights/b@64.pt", ("t", "timm:resnet10t", "runs/a/weights/b@64.pt")),
        ("mine.py:build", ("mine.py:build", "mine.py:build", "default")),
        ("m=/a@b/mine.py:Net@w.safetensors", ("m", "/a@b/mine.py:Net", "w.safetensors")),
        ("m=/a b/ü.py:Net", ("m", "/a b/ü.py:Net", "default")),
    ],
)
def test_a_models_name_is_taken_apart(name, parts):
    assert parse_model(name) == ModelName(*parts)
    assert parse_model(parse_model(name).full).weights == parts[2]


def test_one_network_with_two_labels_is_two_models():
    assert [model.label for model in parse_models(["a=cnn", "b=cnn", "cnn"])] == ["a", "b", "cnn"]


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["cnn", "CNN=net.py:build"], "'CNN' and 'cnn' have the same name in files; give one a label"),
        (["cnn", "Transfer=mlp"], "'Transfer' has the name of a table; give it a label"),
        (["calibration=vit"], "'calibration' has the name of a table"),
    ],
)
def test_names_that_tables_could_not_tell_apart_are_refused(names, says):
    with pytest.raises(ValueError, match=says):
        parse_models(names)


def test_another_training_seed_has_weights_of_its_own():
    assert parse_model("cnn").with_seed(0).weights == "default"
    assert parse_model("cnn").with_seed(2).weights == "seed2"
    assert parse_model("w=cnn@w8").with_seed(2) == ModelName("w", "cnn", "w8_seed2")
    assert parse_model("cnn@untrained").with_seed(2).weights == "untrained"
    for name in ("cnn@seed1", "cnn@w8_seed1", "cnn@a.safetensors", "mine.py:build@a.pt"):
        with pytest.raises(ValueError, match="one training seed"):
            parse_model(name).with_seed(1)
        assert parse_model(name).with_seed(0) == parse_model(name)


def test_files_have_plain_names():
    assert slug("timm:vit/x y") == "timm-vit-x-y" and slug("../a") == "a" and slug("cnn@seed1") == "cnn@seed1"
    assert parse_dataset("cifar10") == ("cifar10", "cifar10")
    assert parse_dataset("folder:/a=b@64") == ("folder:/a=b@64", "folder:/a=b@64")
    assert check_run("by_hand_fashion_mnist") == "by_hand_fashion_mnist"
