"""What networks, pairs of them and layers are called in figures and notebooks."""

import re

from src.plotting.style import model_style


def network_name(model: str, kind: str = "trained") -> str:
    """The label of the architecture, and whether it is untrained."""
    return model_style(model)["label"] + (", untrained" if kind == "untrained" else "")


def pair_name(pair: str) -> str:
    """Two networks by the labels of their architectures, with what precedes them.

    >>> pair_name("less mlp–cnn")
    'less MLP–CNN'
    """
    before, space, names = pair.rpartition(" ")
    return before + space + "–".join(network_name(model) for model in names.split("–"))


def layer_label(layer: str) -> str:
    """Short enough for an axis; the input of a LayerNorm of an MLP is the state before it.

    >>> [layer_label(name) for name in ("net.layernorms.2:input", "layer3.1", "blocks.0", "patch_embed")]
    ['state 2', 'stage 3.1', 'block 0', 'patches']
    """
    short = layer.removeprefix("net.").removesuffix(":input")
    for pattern, name in (
        (r"^layernorms\.", "state "),
        (r"^linear_out", "state, last"),
        (r"^layer(?=\d+\.\d+$)", "stage "),
        (r"^blocks\.(?=\d+$)", "block "),
        (r"^patch_embed$", "patches"),
    ):
        short = re.sub(pattern, name, short)
    return short
