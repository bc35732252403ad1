"""One training run over several processes, as `torchrun` starts them; in a run of one process all this does nothing.

Every process holds the whole network and takes its share of each batch; gradients are summed over all before a step.
accelerate sets the processes up: gloo between CPUs, nccl between GPUs, each on its own.
"""

import os
from functools import cache

import timm
import torch
from torch import Tensor, nn


def count() -> int:
    """How many processes train together; 1 unless `torchrun` started more."""
    # a cluster may set WORLD_SIZE for purposes of its own
    return int(os.environ["WORLD_SIZE"]) if torch.distributed.is_torchelastic_launched() else 1


def number() -> int:
    """Which of them this is, from 0, which alone writes files."""
    return int(os.environ["RANK"]) if count() > 1 else 0


@cache
def _state(device_type: str):
    from accelerate import PartialState  # a second to import, and not needed by one process

    return PartialState(cpu=device_type == "cpu")


def join(device: torch.device | str) -> torch.device:
    """Meet the other processes; returns the device of this one, of the same kind.

    Raises ValueError where there is not a GPU for each process.
    """
    device = torch.device(device)
    if count() == 1:
        return device
    here, gpus = int(os.environ["LOCAL_WORLD_SIZE"]), torch.cuda.device_count()
    if device.type != "cpu" and (device.type != "cuda" or gpus < here):
        raise ValueError(
            f"{here} processes on {device.type} need a CUDA device each, and there are {gpus}: start fewer"
        )
    return _state(device.type).device


def start_alike(model: nn.Module) -> None:
    """Give every process the weights and buffers of the first."""
    if count() > 1:
        for value in model.state_dict().values():
            torch.distributed.broadcast(value, src=0)


def synchronise_batch_norm(model: nn.Module) -> None:
    """Let BatchNorm take its statistics over the whole batch, not over this process's share of it; in place.

    Raises ValueError on CPUs, for which torch has no such layer.
    """
    if count() == 1 or not any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules()):
        return
    if next(model.parameters()).device.type == "cpu":
        raise ValueError(
            f"a network with BatchNorm cannot be trained on {count()} CPU processes, each would normalise by its own "
            "share of the batch; take one process with more threads, or GPUs"
        )
    timm.layers.convert_sync_batchnorm(model)  # torch's own would drop the activations that timm's layers hold


def sum_gradients(parameters: list[nn.Parameter], *extra: Tensor) -> list[Tensor]:
    """Sum the gradients, in place, and the `extra` scalars over all processes; one message for all.  Returns those."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    message = torch.cat([*(gradient.flatten().float() for gradient in gradients), torch.stack(extra).float()])
    torch.distributed.all_reduce(message)
    *sums, totals = message.split([*(gradient.numel() for gradient in gradients), len(extra)])
    for gradient, total in zip(gradients, sums, strict=True):
        gradient.copy_(total.view_as(gradient))
    return list(totals)


def any_of(yes: bool) -> bool:
    """Whether it is so in any process."""
    if count() == 1:
        return yes
    flag = torch.tensor(float(yes), device=torch.device("cuda") if torch.distributed.get_backend() == "nccl" else "cpu")
    torch.distributed.all_reduce(flag, op=torch.distributed.ReduceOp.MAX)
    return bool(flag)


def gather(value) -> list:
    """The value of each process, in their order, in all of them."""
    if count() == 1:
        return [value]
    values = [None] * count()
    torch.distributed.all_gather_object(values, value)
    return values
