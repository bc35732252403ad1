"""Manipulations, corruptions and hybrids: their names, levels and units, as the study uses them."""

SHARES = (0.1, 0.25, 0.5, 0.75, 0.9)
# manipulation -> its levels in the study, weakest first
LEVELS: dict[str, tuple[float, ...]] = {
    "grayscale": (1,),
    **dict.fromkeys(("occlusion_black", "occlusion_mean", "occlusion_noise", "blacken"), SHARES),
    "patch_shuffle": (16, 8, 4, 2),
    "edges": (1,),
    "low_pass": (0.5, 1, 2, 4),
    "high_pass": (0.5, 1, 2, 4),
    "phase_scramble": (45, 90, 135, 180),
}
# transformation that keeps the object -> its levels
TRANSFORMATIONS: dict[str, tuple[float, ...]] = {
    "shift": (1, 2, 4, 8),
    "rotation": (5, 10, 20, 30),
    "scale": (0.7, 0.85, 1.2, 1.4),
    "flip": (1,),
}
# manipulation or transformation -> what its level is
UNITS = {
    **dict.fromkeys(("grayscale", "edges"), "strength"),
    **dict.fromkeys(("occlusion_black", "occlusion_mean", "occlusion_noise"), "share of the area"),
    "blacken": "share of the pixels",
    "patch_shuffle": "patch, pixels",
    "low_pass": "blur, pixels",
    "high_pass": "cut-off, cycles per image",
    "phase_scramble": "phase noise, ± degrees",
    "shift": "pixels",
    "rotation": "± degrees",
    "scale": "factor",
    "flip": "left to right",
}
# condition -> the level that stands for it where there is room for one
STANDING = dict(grayscale=1, edges=1, occlusion_black=0.5, blacken=0.5, patch_shuffle=8, low_pass=2, high_pass=2)
STANDING |= dict(phase_scramble=90, stylised=1, texture_only=1)
CORRUPTIONS = (
    *("gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise"),
    *("defocus_blur", "glass_blur", "motion_blur", "zoom_blur", "gaussian_blur"),
    *("snow", "frost", "fog", "spatter"),
    *("brightness", "contrast", "saturate", "elastic_transform", "pixelate", "jpeg_compression"),
)
CUTOFFS = (0.5, 1, 1.5, 2, 3, 4, 6, 8, 12)  # of the low/high hybrids, in cycles per image
