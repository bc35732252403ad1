"""Each architecture on all axes of the study, from stored tables: values, intervals, tests, ranks; no torch."""

from src.tables.profile.axes import AXES, COLUMNS, MODELS, calibration_error, profile
from src.tables.profile.ranks import as_text, counted, paired_as_text, paired_tests, sentences, summarise

__all__ = [
    "AXES",
    "COLUMNS",
    "MODELS",
    "as_text",
    "calibration_error",
    "counted",
    "paired_tests",
    "profile",
    "sentences",
    "summarise",
    "paired_as_text",
]


def __dir__() -> list[str]:
    return __all__
