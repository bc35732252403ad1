"""The cost of a prediction: size, operations, memory and time."""

from src.efficiency.resources import cold_start, energy_per_image, measured_memory
from src.efficiency.size import activation_memory, cost_of, count_macs, macs_by_module, model_size, torchinfo_sizes
from src.efficiency.timing import interleaved, throughput, time_blocks, time_inference, time_loading
from src.efficiency.variants import VARIANTS, prepare

__all__ = [
    "VARIANTS",
    "activation_memory",
    "cold_start",
    "cost_of",
    "count_macs",
    "energy_per_image",
    "interleaved",
    "macs_by_module",
    "measured_memory",
    "model_size",
    "prepare",
    "throughput",
    "time_blocks",
    "time_inference",
    "time_loading",
    "torchinfo_sizes",
]
