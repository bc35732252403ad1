"""Adversarial attacks in pixel space on any module that takes pixels in [0, 1]; curves, transfer and an audit of them.

pgd(model, pixels, labels, eps=8 / 255)                               # adversarial pixels
attack_curve(model, loader, attack="pgd", eps_grid=PGD_GRID)          # one row per image and radius
worst_case(model, loader, eps=8 / 255)                                # pointwise worst of APGD-CE, APGD-T and Square
transfer_predictions({"cnn": cnn, "vit": vit}, loader, eps=8 / 255)   # what fools one, on the others
masking_report(model, loader)                                         # can these numbers be believed?
"""

from src.attacks.audit import audit_predictions, masking_report
from src.attacks.curves import ATTACKS, attack_curve
from src.attacks.ensemble import worst_case
from src.attacks.single import apgd, fgsm, mi_fgsm, pgd, random_noise, square
from src.attacks.transfer import transfer_predictions
from src.attacks.zoo import measure_audits, measure_curves, measure_transfer, measure_worst_cases

__all__ = [
    "ATTACKS",
    "apgd",
    "attack_curve",
    "audit_predictions",
    "fgsm",
    "masking_report",
    "measure_audits",
    "measure_curves",
    "measure_transfer",
    "measure_worst_cases",
    "mi_fgsm",
    "pgd",
    "random_noise",
    "square",
    "transfer_predictions",
    "worst_case",
]


def __dir__() -> list[str]:
    return __all__
