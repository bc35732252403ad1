"""Optimisers and the learning rate of a recipe."""

import math

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from src.runtime import fast_dtype
from src.training.recipe import Recipe


def make_optimisers(model: nn.Module, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """AdamW or SGD, or Muon with AdamW; biases, norms and embeddings of one dimension are spared the weight decay."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    # the last matrix is the classifier, whose rows stand for classes: not one for Muon
    hidden = [p for p in trained if p.ndim == 2][:-1] if recipe.optimiser == "muon" else []
    rest = [p for p in trained if not any(p is matrix for matrix in hidden)]
    decayed = {"params": [p for p in rest if p.ndim > 1], "weight_decay": recipe.weight_decay}
    groups = [decayed, {"params": [p for p in rest if p.ndim <= 1], "weight_decay": 0.0}]
    if recipe.optimiser == "sgd":
        return [torch.optim.SGD(groups, lr=recipe.lr, momentum=0.9, nesterov=True, fused=True)]
    adamw = torch.optim.AdamW(groups, lr=recipe.lr, fused=True)
    if not hidden:
        return [adamw]
    muon = torch.optim.Muon if fast_dtype(hidden[0].device) == "bfloat16" else Float32Muon
    return [adamw, muon(hidden, lr=recipe.lr, weight_decay=recipe.weight_decay, adjust_lr_fn="match_rms_adamw")]


class Float32Muon(torch.optim.Muon):
    """Torch's Muon, its Newton-Schulz iteration in float32: where bfloat16 is emulated it would take most of a step."""

    def step(self, closure=None):
        with _NoBfloat16():
            return super().step(closure)


class _NoBfloat16(TorchFunctionMode):
    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is Tensor.bfloat16:
            return args[0].float().clone()
        return function(*args, **(kwargs or {}))


def learning_rate(recipe: Recipe, step: int, n_steps: int) -> float:
    """Linear warm-up, then half a cosine to zero (Loshchilov & Hutter 2017), of a step from 0: no state to resume."""
    warmup = max(1, round(recipe.warmup * n_steps))
    if step < warmup:
        return recipe.lr * (step + 1) / warmup
    return recipe.lr * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, n_steps - warmup)))
