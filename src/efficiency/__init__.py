"""The cost of a prediction: size, operations, memory and time."""

from src.efficiency.processes import time_in_processes
from src.efficiency.resources import energy_per_image, time_cold_start
from src.efficiency.size import activation_memory, costs, count_macs, model_size
from src.efficiency.timing import interleaved, throughput, time_all, time_blocks, time_inference, time_loading
from src.efficiency.variants import VARIANTS, prepare

__all__ = [
    "VARIANTS",
    "activation_memory",
    "costs",
    "count_macs",
    "energy_per_image",
    "interleaved",
    "model_size",
    "prepare",
    "throughput",
    "time_all",
    "time_blocks",
    "time_cold_start",
    "time_in_processes",
    "time_inference",
    "time_loading",
]


def __dir__() -> list[str]:
    return __all__
