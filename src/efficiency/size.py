"""Costs on paper: parameters, bytes, multiply-accumulates and activation memory; no clock is read."""

import copy
import weakref
from collections.abc import Iterator, Mapping

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode
from torchinfo import summary

from src.data.inputs import bar
from src.models.access import as_zoo, frozen
from src.models.checks import check_images


def costs(zoo: Mapping, pixels: Float[Tensor, "n c h w"], *, progress: bool = True) -> pd.DataFrame:
    """One row per model: all costs of this module for one image of the batch, 8 or more, beside its accuracy.

    zoo: name -> model, or (name, training seed) -> model.  progress: whether to show a bar of models.
    Columns: model, model_seed, those of `model_size`, macs, those of `activation_memory`, `torchinfo_sizes` and
    `card_accuracy`.
    """
    check_images(pixels)
    rows, zoo = [], as_zoo(zoo)
    with bar("costs", len(zoo), progress, unit="model") as shown:
        for (name, seed), model in zoo.items():
            row = dict(model=name, model_seed=seed) | model_size(model) | dict(macs=count_macs(model, pixels))
            row |= activation_memory(model, pixels) | torchinfo_sizes(model, pixels)
            rows.append(row | card_accuracy(model))
            shown.update(1)
    return pd.DataFrame(rows)


def card_accuracy(model: nn.Module) -> dict[str, float]:
    """accuracy, low and high on the test images, as the card of the model's weights has them.

    NaN for a network without a card, such as an untrained one, timm's, or the 2023 report's.
    """
    test = getattr(model, "card", {}).get("test")
    values = (test["accuracy"], *test["interval"]) if test else (float("nan"),) * 3
    return dict(zip(("accuracy", "low", "high"), values, strict=True))


def model_size(model: nn.Module) -> dict[str, int]:
    """Numbers of parameters and buffer values, and the bytes of both, each tensor counted once however often used."""
    parameters, buffers = set(model.parameters()), set(model.buffers())
    return {
        "n_parameters": sum(value.numel() for value in parameters),
        "n_buffers": sum(value.numel() for value in buffers),
        "bytes": sum(value.numel() * value.element_size() for value in parameters | buffers),
    }


def count_macs(model: nn.Module, pixels: Float[Tensor, "n c h w"]) -> float:
    """Multiply-accumulates of matrix products, convolutions and attention for one image of the batch.

    Half of what torch's FlopCounterMode counts, one multiply-accumulate being two floating-point operations;
    elementwise work, normalisation and softmax are not in it.
    """
    # fused attention is one operator that the counter takes for nothing; by its products it is counted
    plain, fused = sdpa_kernel(SDPBackend.MATH), torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # of nn.MultiheadAttention
    try:
        with frozen(model), torch.no_grad(), plain, FlopCounterMode(display=False) as counter:
            model(pixels)
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
    return counter.get_total_flops() / 2 / len(pixels)


class _LiveTensors(TorchDispatchMode):
    """Bytes of the tensors that operators have made and that are still alive, and their peak."""

    def __init__(self):
        super().__init__()
        self.live, self.peak, self.known = 0, 0, set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        given = {id(storage) for storage in _storages((args, kwargs))}
        out = func(*args, **(kwargs or {}))
        for storage in _storages(out):
            key, size = id(storage), storage.nbytes()
            if key not in given and key not in self.known:
                self.known.add(key)
                self.live += size
                self.peak = max(self.peak, self.live)
                weakref.finalize(storage, self._forget, key, size)
        return out

    def _forget(self, key: int, size: int) -> None:
        self.known.remove(key)
        self.live -= size


def _storages(values: object) -> Iterator[torch.UntypedStorage]:
    return (value.untyped_storage() for value in tree_leaves(values) if isinstance(value, Tensor))


def activation_memory(model: nn.Module, pixels: Float[Tensor, "n c h w"]) -> dict[str, float]:
    """Bytes of activations for one image of the batch: inference_bytes, the peak, and training_bytes.

    inference: the largest sum of the tensors alive at once in a forward pass without gradients, input and weights
    left out.  training: what is alive after a forward pass in training mode, held for the backward pass, logits
    included.  Temporary buffers inside an operator are not seen. Dividing by the batch takes no account of what does
    not grow with it, so that small batches read a little high.
    """
    with frozen(model), torch.inference_mode(), _LiveTensors() as inference:
        model(pixels)
    learner = copy.deepcopy(model).train()  # batch norm would count the batch
    with torch.enable_grad(), _LiveTensors() as training:
        logits = learner(pixels)  # noqa: F841 -- alive, with all that its backward pass needs
        kept = training.live
    return {"inference_bytes": inference.peak / len(pixels), "training_bytes": kept / len(pixels)}


def torchinfo_sizes(model: nn.Module, pixels: Float[Tensor, "n c h w"]) -> dict[str, float]:
    """What torchinfo says, in its own definitions: the 2023 report's columns.

    Its "forward/backward pass size" is the sum of all leaf modules' outputs, "params size" misses parameters that
    belong to no leaf (a ViT's position embedding), and its mult-adds miss attention: they are not ours.
    """
    with frozen(model):
        info = summary(model, input_data=pixels, verbose=0)
    n = len(pixels)
    return {
        "torchinfo_forward_backward_bytes": info.total_output_bytes / n,
        "torchinfo_params_bytes": float(info.total_param_bytes),
        "torchinfo_total_bytes": float(info.total_param_bytes) + (info.total_output_bytes + info.total_input) / n,
        "torchinfo_mult_adds": info.total_mult_adds / n,
    }
