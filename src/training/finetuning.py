"""Fine-tuning: a new classifier on a pretrained network, frozen or trained with all the rest."""

from pathlib import Path

import pandas as pd
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from src.data.batches import MemoryLoader
from src.data.image_set import ImageSet
from src.data.loaders import make_loader
from src.models.access import INPUT, hooked
from src.models.build import PixelModel, classifier_name
from src.training import checkpoints, distributed
from src.training.loop import fit, train
from src.training.recipe import Recipe


def fine_tune(
    model: PixelModel,
    train_set: ImageSet,
    recipe: Recipe,
    *,
    mode: str = "linear",
    val_set: ImageSet | None = None,
    checkpoint_folder: Path | str | None = None,
    device: torch.device | str = "cpu",
    progress: bool = True,
) -> pd.DataFrame:
    """Give `model` a new classifier for the classes of `train_set` and train it in place; return the history.

    mode: "linear" trains the classifier on a frozen backbone, "full" trains everything.  Without augmentation
    (`crop_scale` 1) the frozen features are computed once, so that an epoch of "linear" takes seconds.
    Other arguments and the history are those of `train`.
    """
    if mode not in ("linear", "full"):
        raise ValueError(f"unknown mode {mode!r} of fine-tuning; choose from linear, full")
    if not isinstance(model, PixelModel):
        raise ValueError(
            f"fine_tune takes a PixelModel, not {type(model).__name__}; PixelModel(net, mean=…, std=…) makes one, and "
            "net.default_cfg = {'classifier': NAME} names its last layer"
        )
    if mode == "linear" and distributed.world_size() > 1:
        raise ValueError("a classifier on frozen features is trained by one process; start it without torchrun")
    if mode == "linear" and recipe.eps_255:
        raise ValueError("adversarial training (eps_255 above 0) changes the backbone: take mode='full', or eps_255=0")
    replace_classifier(model, len(train_set.classes), seed=recipe.seed)
    model.classes = train_set.classes
    rest = dict(val_set=val_set, checkpoint_folder=checkpoint_folder, device=device, progress=progress)
    if mode == "full":
        return train(model, train_set, recipe, **rest)
    model.to(device).eval()
    frozen = FrozenBackbone(model)
    if recipe.augmentation():
        return train(nn.Sequential(frozen, model.classifier), train_set, recipe, **rest)
    loader = _feature_loader(frozen, train_set, recipe, device=device, progress=progress)
    loader.shuffle = True
    val_loader = _feature_loader(frozen, val_set, recipe, device=device, progress=progress) if val_set else None
    return fit(model.classifier, loader, val_loader, recipe, checkpoint_folder=checkpoint_folder, progress=progress)


def replace_classifier(model: PixelModel, n_classes: int, *, seed: int) -> None:
    """Put a new linear layer of `n_classes` on top, with zero bias and small normal weights drawn from `seed`."""
    old = model.classifier
    new = nn.Linear(old.in_features, n_classes)
    nn.init.normal_(new.weight, std=0.01, generator=torch.Generator().manual_seed(seed))
    nn.init.zeros_(new.bias)
    model.replace_classifier(new.to(old.weight.device))


class FrozenBackbone(nn.Module):
    """The input of `model`'s classifier for given pixels, without gradients and always in eval mode."""

    def __init__(self, model: PixelModel):
        super().__init__()
        self._model = (model,)  # in a tuple: its parameters are not ours to train or to save
        checksum = bytes.fromhex("".join(checkpoints.network_identity(model).values()))
        self.register_buffer("checksum", torch.tensor(list(checksum)))  # a checkpoint belongs to one backbone

    @torch.no_grad()
    def forward(self, pixels: Tensor) -> Tensor:
        (model,), features = self._model, []
        with hooked(model, [f"net.{classifier_name(model.net)}{INPUT}"], lambda _, value: features.append(value)):
            model(pixels)
        return features[0]


def _feature_loader(
    backbone: FrozenBackbone, image_set: ImageSet, recipe: Recipe, *, device: torch.device | str, progress: bool
) -> MemoryLoader:
    loader = make_loader(image_set, batch_size=recipe.batch_size, seed=recipe.seed, device=device)
    batches = tqdm(loader, desc="features", disable=not progress, leave=False)
    kept = {name: getattr(loader, name) for name in ("labels", "sample_ids", "n_classes", "batch_size", "seed")}
    return MemoryLoader(images=torch.cat([backbone(batch.pixels) for batch in batches]), **kept)
