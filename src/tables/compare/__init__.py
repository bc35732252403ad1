"""Two folders of tables compared: differences with intervals, in pairs where the images are the same; no torch."""

from src.tables.compare.folders import compare, differing_facts, only_in_one
from src.tables.compare.text import EACH, alone, label_of, largest, numbers_of, sentence, summary

__all__ = [
    "EACH",
    "alone",
    "compare",
    "differing_facts",
    "label_of",
    "largest",
    "numbers_of",
    "only_in_one",
    "sentence",
    "summary",
]


def __dir__() -> list[str]:
    return __all__
