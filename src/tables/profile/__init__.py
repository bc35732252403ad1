"""Each architecture on all axes of the study, from stored tables: values, intervals, seeds, ranks; no torch."""

from src.tables.profile.axes import (
    AXES,
    COLUMNS,
    MODELS,
    as_text,
    calibration_error,
    profile,
    sentences,
    shape_share,
    summarise,
)

__all__ = [
    "AXES",
    "COLUMNS",
    "MODELS",
    "as_text",
    "calibration_error",
    "profile",
    "sentences",
    "shape_share",
    "summarise",
]


def __dir__() -> list[str]:
    return __all__
