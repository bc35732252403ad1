"""Recipes of training: every field stands on the card of the weights. Read without torch."""

import math
from dataclasses import dataclass, replace

OPTIMISERS = ("adamw", "sgd", "muon")
DTYPES = ("float32", "bfloat16", "tf32", "auto")


@dataclass(frozen=True)
class Recipe:
    """A recipe of training; the card of the weights repeats every field.

    lr: peak learning rate, reached linearly after `warmup` (a share of all steps), then a cosine to zero.
    optimiser: "adamw", "sgd" (Nesterov, momentum 0.9), or "muon" for the matrices of hidden layers with AdamW for the
    rest, at one learning rate (Jordan et al. 2024; Liu et al. 2025).  weight_decay: on matrices and kernels only.
    crop_scale: smallest share of the area a random crop keeps, 1 for none.  crop_pad: instead, reflected pixels around
    the image that a crop of its size is taken from, 0 for none; with either, half of the images are flipped.
    mixup: alpha of the mixing, 0 for none.  eps_255: radius of `fast_adversary`, in 255ths of the pixel range, which
    replaces every training image; 0 for none.  ema: decay per step of an average of the weights, 0 for none.
    dtype: "float32", "bfloat16" for autocast, "tf32" (see `src.runtime.tf32`), or "auto" for the faster of float32 and
    bfloat16 on the device.  compile: 1 to compile the steps, see `src.training.compiled`; 0 not to.
    Raises ValueError for a value that means nothing.
    """

    epochs: int = 10
    batch_size: int = 128
    lr: float = 1e-3
    optimiser: str = "adamw"
    weight_decay: float = 0.05
    warmup: float = 0.1
    label_smoothing: float = 0.1
    crop_scale: float = 0.5
    crop_pad: int = 0
    mixup: float = 0.0
    eps_255: float = 0.0
    ema: float = 0.0
    gradient_clip: float = 1.0
    dtype: str = "float32"
    compile: int = 0
    seed: int = 0

    def __post_init__(self):
        for name, choices in (("optimiser", OPTIMISERS), ("dtype", DTYPES)):
            if getattr(self, name) not in choices:
                raise ValueError(f"unknown {name} {getattr(self, name)!r}; choose from {', '.join(choices)}")
        for name in ("epochs", "batch_size", "crop_pad", "seed"):
            if not isinstance(getattr(self, name), int):
                raise ValueError(f"{name} must be a whole number, not {getattr(self, name)!r}")
        if self.compile not in (0, 1):
            raise ValueError(f"compile must be 0 or 1, not {self.compile}")
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("warmup", "label_smoothing", "ema"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be in [0, 1), not {getattr(self, name)}")
        if not 0 <= self.eps_255 <= 255:
            raise ValueError(f"eps_255 must be in [0, 255], not {self.eps_255}")
        if not 0 < self.lr < math.inf:
            raise ValueError(f"lr must be above 0 and finite, not {self.lr}")
        for name in ("weight_decay", "gradient_clip", "mixup", "crop_pad"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be at least 0 and finite, not {getattr(self, name)}")
        if not 0 < self.crop_scale <= 1:
            raise ValueError(f"crop_scale must be in (0, 1], not {self.crop_scale}")
        if self.crop_pad and self.crop_scale != 1:
            raise ValueError(f"crop_pad needs crop_scale 1, not {self.crop_scale}")

    def augmentation(self) -> "Augmentation | None":
        """Crops, flips and mixing; None for images as they are."""
        from src.data.augment import Augmentation  # imports torch

        if self.crop_pad or self.crop_scale != 1:
            return Augmentation(scale=(self.crop_scale, 1.0), pad=self.crop_pad, mixup=self.mixup)
        return Augmentation(scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.0, mixup=self.mixup) if self.mixup else None

    def on(self, device: object) -> "Recipe":
        """The recipe with the dtype that "auto" means on `device`; ValueError for one that it does not compute in."""
        from src.runtime import check_dtype, fast_dtype  # imports torch

        check_dtype(self.dtype, device)
        return self if self.dtype != "auto" else replace(self, dtype=fast_dtype(device))


# (model, data set, size) -> recipe; sizes as in src.models.compact.  Each network is given about as long as it
# goes on learning from: MLPs need many cheap epochs.  bfloat16 halves the time where there is hardware for it.
_CNN = Recipe(lr=0.2, optimiser="sgd", weight_decay=5e-4, gradient_clip=0, dtype="auto")
_VIT = Recipe(batch_size=64, lr=3e-3, optimiser="muon", dtype="auto")
_MLP = Recipe(lr=1e-3, weight_decay=0.1, mixup=0.2, dtype="auto")
RECIPES: dict[tuple[str, str, str], Recipe] = {
    ("mlp", "fashion_mnist", "small"): replace(_MLP, epochs=60, crop_scale=0.7),
    ("cnn", "fashion_mnist", "small"): replace(_CNN, epochs=12, crop_scale=0.7),
    ("vit", "fashion_mnist", "small"): replace(_VIT, epochs=16, crop_scale=0.8),
    ("mlp", "cifar10", "base"): replace(_MLP, epochs=100),
    ("cnn", "cifar10", "base"): replace(_CNN, epochs=24, crop_scale=1.0, crop_pad=4),
    ("vit", "cifar10", "base"): replace(_VIT, epochs=10, crop_scale=0.7),
    ("cnn_robust", "cifar10", "base"): replace(_CNN, epochs=7, crop_scale=0.8, label_smoothing=0.0, eps_255=8.0),
    ("mlp", "cifar100", "base"): replace(_MLP, epochs=100),
    ("cnn", "cifar100", "base"): replace(_CNN, epochs=20, crop_scale=0.8),
    ("vit", "cifar100", "base"): replace(_VIT, epochs=12, crop_scale=0.7),
    ("vit", "cifar100", "small"): Recipe(epochs=8, batch_size=64, lr=1e-3, crop_scale=0.5),
}
# for a network or a data set without a recipe of its own: many steps on few images
UNTUNED = Recipe(epochs=20, batch_size=64, crop_scale=0.7, dtype="auto")
# data set of a model -> the one it is trained on, where that is another
TRAINED_ON = {"fashion_mnist": "fashion_mnist_full"}
