"""What makes a class or a unit respond, what of an image survives to a layer, and measures that judge the pictures."""

from src.feature_vis.invert import invert_features
from src.feature_vis.layers import INPUT, LOGITS, respond, stages
from src.feature_vis.maximise import maximise_activation
from src.feature_vis.measures import (
    class_probability,
    feature_distance,
    measure_classes,
    measure_inversions,
    psnr,
    shifted_probability,
    spectrum_distance,
    ssim,
    total_variation,
)
from src.feature_vis.optimise import Pictures
from src.feature_vis.parameterisations import PARAMETERISATIONS, ImageStatistics, image_statistics

__all__ = [
    "INPUT",
    "LOGITS",
    "PARAMETERISATIONS",
    "ImageStatistics",
    "Pictures",
    "class_probability",
    "feature_distance",
    "image_statistics",
    "invert_features",
    "maximise_activation",
    "measure_classes",
    "measure_inversions",
    "psnr",
    "respond",
    "shifted_probability",
    "spectrum_distance",
    "ssim",
    "stages",
    "total_variation",
]
