"""What a model costs on paper: parameters, bytes, multiply-accumulates and activation memory. No clock is read."""

import weakref
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from src.models.access import frozen

MIB = 2**20


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
    return sum(macs_by_module(model, pixels).values())


def macs_by_module(model: nn.Module, pixels: Float[Tensor, "n c h w"]) -> dict[str, float]:
    """`count_macs` by operator, e.g. {"aten.convolution": …}."""
    # fused attention for the CPU is one operator that the counter takes for nothing; by its two products it is counted
    plain = sdpa_kernel(SDPBackend.MATH)
    with frozen(model), torch.no_grad(), plain, FlopCounterMode(display=False) as counter:
        model(pixels)
    total = counter.get_flop_counts().get("Global", {})
    return {str(operator): flops / 2 / len(pixels) for operator, flops in total.items()}


class _LiveTensors(TorchDispatchMode):
    """Bytes of the tensors that operators have made and that are still alive, and their peak."""

    def __init__(self):
        super().__init__()
        self.live, self.peak, self.known = 0, 0, {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        known_before = {id(self._storage(x)) for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)}
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor) and id(self._storage(tensor)) not in known_before:
                self._add(self._storage(tensor))
        return out

    @staticmethod
    def _storage(tensor: Tensor) -> torch.UntypedStorage:
        return tensor.untyped_storage()

    def _add(self, storage: torch.UntypedStorage) -> None:
        key = id(storage)
        if key in self.known:
            return
        size = self.known[key] = storage.nbytes()
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._remove, key)

    def _remove(self, key: int) -> None:
        self.live -= self.known.pop(key)


def activation_memory(model: nn.Module, pixels: Float[Tensor, "n c h w"]) -> dict[str, float]:
    """Bytes of activations for one image of the batch: the peak in inference, and what training keeps for backward.

    inference: the largest sum of the tensors alive at once in a forward pass without gradients, input and weights
    left out.  training: what is alive after a forward pass in training mode, held for the backward pass, logits
    included.  Temporary buffers inside an operator are not seen; `measured_memory` has those. Dividing by the batch
    takes no account of what does not grow with it, so that small batches read a little high.
    """
    with frozen(model), torch.inference_mode(), _LiveTensors() as inference:
        model(pixels)
    modes = [(module, module.training) for module in model.modules()]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    try:
        model.train()
        with torch.enable_grad(), _LiveTensors() as training:
            logits = model(pixels)
            kept = training.live
            del logits
    finally:
        for module, mode in modes:
            module.training = mode
        model.load_state_dict(state)  # batch norm has counted the batch
    return {"inference_bytes": inference.peak / len(pixels), "training_bytes": kept / len(pixels)}


def torchinfo_sizes(model: nn.Module, pixels: Float[Tensor, "n c h w"]) -> dict[str, float]:
    """What torchinfo says, in its own definitions: the 2023 report's columns.

    Its "forward/backward pass size" is the sum of all leaf modules' outputs, "params size" misses parameters that
    belong to no leaf (a ViT's position embedding), and its mult-adds miss attention: they are not ours.
    """
    from torchinfo import summary

    with frozen(model):
        info = summary(model, input_data=pixels, verbose=0)
    n = len(pixels)
    return {
        "torchinfo_forward_backward_bytes": info.total_output_bytes / n,
        "torchinfo_params_bytes": float(info.total_param_bytes),
        "torchinfo_total_bytes": float(info.total_param_bytes) + (info.total_output_bytes + info.total_input) / n,
        "torchinfo_mult_adds": info.total_mult_adds / n,
    }


def cost_of(model: nn.Module, pixels: Float[Tensor, "n c h w"]) -> dict[str, float]:
    """All of the above in one row; a batch of 8 or more images is wise."""
    parts: list[Callable] = [activation_memory, torchinfo_sizes]
    row = model_size(model) | {"macs": count_macs(model, pixels)}
    for part in parts:
        row |= part(model, pixels)
    return row
