"""One training run over several processes, as `torchrun` starts them; in a run of one process all this does nothing.

Every process holds the whole network and takes its share of each batch; torch's DistributedDataParallel averages the
gradients.  accelerate sets the processes up: gloo between CPUs, nccl between GPUs, each on its own.
"""

import os

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel


def world_size() -> int:
    """The number of processes that train together; 1 unless `torchrun` started more."""
    # a cluster may set WORLD_SIZE for purposes of its own
    return int(os.environ["WORLD_SIZE"]) if torch.distributed.is_torchelastic_launched() else 1


def rank() -> int:
    """The number of this process, from 0, which alone writes files."""
    return int(os.environ["RANK"]) if world_size() > 1 else 0


def join(device: torch.device | str) -> torch.device:
    """Meet the other processes; returns the device of this one, of the same kind.

    Raises ValueError where there is not a GPU for each process.
    """
    device = torch.device(device)
    if world_size() == 1:
        return device
    here, gpus = int(os.environ["LOCAL_WORLD_SIZE"]), torch.cuda.device_count()
    if device.type != "cpu" and (device.type != "cuda" or gpus < here):
        raise ValueError(
            f"{here} processes on {device.type} need a CUDA device each, and there are {gpus}: start fewer"
        )
    from accelerate import PartialState  # a second to import, and not needed by one process

    return PartialState(cpu=device.type == "cpu").device


def replicate(model: nn.Module) -> nn.Module:
    """The model, in every process with the weights of the first, wrapped so that a backward pass averages gradients.

    BatchNorm takes its statistics over the whole batch from then on.  Raises ValueError for a network with BatchNorm on
    CPUs, for which torch has no such layer.
    """
    if world_size() == 1:
        return model
    if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules()):
        if next(model.parameters()).device.type == "cpu":
            raise ValueError(
                f"a network with BatchNorm cannot be trained on {world_size()} CPU processes, each would normalise by "
                "its own share of the batch; take one process with more threads, or GPUs"
            )
        from timm.layers import convert_sync_batchnorm  # timm takes longer to import than torch

        convert_sync_batchnorm(model)  # torch's own would drop the activations that timm's layers hold
    # a search that torch warns of as needless keeps the order of sums, so that a resumed run repeats in every bit
    return DistributedDataParallel(model, find_unused_parameters=True)


def total(values: Tensor) -> Tensor:
    """The values, summed over all processes in place."""
    if world_size() > 1:
        torch.distributed.all_reduce(values)
    return values


def gather(value) -> list:
    """The value of each process, by rank, in all of them."""
    if world_size() == 1:
        return [value]
    values = [None] * world_size()
    torch.distributed.all_gather_object(values, value)
    return values
