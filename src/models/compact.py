"""The study's own three architectures, in sizes of matched parameter counts; to be trained by `src.training.recipe`."""

from collections.abc import Callable

import torch
from torch import nn

from src.models.mlp import BottleneckMLP

# about 0.8 M parameters for grey 28-pixel clothes, where more buys nothing and files stay below 2 MB, and about 2.7 M
# for everything else
SIZES = {
    "mlp": {"small": dict(blocks=6, width=104), "base": dict(blocks=6, width=208)},
    "cnn": {"small": dict(width=16), "base": dict(width=32)},
    "vit": {"small": dict(embed_dim=128, depth=4, num_heads=4), "base": dict(embed_dim=192, depth=6, num_heads=3)},
}


def shape_of(name: str, sizes: dict[str, dict[str, int]], size: str, usual: str) -> tuple[str, dict[str, int]]:
    """A size in words, and the arguments of the builder: a key of `sizes`, or what differs from the usual size.

    Raises ValueError for an unknown size or argument, and for what is no whole number above 0.

    >>> shape_of("vit", SIZES["vit"], "embed_dim=96,depth=3", "base")
    ('embed_dim=96,depth=3,num_heads=3', {'embed_dim': 96, 'depth': 3, 'num_heads': 3})
    """
    if size in sizes:
        return size, sizes[size]
    shape = dict(sizes[usual])
    for part in size.split(","):
        key, equals, value = part.strip().partition("=")
        if not equals or key not in shape or not value.isdecimal() or int(value) < 1:
            example = ",".join(f"{key}={value}" for key, value in sizes[usual].items())
            raise ValueError(
                f"unknown size {size!r} of {name}; choose from {', '.join(sizes)}, or whole numbers as in {example}"
            )
        shape[key] = int(value)
    return ",".join(f"{key}={value}" for key, value in shape.items()), shape


def compact_mlp(n_classes: int, side: int, *, blocks: int, width: int) -> nn.Module:
    return BottleneckMLP(blocks=blocks, width=width, n_classes=n_classes, side=side)


def compact_cnn(n_classes: int, side: int, *, width: int) -> nn.Module:
    """ResNet-18 (He et al. 2016) with `width` channels in place of 64 and a CIFAR stem: 3×3, stride 1, no pooling."""
    from timm.models.resnet import BasicBlock, ResNet  # timm takes longer to import than torch

    if width % 2:
        raise ValueError(f"cnn has an even number of channels, so width={width} does not work")
    # timm sets the stem's width only for its deep stem; that one is then replaced by a single convolution
    stem, channels = dict(stem_type="deep", stem_width=width // 2), (width, 2 * width, 4 * width, 8 * width)
    net = ResNet(BasicBlock, [2, 2, 2, 2], num_classes=n_classes, channels=channels, **stem)
    net.conv1 = nn.Conv2d(3, width, kernel_size=3, padding=1, bias=False)
    nn.init.kaiming_normal_(net.conv1.weight, mode="fan_out", nonlinearity="relu")
    net.maxpool = nn.Identity()
    net.default_cfg = {"classifier": "fc"}
    return net.to(memory_format=torch.channels_last)  # a fifth faster, forward and backward


def compact_vit(n_classes: int, side: int, *, embed_dim: int, depth: int, num_heads: int) -> nn.Module:
    """A ViT (Dosovitskiy et al. 2021) on 4×4 patches with mean pooling in place of a class token."""
    from timm.models.vision_transformer import VisionTransformer

    if side % 4:
        raise ValueError(f"vit cuts images into patches of 4x4 pixels, which does not work for {side} pixels a side")
    if embed_dim % num_heads:
        raise ValueError(f"vit shares embed_dim={embed_dim} out over its heads, and num_heads={num_heads} does not fit")
    shape = dict(img_size=side, patch_size=4, embed_dim=embed_dim, depth=depth, num_heads=num_heads)
    net = VisionTransformer(num_classes=n_classes, global_pool="avg", class_token=False, **shape)
    net.default_cfg = {"classifier": "head"}
    for block in net.blocks:  # torch's fused attention gains nothing on 64 tokens, and halves bf16 training on CPUs
        block.attn.fused_attn = False
    return net


# The study's own, name -> builder of the bare network. What precedes an underscore is the family, which has the SIZES
# and whose folder holds the weights, e.g. cnn_models/. cnn_robust is the cnn, trained adversarially.
COMPACT: dict[str, Callable] = {"mlp": compact_mlp, "cnn": compact_cnn, "vit": compact_vit, "cnn_robust": compact_cnn}
