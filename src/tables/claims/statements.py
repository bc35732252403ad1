"""The claims of docs/hypotheses.md as statements to be judged, and the networks of each control."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import combinations

from src.tables.claims import estimates

NAMES = {"mlp": "MLP", "cnn": "CNN", "vit": "ViT"}
ALL = tuple(NAMES)


@dataclass(frozen=True)
class Statement:
    """One statement of a claim: that its measure is above 0.

    claim: of docs/hypotheses.md.  of: the architectures that it speaks of.  n: how many images, or what `counted` says,
    were promised; at that many an interval that holds 0 refutes it, unless `small`: it says that something is small.
    unit: what `scale` times the number is in; "times" for the logarithm of a ratio.  recipe: "plain" for a statement of
    the networks without smoothing and mixup, which has no controls.
    """

    claim: str
    text: str
    of: tuple[str, ...]
    measure: partial  # of a function of estimates.py, which is left the folder and the names of the networks
    n: int
    unit: str = "points"
    scale: float = 100
    recipe: str = "base"
    small: bool = False
    counted: str = "images"

    @property
    def kind(self) -> str:
        """What is measured, the same for statements that differ in networks, radius or level."""
        return self.measure.func.__name__


def _robust(claim: str, a: str, b: str, eps_255: float) -> Statement:
    text = f"At {eps_255:g}/255 the {NAMES[a]} withstands the ensemble more often than the {NAMES[b]}"
    return Statement(claim, text, (a, b), partial(estimates.robust, a=a, b=b, eps_255=eps_255), 1_000)


def _alike(a: str, b: str) -> Statement:
    text = f"Two seeds of {NAMES[a]} or {NAMES[b]} make the same mistakes more than {NAMES[a]} and {NAMES[b]} do"
    return Statement("C10", text, (a, b), partial(estimates.alike_within, a=a, b=b), 10_000, "κ", 1)


def _parted(a: str, b: str) -> Statement:
    text = f"Training makes two seeds of {NAMES[a]} or {NAMES[b]} agree more than {NAMES[a]} and {NAMES[b]}"
    return Statement("C12", text, (a, b), partial(estimates.agrees, pair=(a, b), what="seeds alike"), 2_048, "CKA", 1)


def _sure(a: str, sign: int, recipe: str) -> Statement:
    how = {"base": "As trained", "plain": "Without smoothing and mixup"}[recipe]
    text = f"{how}, the {NAMES[a]} is {'over' if sign > 0 else 'under'}confident"
    return Statement("C14", text, (a,), partial(estimates.sure, a=a, sign=sign), 5_000, recipe=recipe)


def _dearer(at: str, text: str) -> Statement:
    return Statement(
        "C16",
        text,
        ("mlp", "cnn"),
        partial(estimates.dearer, a="cnn", b="mlp", at=at),
        10,
        "times",
        1,
        counted="processes",
    )


_CNN_MLP, _MLP_CNN = ("cnn", "mlp"), ("mlp", "cnn")
STATEMENTS: tuple[Statement, ...] = (
    _robust("C1", "mlp", "cnn", 2),
    _robust("C2", "mlp", "vit", 2),
    _robust("C3", "vit", "cnn", 2),
    _robust("C4", "cnn", "mlp", 0.25),
    Statement(
        "C5",
        "At 2/255 cold 5-step PGD flatters the CNN more than the MLP",
        _CNN_MLP,
        partial(estimates.flattered, a="cnn", b="mlp", eps_255=2),
        1_000,
    ),
    Statement(
        "C6",
        "At 8/255 what fools another network fools the CNN at most 5 points more than noise does; the margin below 5",
        ALL,
        partial(estimates.transferred, a="cnn", eps_255=8, below=0.05),
        1_000,
        small=True,
    ),
    Statement(
        "C6",
        "At 8/255 what fools another network fools the MLP, beyond noise, more than the CNN",
        ALL,
        partial(estimates.transferred, a="mlp", b="cnn", eps_255=8),
        1_000,
    ),
    Statement(
        "C7",
        "The CNN keeps more of its accuracy than the ViT when patches of 8 px are shuffled",
        ("cnn", "vit"),
        partial(estimates.retained, a="cnn", b="vit", condition="patch_shuffle", level=8),
        2_000,
    ),
    Statement(
        "C8",
        "The MLP keeps more of its accuracy than the CNN under a low-pass of the middle level",
        _MLP_CNN,
        partial(estimates.retained, a="mlp", b="cnn", condition="low_pass", level=2),
        2_000,
    ),
    Statement(
        "C9",
        "On cut-out shapes filled with another texture the MLP follows the shape more than the CNN",
        _MLP_CNN,
        partial(estimates.follows_shape, a="mlp", b="cnn"),
        900,
        counted="pairs",
    ),
    *(_alike(a, b) for a, b in combinations(ALL, 2)),
    Statement(
        "C11",
        "Under a shift of 4 px the CNN keeps more of its predictions than the ViT",
        ("cnn", "vit"),
        partial(estimates.kept, a="cnn", b="vit", pixels=4),
        2_000,
    ),
    Statement(
        "C11",
        "Under a shift of 4 px the ViT keeps more of its predictions than the MLP",
        ("vit", "mlp"),
        partial(estimates.kept, a="vit", b="mlp", pixels=4),
        2_000,
    ),
    Statement(
        "C11",
        "Under a shift of 4 px the ViT keeps at least 20 points more than the MLP; the margin beyond 20",
        ("vit", "mlp"),
        partial(estimates.kept, a="vit", b="mlp", pixels=4, beyond=0.2),
        2_000,
        small=True,  # only the order was said to refute the claim
    ),
    *(_parted(a, b) for a, b in combinations(ALL, 2)),
    Statement(
        "C13",
        "Training makes CNN and ViT agree more than MLP and CNN",
        ALL,
        partial(estimates.agrees, pair=("cnn", "vit"), what="less {mlp}–{cnn}"),
        2_048,
        "CKA",
        1,
    ),
    *(_sure(name, -1, "base") for name in ALL),
    *(_sure(name, 1, "plain") for name in ALL),
    Statement(
        "C15",
        "After temperature scaling no architecture's calibration error is a point above another's; the margin below 1",
        ALL,
        partial(estimates.calibrated_alike, within=0.01),
        5_000,
        small=True,
    ),
    _dearer("latency", "One image costs the CNN more time than the MLP, one thread"),
    _dearer("saturation", "An image of a large batch costs the CNN more time than the MLP"),
    _dearer("growth", "The CNN's cost over the MLP's grows with the batch"),
)

# control -> (whether its tables are those of the controls or of other data, architecture -> label in them)
Control = tuple[str, Mapping[str, str]]
_BASE = {name: name for name in ALL}
CONTROLS: dict[str, Control] = {
    "accuracy matched (narrow)": ("controls", {"mlp": "mlp", "cnn": "cnn@w2", "vit": "vit@w18"}),
    "accuracy matched (short)": ("controls", {"mlp": "mlp", "cnn": "cnn@short67", "vit": "vit@short67"}),
    "common recipe": ("controls", {name: f"{name}@common" for name in ALL}),
    "no smoothing, no mixup": ("controls", {name: f"{name}@plain" for name in ALL}),
    "other data": ("other", _BASE),
}
# ViT and CNN are matched at the ViT's accuracy, and where those networks are not there, at the MLP's
MATCHED_AT_VIT = {
    "accuracy matched (narrow)": {"vit": "vit", "cnn": "cnn@w4"},
    "accuracy matched (short)": {"vit": "vit", "cnn": "cnn@short81"},
}


def networks_of(statement: Statement, control: str = "") -> dict[str, str]:
    """Architecture -> label for the networks that a control compares, first choice; without one, those as trained.

    >>> networks_of(STATEMENTS[2], "accuracy matched (narrow)")
    {'vit': 'vit', 'cnn': 'cnn@w4'}
    """
    return choices_of(statement, control)[0]


def choices_of(statement: Statement, control: str = "") -> list[dict[str, str]]:
    """The networks that a control compares, and those in their place where they are not there.

    >>> choices_of(STATEMENTS[2], "accuracy matched (short)")
    [{'vit': 'vit', 'cnn': 'cnn@short81'}, {'vit': 'vit@short67', 'cnn': 'cnn@short67'}]
    """
    if not control:
        control = "no smoothing, no mixup" if statement.recipe == "plain" else ""
    names = CONTROLS[control][1] if control else _BASE
    of_pair = MATCHED_AT_VIT.get(control) if set(statement.of) == {"vit", "cnn"} else None
    return [{name: some[name] for name in statement.of} for some in (of_pair, names) if some]
