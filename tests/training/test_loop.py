import copy
import math
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from killable import RECIPES, run, untrained
from torch import nn

from src.data import ImageSet
from src.data.loaders import make_loader
from src.files import fingerprint
from src.models import PixelModel, build_model
from src.models.predict import predict
from src.training import Recipe, fine_tune, train
from src.training import loop as training
from src.training.checkpoints import Progress, file_of
from src.training.finetuning import FrozenBackbone, replace_classifier
from src.training.optimisers import learning_rate, make_optimisers

CAPTURED = dict(capture_output=True, text=True, check=True)
QUICK = Recipe(epochs=2, batch_size=25, crop_scale=1.0)


def compact(name: str = "mlp") -> PixelModel:
    torch.manual_seed(0)
    return build_model(name, "fashion_mnist", weights=None, size="small")


def state_of(model: nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in model.state_dict().items()}


def assert_same_state(a: dict, b: dict) -> None:
    assert a.keys() == b.keys()
    different = [key for key in a if not torch.equal(a[key], b[key])]
    assert not different


@pytest.fixture(scope="module")
def handful(clothes):
    return clothes.subset(40, seed=2)


@pytest.fixture
def steps(monkeypatch):
    """What each training step left behind: the learning rate it used, and the weights after it."""
    seen = []
    step = training._training_step

    def watched(model, optimisers, batch, recipe):
        result = step(model, optimisers, batch, recipe)
        (lr,) = {group["lr"] for optimiser in optimisers for group in optimiser.param_groups}
        seen.append((lr, state_of(model)))
        return result

    monkeypatch.setattr(training, "_training_step", watched)
    return seen


# --- the recipe


@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.5])
def test_learning_rate_rises_linearly_and_falls_as_half_a_cosine(warmup):
    recipe, n = Recipe(lr=0.3, warmup=warmup), 40
    found = [learning_rate(recipe, step, n) for step in range(n)]
    k = max(1, int(warmup * n))
    rising = 0.3 * np.arange(1, k + 1) / k
    falling = 0.15 * (1 + np.cos(np.pi * np.arange(n - k) / (n - k)))
    np.testing.assert_allclose(found, np.concatenate([rising, falling]), rtol=1e-12)
    assert max(found) == 0.3 and 0 < min(found)


@pytest.mark.parametrize("optimiser", ["adamw", "muon"])
def test_every_step_uses_its_learning_rate_and_the_history_ends_epochs_with_it(few_clothes, steps, optimiser):
    recipe = Recipe(epochs=3, batch_size=25, lr=0.01, optimiser=optimiser)
    history = train(compact(), few_clothes, recipe, progress=False)
    used = [lr for lr, _ in steps]
    np.testing.assert_allclose(used, [learning_rate(recipe, step, 12) for step in range(12)])
    np.testing.assert_allclose(history["lr"], used[3::4])


@pytest.mark.parametrize("name", ["mlp", "cnn", "vit"])
@pytest.mark.parametrize("optimiser", ["adamw", "sgd", "muon"])
def test_weight_decay_shrinks_matrices_and_kernels_alone(name, optimiser):
    model = compact(name)
    before = {key: value.clone() for key, value in model.named_parameters()}
    optimisers = make_optimisers(model, Recipe(lr=0.1, weight_decay=0.5, optimiser=optimiser))
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    for each in optimisers:
        each.step()
    for key, value in model.named_parameters():
        # Nesterov momentum adds 0.9 of the first step's own decay; decoupled decay does not
        share = 0.1 * 0.5 * (1.9 if optimiser == "sgd" else 1.0)
        spared = key.endswith("bias") or "norm" in key or ".bn" in key or "downsample.1" in key
        expected = before[key] if spared else before[key] * (1 - share)
        torch.testing.assert_close(value, expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", ["mlp", "vit"])
def test_muon_has_the_hidden_matrices_and_adamw_the_rest(name):
    model = compact(name)
    adamw, muon = make_optimisers(model, Recipe(optimiser="muon"))
    assert isinstance(adamw, torch.optim.AdamW) and isinstance(muon, torch.optim.Muon)
    names = {id(parameter): key for key, parameter in model.named_parameters()}
    held = [{names[id(p)] for group in each.param_groups for p in group["params"]} for each in (adamw, muon)]
    assert held[0] | held[1] == set(names.values()) and not held[0] & held[1]
    assert all(model.get_parameter(key).ndim == 2 for key in held[1])
    assert not any("head" in key or "linear_out" in key for key in held[1])
    assert len(make_optimisers(nn.Linear(3, 2), Recipe(optimiser="muon"))) == 1  # a classifier alone


@pytest.mark.parametrize("fast, bits", [("float32", 20), ("bfloat16", 8)])
def test_muon_computes_in_bfloat16_only_where_that_is_fast(monkeypatch, fast, bits):
    """Against its iteration written out in float64; Keller Jordan's coefficients, the size of an AdamW step."""
    monkeypatch.setattr("src.training.optimisers.fast_dtype", lambda device: fast)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(24, 40, bias=False), nn.Linear(40, 2))
    start, gradient = model[0].weight.detach().clone().double(), torch.randn(40, 24, dtype=torch.float64)
    _, muon = make_optimisers(model, Recipe(optimiser="muon", lr=0.5, weight_decay=0.0))
    model[0].weight.grad = gradient.float()
    muon.step()
    x = gradient.T / gradient.norm()
    for _ in range(5):
        square = x @ x.T
        x = 3.4445 * x + (-4.775 * square + 2.0315 * square @ square) @ x
    expected = -0.5 * 0.2 * math.sqrt(40) * x.T
    gap = (model[0].weight.double() - start - expected).norm() / expected.norm()
    assert 2.0 ** -(bits + 6) < gap < 2.0 ** -(bits - 6) and model[0].weight.dtype == torch.float32


@pytest.mark.parametrize(
    "value, message",
    [
        (dict(optimiser="adam"), "unknown optimiser 'adam'; choose from adamw, sgd, muon"),
        (dict(dtype="bf16"), "unknown dtype 'bf16'; choose from float32, bfloat16, tf32, auto"),
        (dict(epochs=0), "epochs must be at least 1, not 0"),
        (dict(batch_size=0), "batch_size must be at least 1, not 0"),
        (dict(ema=1.0), r"ema must be in \[0, 1\), not 1.0"),
        (dict(crop_scale=1.5), "crop_scale must be"),
        (dict(crop_scale=0.0), "crop_scale must be"),
        (dict(mixup=-1.0), "mixup must be at least 0"),
        (dict(lr=0.0), "lr must be above 0 and finite, not 0.0"),
        (dict(lr=math.nan), "lr must be above 0 and finite, not nan"),
        (dict(weight_decay=-1.0), "weight_decay must be at least 0 and finite, not -1.0"),
        (dict(gradient_clip=math.inf), "gradient_clip must be at least 0 and finite, not inf"),
        (dict(crop_scale=0.5, crop_pad=4), "crop_pad needs crop_scale 1, not 0.5"),
        (dict(eps_255=-8.0), r"eps_255 must be in \[0, 255\], not -8.0"),
    ],
)
def test_a_recipe_that_means_nothing_is_refused(value, message):
    with pytest.raises(ValueError, match=message):
        Recipe(**value)


def test_the_fast_adversary_raises_the_loss_within_its_ball(few_clothes):
    (batch,) = make_loader(few_clothes, batch_size=100)
    torch.manual_seed(0)
    model, eps = build_model("cnn", "fashion_mnist", weights=None), 8 / 255
    before = [parameter.clone() for parameter in model.parameters()]
    found = training.fast_adversary(model, batch.pixels, batch.labels, eps=eps)
    assert not found.requires_grad and all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))
    assert (found - batch.pixels).abs().max() <= eps + 1e-6 and 0 <= found.min() and found.max() <= 1
    with torch.no_grad():
        losses = [F.cross_entropy(model(pixels), batch.labels) for pixels in (batch.pixels, found)]
    assert losses[1] > losses[0]


def test_adversarial_training_makes_a_linear_model_keep_its_margin():
    """Of two pixels that give the class away, the weak one costs more than it helps under attack, and is dropped."""
    rng = np.random.default_rng(0)
    labels = rng.integers(2, size=400)
    sign = 2 * labels - 1
    images = np.full((400, 4, 4, 3), 128, np.uint8)
    images[:, 0, 0, 0] = 128 + 60 * sign + rng.integers(-50, 50, 400)  # far apart: survives a radius of 20
    images[:, 1, 1, 1] = 128 + 5 * sign  # close together: gone at a radius of 20
    toy = ImageSet("toy", "train", images, labels, ("a", "b"), np.arange(400))
    share = {}
    for eps_255 in (0.0, 20.0):
        torch.manual_seed(0)
        net = nn.Linear(48, 2)
        model = PixelModel(nn.Sequential(nn.Flatten(), net), mean=(0.5, 0.5, 0.5), std=(0.1, 0.1, 0.1))
        recipe = Recipe(epochs=30, batch_size=50, lr=0.02, crop_scale=1.0, weight_decay=0.0, eps_255=eps_255)
        train(model, toy, recipe, progress=False)
        weight = (net.weight[1] - net.weight[0]).detach().view(3, 4, 4).abs()
        share[eps_255] = float(weight[1, 1, 1] / weight[0, 0, 0])
    assert share[20.0] < 0.5 * share[0.0]


def test_crop_scale_one_means_whole_images_with_or_without_mixup(few_clothes):
    assert Recipe(crop_scale=1.0).augmentation() is None
    mixing = Recipe(crop_scale=1.0, mixup=0.3).augmentation()
    assert mixing.mixup == 0.3
    batch = next(iter(make_loader(few_clothes, batch_size=100, augment=mixing, seed=1)))
    plain = next(iter(make_loader(few_clothes, batch_size=100)))
    share = batch.labels.max(1).values
    near_whole = share > 0.999  # of its own class, or mixed within it
    assert (batch.labels.gather(1, plain.labels[:, None]) > 0).all() and near_whole.any() and not near_whole.all()
    gap = (batch.pixels - plain.pixels).abs().amax((1, 2, 3))
    assert (gap <= 1 - batch.labels.gather(1, plain.labels[:, None])[:, 0] + 1e-5)[~near_whole].all()


# --- training


def test_training_learns_real_images(clothes):
    recipe = Recipe(epochs=6, batch_size=50, lr=2e-3, crop_scale=1.0, label_smoothing=0.0)
    model = compact()
    history = train(model, clothes, recipe, val_set=clothes, progress=False)
    assert history["loss"].iloc[-1] < 0.7 * history["loss"].iloc[0] < 0.7 * 1.2 * math.log(10)
    assert history["val_accuracy"].iloc[-1] > 0.8
    table = predict(model, make_loader(clothes, batch_size=100))
    assert (table["label"] == table["prediction"]).mean() == pytest.approx(history["val_accuracy"].iloc[-1])
    assert list(history["epoch"]) == [1, 2, 3, 4, 5, 6] and not model.training


def test_history_measures_what_was_trained_on(few_clothes):
    """With a learning rate of zero in all but name, loss and accuracy are those of the untrained model."""
    model = compact()
    table = predict(model, make_loader(few_clothes, batch_size=100))
    recipe = Recipe(epochs=1, batch_size=30, lr=1e-12, crop_scale=1.0, label_smoothing=0.0, weight_decay=0.0)
    history = train(model, few_clothes, recipe, val_set=few_clothes, progress=False).iloc[0]
    logits = torch.tensor(table.filter(like="logit_").to_numpy())
    loss = F.cross_entropy(logits, torch.tensor(table["label"].to_numpy())).item()
    right = (table["label"] == table["prediction"]).mean()
    assert history["loss"] == pytest.approx(loss, rel=1e-4) == history["val_loss"]
    assert history["accuracy"] == pytest.approx(right) == history["val_accuracy"]


@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_the_average_is_an_exponential_mean_of_the_weights_of_all_steps(handful, steps, name):
    recipe = Recipe(epochs=2, batch_size=8, ema=0.7, lr=1e-2)
    model = compact(name)
    average = {key: value.double() for key, value in state_of(model).items()}
    train(model, handful, recipe, progress=False)
    for i, (_, weights) in enumerate(steps):
        decay = min(0.7, (1 + i) / (10 + i))
        average = {key: decay * value + (1 - decay) * weights[key].double() for key, value in average.items()}
    last = steps[-1][1]
    for key, value in model.state_dict().items():
        if key.endswith("num_batches_tracked"):
            assert value == last[key] == 10
        else:
            np.testing.assert_allclose(value.numpy(), average[key].numpy(), atol=1e-5)
    assert any(not torch.equal(value, last[key]) for key, value in model.state_dict().items())


def test_label_smoothing_and_mixed_labels_enter_the_loss():
    logits, labels = torch.randn(6, 4), torch.softmax(torch.randn(6, 4), 1)
    pixels = logits.clone()
    model = nn.Linear(4, 4, bias=False)
    nn.init.eye_(model.weight)
    batch = training.Batch(pixels, labels, torch.arange(6))
    recipe = Recipe(label_smoothing=0.2)
    loss, right, _ = training._training_step(model, make_optimisers(model, recipe), batch, recipe)
    target = 0.8 * labels.numpy() + 0.2 / 4
    log_probs = logits.numpy() - np.log(np.exp(logits.numpy()).sum(1, keepdims=True))
    assert loss == pytest.approx(-(target * log_probs).sum(1).mean(), rel=1e-5)
    assert right == (logits.argmax(1) == labels.argmax(1)).sum()


def test_gradients_are_clipped_to_the_norm_asked(few_clothes):
    recipe = Recipe(epochs=1, batch_size=100, optimiser="sgd", lr=1.0, warmup=0.0, gradient_clip=0.01, weight_decay=0.0)
    model = compact()
    before = state_of(model)
    train(model, few_clothes, recipe, progress=False)
    moved = math.sqrt(sum(((before[key] - value) ** 2).sum() for key, value in model.state_dict().items()))
    assert moved == pytest.approx(1.9 * 0.01, rel=1e-3)  # one step of Nesterov momentum 0.9


def test_bfloat16_trains_float32_weights(few_clothes):
    model = compact()
    recipe = Recipe(epochs=4, batch_size=25, lr=2e-3, crop_scale=1.0, dtype="bfloat16")
    history = train(model, few_clothes, recipe, progress=False)
    assert history["loss"].iloc[-1] < history["loss"].iloc[0]
    assert {value.dtype for value in model.state_dict().values()} == {torch.float32}


@pytest.mark.parametrize("fast", ["float32", "bfloat16"])
def test_auto_trains_in_the_faster_dtype_of_the_device(few_clothes, tmp_path, monkeypatch, fast):
    """A run that goes on with the dtype by name is the same run, with the same checkpoint."""
    monkeypatch.setattr("src.runtime.fast_dtype", lambda device: fast)
    assert (
        replace(QUICK, dtype="auto").on("cpu") == replace(QUICK, dtype=fast) != QUICK.on("cpu") or fast == QUICK.dtype
    )
    states = []
    for dtype in ("auto", fast):
        model = compact()
        train(model, few_clothes, replace(QUICK, dtype=dtype), checkpoint_folder=tmp_path, progress=False)
        states.append(state_of(model))
    assert_same_state(*states)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_loss_that_is_not_finite_stops_the_run(few_clothes):
    with pytest.raises(FloatingPointError, match=r"the loss became (nan|inf); lower the learning rate \(1e\+30\)"):
        train(compact(), few_clothes, replace(QUICK, lr=1e30), progress=False)
    model = compact()
    model.classifier.bias.data[0] = torch.nan
    with pytest.raises(ValueError, match="the model gave a logit that is not finite"):
        train(model, few_clothes, QUICK, progress=False)


# --- fine-tuning


def test_an_unknown_mode_is_refused(few_clothes):
    with pytest.raises(ValueError, match="unknown mode 'lineal' of fine-tuning; choose from linear, full"):
        fine_tune(compact(), few_clothes, QUICK, mode="lineal")


def test_adversarial_training_of_a_classifier_on_frozen_features_is_refused(few_clothes):
    with pytest.raises(ValueError, match="changes the backbone: take mode='full', or eps_255=0"):
        fine_tune(compact(), few_clothes, replace(QUICK, eps_255=8.0), mode="linear")


def test_a_network_whose_classifier_is_not_known_is_refused(few_clothes):
    model = of_one_layer(nn.ReLU())
    with pytest.raises(ValueError, match="has no single linear classifier but None; .* default_cfg = "):
        fine_tune(model, few_clothes, QUICK, progress=False)
    model.net.default_cfg = {"classifier": "3"}
    assert len(fine_tune(model, few_clothes, QUICK, progress=False)) == 2


@pytest.mark.parametrize("model", [lambda: of_one_layer(nn.BatchNorm1d(12)), lambda: torchvision.models.resnet18()])
def test_a_last_image_alone_is_refused_before_the_first_step(few_clothes, model):
    model = model()
    if isinstance(model, torchvision.models.ResNet):
        model.fc = nn.Linear(512, 10)
    for size in (33, 1):
        with pytest.raises(ValueError, match=f"100 images in batches of {size} leave one image alone, which BatchNorm"):
            train(model, few_clothes, replace(QUICK, batch_size=size), progress=False)


@pytest.mark.parametrize(
    ("n", "says"), [(12, "the model gives 12 logits, and the images have 10"), (5, "gives 5 logits")]
)
def test_logits_that_are_none_of_the_classes_are_refused_before_the_first_step(few_clothes, n, says):
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, n))
    with pytest.raises(ValueError, match=says):
        train(net, few_clothes, QUICK, progress=False)
    with pytest.raises(ValueError, match="fine_tune takes a PixelModel, not Sequential"):
        fine_tune(net, few_clothes, QUICK)


@pytest.mark.parametrize("changes", [dict(epochs=1.5), dict(epochs="5"), dict(batch_size=32.0)])
def test_recipes_of_parts_of_an_epoch_are_refused(changes):
    with pytest.raises(ValueError, match="must be a whole number, not"):
        Recipe(**changes)


def test_the_new_classifier_depends_on_the_seed_alone():
    models = [compact("cnn") for _ in range(3)]
    for model, seed in zip(models, (1, 1, 2), strict=True):
        torch.rand(7)
        replace_classifier(model, 4, seed=seed)
    weights = [model.net.fc.weight for model in models]
    assert weights[0].shape == (4, 128) and not models[0].net.fc.bias.any()
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    assert weights[0].std().item() == pytest.approx(0.01, rel=0.15)


@pytest.mark.parametrize("name", ["mlp", "cnn", "vit"])
@pytest.mark.parametrize("crop_scale", [1.0, 0.5])
def test_linear_leaves_the_backbone_bit_by_bit(handful, name, crop_scale):
    model = compact(name).train()
    before = state_of(model)
    recipe = Recipe(epochs=2, batch_size=10, lr=0.01, crop_scale=crop_scale, ema=0.5)
    history = fine_tune(model, handful, recipe, val_set=handful, progress=False)
    changed = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    head = {"mlp": "net.linear_out", "cnn": "net.fc", "vit": "net.head"}[name]
    assert changed == {f"{head}.weight", f"{head}.bias"}
    assert history["val_loss"].iloc[-1] < history["val_loss"].iloc[0] and not model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    found = predict(model, make_loader(handful, batch_size=50))
    assert (found["label"] == found["prediction"]).mean() == pytest.approx(history["val_accuracy"].iloc[-1])


@pytest.mark.parametrize("name", ["mlp", "cnn", "vit"])
def test_full_changes_every_weight(handful, name):
    model = compact(name)
    before = state_of(model)
    fine_tune(model, handful, QUICK, mode="full", progress=False)
    assert [key for key, value in model.state_dict().items() if torch.equal(value, before[key])] == []


@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_training_on_cached_features_is_training_on_the_frozen_model(few_clothes, name):
    recipe = Recipe(epochs=3, batch_size=30, lr=0.01, crop_scale=1.0)
    cached, uncached = compact(name), compact(name)
    a = fine_tune(cached, few_clothes, recipe, val_set=few_clothes, progress=False)
    replace_classifier(uncached, 10, seed=recipe.seed)
    frozen = nn.Sequential(FrozenBackbone(uncached), uncached.classifier)
    b = train(frozen, few_clothes, recipe, val_set=few_clothes, progress=False)
    for key, value in cached.state_dict().items():
        torch.testing.assert_close(value, uncached.state_dict()[key], atol=1e-5, rtol=1e-5)
    np.testing.assert_allclose(a.drop(columns="seconds"), b.drop(columns="seconds"), atol=1e-4)


def test_linear_is_a_plain_loop_over_features(few_clothes):
    """Against a loop written out here, on features from timm's own functions."""
    recipe = Recipe(epochs=2, batch_size=30, lr=0.01, warmup=0.0, crop_scale=1.0, gradient_clip=0.0)
    model = compact("cnn")
    loader = make_loader(few_clothes, batch_size=30, shuffle=True, seed=0)
    fine_tune(model, few_clothes, recipe, progress=False)

    net, head = compact("cnn").net, nn.Linear(128, 10)
    nn.init.normal_(head.weight, std=0.01, generator=torch.Generator().manual_seed(0))
    nn.init.zeros_(head.bias)
    decayed = dict(params=[head.weight], weight_decay=0.05)
    optimiser = torch.optim.AdamW([decayed, dict(params=[head.bias], weight_decay=0.0)])
    for step in range(8):
        loader.epoch, place = divmod(step, 4)
        batch = list(loader)[place]
        with torch.no_grad():
            normalised = (batch.pixels - model.mean) / model.std
            features = net.forward_head(net.forward_features(normalised), pre_logits=True)
        for group in optimiser.param_groups:
            group["lr"] = 0.01 if step == 0 else 0.005 * (1 + math.cos(math.pi * (step - 1) / 7))
        optimiser.zero_grad()
        F.cross_entropy(head(features), batch.labels, label_smoothing=0.1).backward()
        optimiser.step()
    torch.testing.assert_close(model.net.fc.weight, head.weight, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(model.net.fc.bias, head.bias, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["test_vit", "test_convnext", "test_efficientnet"])
def test_the_frozen_backbone_gives_what_the_classifier_is_fed_without_dropout(name):
    net = timm.create_model(name, num_classes=10, drop_rate=0.5)
    model = PixelModel(net, mean=(0.5,) * 3, std=(0.2,) * 3, input_side=160)
    frozen = FrozenBackbone(model).train()
    pixels = torch.rand(2, 3, 160, 160)
    with torch.no_grad():
        expected = net.eval().forward_head(net.forward_features((pixels - 0.5) / 0.2), pre_logits=True)
    net.train()
    found = frozen(pixels)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert not found.requires_grad and not list(frozen.parameters())
    assert not model.classifier._forward_pre_hooks


# --- stopping and going on


class Stop(Exception):
    pass


def interrupted_after(n_steps: int, monkeypatch):
    """Training stops before step `n_steps` + 1, with a checkpoint after every step."""
    step, done = training._training_step, []

    def stop(*arguments):
        if len(done) == n_steps:
            raise Stop
        done.append(1)
        return step(*arguments)

    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", -1)
    monkeypatch.setattr(training, "_training_step", stop)


@pytest.mark.parametrize("mode, crop_scale", [("linear", 1.0), ("linear", 0.5), ("full", 0.5)])
@pytest.mark.parametrize("n_steps", [1, 4, 6])
def test_interrupted_fine_tuning_goes_on_to_the_same_weights(handful, tmp_path, mode, crop_scale, n_steps):
    recipe = Recipe(
        epochs=2, batch_size=10, lr=0.01, crop_scale=crop_scale, mixup=0.2 if crop_scale < 1 else 0.0, ema=0.8
    )
    options = dict(mode=mode, val_set=handful, progress=False)
    whole = compact("cnn")
    expected = fine_tune(whole, handful, recipe, **options)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Stop):
        interrupted_after(n_steps, patch)
        fine_tune(compact("cnn"), handful, recipe, checkpoint_folder=tmp_path, **options)
    again = compact("cnn")
    with pytest.MonkeyPatch.context() as patch:
        interrupted_after(8 - n_steps, patch)  # no more steps than were left
        found = fine_tune(again, handful, recipe, checkpoint_folder=tmp_path, **options)
    assert_same_state(state_of(again), state_of(whole))
    np.testing.assert_array_equal(found.drop(columns="seconds"), expected.drop(columns="seconds"))


def test_a_finished_run_is_not_repeated(few_clothes, tmp_path, monkeypatch):
    first, again = compact(), compact()
    a = train(first, few_clothes, QUICK, checkpoint_folder=tmp_path, progress=False)
    monkeypatch.setattr(training, "_training_step", lambda *_: pytest.fail("a step was made"))
    b = train(again, few_clothes, QUICK, checkpoint_folder=tmp_path, progress=False)
    assert_same_state(state_of(first), state_of(again))
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("change", ["recipe", "start", "images", "labels", "backbone", "cached backbone"])
def test_another_run_never_goes_on_from_this_ones_checkpoint(few_clothes, tmp_path, change):
    """A run that finds no checkpoint of its own ends as if the folder were empty."""
    recipe, images, linear = QUICK, few_clothes, "backbone" in change
    if change == "backbone":
        recipe = Recipe(epochs=1, batch_size=50)

    def finish(model, folder):
        if linear:
            fine_tune(model, images, recipe, checkpoint_folder=folder, progress=False)
        else:
            train(model, images, recipe, checkpoint_folder=folder, progress=False)
        return state_of(model)

    finish(compact(), tmp_path)
    model = compact()
    if change == "recipe":
        recipe = Recipe(epochs=2, batch_size=25, crop_scale=1.0, lr=2e-3)
    elif change == "images":
        images = few_clothes.take(np.arange(100)[::-1])
    elif change == "labels":
        images = copy.copy(few_clothes)
        object.__setattr__(images, "labels", few_clothes.labels[::-1].copy())
    else:
        model.net.linear_in.bias.data += 1
    other = copy.deepcopy(model)
    assert_same_state(finish(model, tmp_path), finish(other, None))
    assert len(list(tmp_path.iterdir())) == 2


class Slope(nn.Module):
    """A layer whose values say nothing of what it does."""

    def __init__(self, slope: float):
        super().__init__()
        self.slope = slope

    def forward(self, x):
        return F.leaky_relu(x, self.slope)


def edited() -> nn.Module:
    """The layer of the same name and setting after its file was edited."""
    layer = type("Slope", (nn.Module,), {"forward": lambda self, x: F.leaky_relu(2 * x, self.slope)})()
    layer.slope = 0.1
    return layer


def of_one_layer(layer: nn.Module, mean: float = 0.5) -> PixelModel:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 12), layer, nn.Linear(12, 10))
    return PixelModel(net, mean=(mean,) * 3, std=(0.5,) * 3)


@pytest.mark.parametrize(
    "other",
    [
        lambda: of_one_layer(nn.Tanh()),
        lambda: of_one_layer(Slope(0.3)),
        lambda: of_one_layer(edited()),
        lambda: of_one_layer(Slope(0.1), mean=0.4),
    ],
    ids=["layer", "setting", "code", "mean"],
)
def test_a_network_that_does_other_things_with_the_same_values_is_trained_anew(few_clothes, tmp_path, other):
    first = of_one_layer(Slope(0.1))
    train(first, few_clothes, QUICK, checkpoint_folder=tmp_path, progress=False)
    changed, alone = other(), other()
    assert_same_state(state_of(changed), state_of(of_one_layer(Slope(0.1))))
    train(changed, few_clothes, QUICK, checkpoint_folder=tmp_path, progress=False)
    train(alone, few_clothes, QUICK, progress=False)
    assert_same_state(state_of(changed), state_of(alone))
    assert not torch.equal(changed.net[3].weight, first.net[3].weight)


def test_a_finished_run_is_repeated_by_other_code(few_clothes, tmp_path, monkeypatch):
    options = dict(checkpoint_folder=tmp_path, progress=False)
    train(compact(), few_clothes, QUICK, **options)
    train(compact(), few_clothes, QUICK, **options)
    assert len(list(tmp_path.iterdir())) == 1
    monkeypatch.setattr(training, "CODE", training.CODE[1:])
    train(compact(), few_clothes, QUICK, **options)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_finished_run_is_repeated_for_other_held_out_images(few_clothes, handful, tmp_path):
    options = dict(checkpoint_folder=tmp_path, progress=False)
    train(compact(), few_clothes, QUICK, **options)
    assert "val_loss" in train(compact(), few_clothes, QUICK, val_set=handful, **options)


def test_a_network_is_the_same_in_another_process():
    code = """
import torch
from src.models import build_model
from src.training.checkpoints import network_identity

said = []
for name in ("mlp@untrained", "cnn@untrained", "vit@untrained", "timm:resnet10t@untrained"):
    torch.manual_seed(0)
    said.append(network_identity(build_model(name, "fashion_mnist")))
"""
    exec(code, here := {})
    environment = os.environ | {"PYTHONHASHSEED": "1"}
    there = subprocess.run([sys.executable, "-c", code + "print(said)"], env=environment, **CAPTURED).stdout
    assert there.strip() == str(here["said"])


def test_a_damaged_checkpoint_is_refused_by_name(few_clothes, tmp_path):
    train(compact(), few_clothes, QUICK, checkpoint_folder=tmp_path, progress=False)
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"not a checkpoint"):
        file.write_bytes(damaged)
        with pytest.raises(ValueError, match=f"{file.name} is not a whole checkpoint; delete it"):
            train(compact(), few_clothes, QUICK, checkpoint_folder=tmp_path, progress=False)


def test_without_a_folder_nothing_is_written(few_clothes, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train(compact(), few_clothes, QUICK, progress=False)
    assert not list(tmp_path.iterdir()) and file_of(None, {}) is None


@pytest.fixture(scope="module")
def process():
    """A function that starts `killable.run` in a process: forked from one that has imported torch, no more."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["killable"])
    with pytest.MonkeyPatch.context() as patch:
        here = os.path.dirname(os.path.dirname(__file__))
        patch.setenv("PYTHONPATH", os.pathsep.join([os.path.dirname(here), here]))
        context.Process(target=int).start()

    def start(*arguments):
        started = context.Process(target=run, args=arguments, daemon=True)
        started.start()
        return started

    return start


def finish(process, name, sets, folder, death=None) -> int:
    """Exit code of a run that ends by itself or by its own hand."""
    running = process(name, *sets, folder, death)
    running.join(120)
    return running.exitcode


@pytest.fixture(scope="module")
def undisturbed(process, clothes, tmp_path_factory):
    """For each model, the image sets and the result of a run that nobody killed."""
    train_set = clothes.take(np.arange(100))  # six batches of 16 and one of 4
    sets = (train_set, clothes.take(np.arange(100, 140)))
    results = {}
    for name in RECIPES:
        folder = tmp_path_factory.mktemp(name)
        assert finish(process, name, sets, folder) == 0
        results[name] = torch.load(folder / "result.pt", weights_only=True)
    return sets, results


def assert_same_result(folder, expected) -> None:
    found = torch.load(folder / "result.pt", weights_only=True)
    assert_same_state(found["weights"], expected["weights"])
    assert found["history"] == expected["history"]


def test_a_run_in_a_process_equals_one_here(undisturbed):
    sets, results = undisturbed
    model = untrained("cnn")
    train(model, sets[0], RECIPES["cnn"], progress=False)
    assert_same_state(state_of(model), results["cnn"]["weights"])


def test_a_run_killed_around_its_checkpoints_ends_with_the_same_weights(process, undisturbed, tmp_path):
    """The deaths are set one after the other: each run goes on from where the last one died."""
    (sets, results), checkpoints = undisturbed, tmp_path / "checkpoints"
    deaths = [
        ("before", 0, 1),  # nothing is written yet
        ("during", 0, 3),  # half a file beside the last one
        ("after", 0, 7),  # all steps of the epoch, but not its validation
        ("before", 1, 0),  # the same again, and its validation
        ("after", 1, 4),
        ("during", 3, 0),  # the very end
    ]
    for death in deaths:
        assert finish(process, "mlp", sets, tmp_path, death) == -signal.SIGKILL
        if death[0] == "during":
            newest = max(checkpoints.glob("*.partial"), key=lambda file: file.stat().st_mtime_ns)
            with pytest.raises(RuntimeError):
                torch.load(newest, weights_only=True)
    assert finish(process, "mlp", sets, tmp_path) == 0
    assert_same_result(tmp_path, results["mlp"])
    assert len(list(checkpoints.glob("*.pt"))) == 1 and len(list(checkpoints.glob("*.partial"))) == 2


def test_a_run_killed_at_random_moments_ends_with_the_same_weights(process, undisturbed, tmp_path):
    """From outside, wherever it happens to be; waiting for checkpoints keeps the kills out of its start."""
    (sets, results), checkpoints, dice = undisturbed, tmp_path / "checkpoints", random.Random(0)
    for _ in range(3):
        running = process("cnn", *sets, tmp_path, None)
        for _ in range(dice.randint(1, 3)):
            before = {file: file.stat().st_mtime_ns for file in checkpoints.glob("*.pt")}
            while before == {file: file.stat().st_mtime_ns for file in checkpoints.glob("*.pt")}:
                assert running.is_alive()
                time.sleep(0.002)
        time.sleep(dice.random() * 0.05)
        running.kill()
        running.join()
        assert running.exitcode == -signal.SIGKILL and not (tmp_path / "result.pt").exists()
    assert finish(process, "cnn", sets, tmp_path) == 0
    assert_same_result(tmp_path, results["cnn"])


def test_progress_of_nothing_is_zero():
    assert Progress().means() == {"loss": 0, "accuracy": 0}


def test_fingerprints_of_runs_are_stable_between_processes():
    """File names of checkpoints must not depend on Python's hash seed or on the order of keys."""
    assert file_of("x", {"a": 1, "b": 2.5}) == file_of("x", {"b": 2.5, "a": 1})
    assert fingerprint(torch.arange(3)) == fingerprint(torch.arange(3))


def test_strided_convolutions_of_few_channels_get_the_right_gradients(handful, monkeypatch):
    """Their weights' gradients are wrong, or the process ends, where oneDNN computes them with AVX2 on its own."""
    torch.manual_seed(0)
    strided, seen = nn.Conv2d(4, 8, kernel_size=1, stride=2, bias=False), []
    model = nn.Sequential(nn.Conv2d(3, 4, 3), strided, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))
    model.to(memory_format=torch.channels_last)
    exact, recipe = copy.deepcopy(model).double(), replace(QUICK, epochs=1, batch_size=40, gradient_clip=0)
    step = training._training_step

    def watched(*given):
        result = step(*given)
        seen.append(strided.weight.grad.clone())
        return result

    monkeypatch.setattr(training, "_training_step", watched)
    train(model, handful, replace(recipe, dtype="float32"), progress=False)
    loader = make_loader(handful, batch_size=40, shuffle=True, augment=recipe.augmentation() or False)
    (batch,) = loader.batches()
    F.cross_entropy(exact(batch.pixels.double()), batch.labels, label_smoothing=recipe.label_smoothing).backward()
    torch.testing.assert_close(seen[0].double(), exact[1].weight.grad, rtol=0, atol=0.01 * seen[0].abs().max().item())
    assert strided.stride == (2, 2) and not strided._forward_pre_hooks
