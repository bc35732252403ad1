"""The claims of the study and what each control leaves of them."""

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from src.plotting.style import PAGE_WIDTH
from src.tables.claims import CONTROLS, SEEDS
from src.tables.claims.judged import HOLDS, NOT_RUN, OPEN, REVERSED, names_of, told

# tints of Okabe and Ito's colours, and a mark as well: for print, and for those who do not tell them apart
LOOKS = {HOLDS: ("#8FD3BC", "{}"), REVERSED: ("#F2B48A", "{} !"), OPEN: ("0.9", "({})"), NOT_RUN: ("white", "·")}
HEADS = {"as trained": "as\ntrained", SEEDS: "three\nseeds", "accuracy matched (narrow)": "matched,\nnarrow"}
HEADS |= {"accuracy matched (short)": "matched,\nshort", "common recipe": "common\nrecipe"}
HEADS |= {"no smoothing, no mixup": "no\nsmoothing", "other data": "other\ndata"}


def claims(table: pd.DataFrame) -> Figure:
    """A row for each statement, a column for each control: the number there, its state, and at the end the verdict.

    table: of `tables.claims.judge_claims`.  Green holds; orange with "!" is reversed; grey in brackets is open; a dot
    was not run.
    """
    controls = ["as trained", SEEDS, *CONTROLS]
    figure, ax = plt.subplots(figsize=(1.6 * PAGE_WIDTH, 0.27 * len(table) + 0.9))
    for y, row in enumerate(table.to_dict("records")):
        for x, control in enumerate(controls):
            color, words = LOOKS[row["state" if control == "as trained" else control]]
            number = told(row, control="" if control in ("as trained", SEEDS) else control)
            ax.add_patch(plt.Rectangle((x - 0.47, y - 0.42), 0.94, 0.84, facecolor=color, edgecolor="0.8", lw=0.4))
            ax.text(x, y, words.format(number), ha="center", va="center", fontsize=7)
        ax.text(len(controls) - 0.4, y, row["verdict"], va="center", fontsize=7)
    ax.set_yticks(
        range(len(table)),
        [f"{name}  {row.text} ({row.unit})" for name, row in zip(names_of(table), table.itertuples(), strict=True)],
        fontsize=6.5,
    )
    ax.set_xticks(range(len(controls)), [HEADS[control] for control in controls], fontsize=7)
    ax.tick_params(length=0, labeltop=True, labelbottom=False)
    for x, (state, (color, words)) in zip(range(1, 8, 2), LOOKS.items(), strict=False):  # the key, in its own colours
        ax.add_patch(plt.Rectangle((x - 0.97, len(table) + 0.1), 1.94, 0.84, facecolor=color, edgecolor="0.8", lw=0.4))
        said = words.format(state) if "{}" in words else f"{words} {state}"
        ax.text(x, len(table) + 0.52, said, ha="center", va="center", fontsize=7)
    ax.set_xlim(-0.5, len(controls) + 1.6)
    ax.set_ylim(len(table) + 1, -0.5)
    ax.spines[:].set_visible(False)
    ax.grid(False)
    return figure
