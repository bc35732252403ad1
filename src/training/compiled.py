"""Training steps compiled by torch: fewer kernels, and on CUDA one launch for all of them."""

import os
import shutil

import torch
from torch import nn

from src.training import distributed

BACKEND = "inductor"
COMPILERS = ("g++", "clang++")  # of C++, in place of $CXX


def compiled(model: nn.Module) -> nn.Module:
    """The model, whose passes are compiled at the first batch of each size: minutes, once; its weights are the same.

    On CUDA a pass is recorded as a CUDA graph.  Raises ValueError for several processes, and where there is no
    compiler of C++.

    >>> same = compiled(nn.Linear(2, 1))  # nothing is compiled before it is called
    """
    if distributed.world_size() > 1:
        raise ValueError("compile=1 is for one process; leave it out, or train in one")
    named = (os.environ["CXX"],) if os.environ.get("CXX") else COMPILERS
    if BACKEND == "inductor" and not any(shutil.which(name) for name in named):
        raise ValueError(f"compile=1 needs a compiler of C++, and there is no {' or '.join(named)}; leave it out")
    graphs = BACKEND == "inductor" and next(model.parameters()).device.type == "cuda"
    return torch.compile(model, backend=BACKEND, mode="reduce-overhead" if graphs else None, dynamic=False)
