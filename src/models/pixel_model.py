"""`PixelModel`: a network behind its preprocessing, with what is known of its weights."""

from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from src.models.mlp import BottleneckMLP


class PixelModel(nn.Module):
    """A network behind its preprocessing: pixels in [0, 1], resized to `input_side`, normalised; `net`'s logits.

    name: what tables call it.  reference: what it was built by.  family: its architecture, see `family_of`.
    size: of a compact model.  trained: whether no part of it is random.  path: the file of its weights, None for those
    of a pretraining.  card: that file's.  source: of trained weights, file name -> sha256.  code: the same of a user's
    file that was run.  classes: names of what its logits are for, where they are known.
    """

    def __init__(self, net: nn.Module, *, mean, std, input_side: int | None = None, name: str = ""):
        super().__init__()
        self.net = net
        self.input_side = input_side
        self.name = name
        self.reference = self.family = self.size = ""
        self.trained = False
        self.path: Path | None = None
        self.card: dict = {}
        self.source: dict[str, str] = {}
        self.code: dict[str, str] = {}
        self.classes: tuple[str, ...] = ()
        self.register_buffer("mean", torch.as_tensor(mean, dtype=torch.float32).clone().view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.as_tensor(std, dtype=torch.float32).clone().view(3, 1, 1), persistent=False)

    def forward(self, pixels: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n k"]:
        if self.input_side and self.input_side != pixels.shape[-1]:
            pixels = F.interpolate(pixels, (self.input_side,) * 2, mode="bilinear", antialias=True)
        return self.net((pixels - self.mean) / self.std)

    @property
    def classifier(self) -> nn.Linear:
        """The last linear layer, which `fine_tune` replaces."""
        return self.net.get_submodule(classifier_name(self.net))

    def replace_classifier(self, new: nn.Linear) -> None:
        self.net.set_submodule(classifier_name(self.net), new)


def classifier_name(net: nn.Module) -> str:
    """Name of the layer that gives the logits: `linear_out` of an MLP, or what the network's `default_cfg` names.

    timm's networks bring that with them; of a user's own it is the linear layer whose output came out as the logits.
    Raises ValueError when it is not one linear layer, as in a distilled ViT with two, or a convolution at the end.
    """
    named = getattr(net, "default_cfg", None) or {}
    name = "linear_out" if isinstance(net, BottleneckMLP) else named.get("classifier")
    if not isinstance(name, str) or not isinstance(net.get_submodule(name), nn.Linear):
        raise ValueError(
            f"{type(net).__name__} has no single linear classifier but {name!r}; it cannot be fine-tuned, unless its "
            "default_cfg = {'classifier': NAME} names one"
        )
    return name
