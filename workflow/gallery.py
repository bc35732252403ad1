"""The README's gallery: the headline figures of CIFAR-10 and a sentence to each, from the committed tables.

    make gallery        # draws the figures by notebook 07, then python -m workflow.gallery

Sentences stand between marks in README.md and are replaced whole, so that no number in them is typed by hand: the first
figure above, the others below what can be done with the repository. The notebooks' own pictures are replaced too. All
figures together are figures/contact_sheet.png.
"""

import base64
import io
import re
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import nbformat
import pandas as pd
from PIL import Image, ImageDraw, ImageOps

from src import paths, tables
from src.files import written_whole
from src.plotting import model_style
from src.results import load_table
from src.tables.profile import MODELS, calibration_error, profile, summarise
from src.tables.statistics import accuracy, first_seed
from src.tables.texture_shape import compare_shape_bias, shape_bias

DATASET = "cifar10"
TABLES = f"results/{DATASET}"
WIDTH = 1400  # pixels: twice what a README shows
SHEET = paths.FIGURES / "contact_sheet.png"
THUMBNAIL, COLUMNS = (620, 440), 4  # pixels of a figure and its name on the contact sheet, and how many beside another
MARKS = "<!-- gallery: written by `make gallery` -->", "<!-- end of the gallery -->"
FIRST_MARKS = "<!-- first figure: written by `make gallery` -->", "<!-- end of the first figure -->"
README = paths.ROOT / "README.md"


def label(model: str) -> str:
    """What figures call a model, as part of a sentence: "robust CNN" for "CNN, robust"."""
    return " ".join(reversed(model_style(model)["label"].split(", ")))


def shown(row: pd.Series, value: str = "accuracy") -> str:
    return f"{100 * row[value]:.1f} % [{100 * row['low']:.1f}, {100 * row['high']:.1f}]"


def listed(parts: list[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), *parts[-1:]]) if len(parts) > 1 else "".join(parts)


def profile_sentence() -> str:
    summary, tests = summarise(profile(TABLES, MODELS)[0], MODELS)
    first = summary[summary["rank"] == 1].groupby("axis", sort=False)["model"].agg(list)
    leads = {model: [name for name, best in first.items() if best == [model]] for model in MODELS}
    parts = [
        f"the {label(model)} alone in {listed(names) if len(names) > 1 else names[0]}"
        for model, names in leads.items()
        if names
    ]
    everywhere = [label(model) for model in MODELS if all(model in best for best in first)]
    who = f"{listed(everywhere)} alone" if everywhere else "No architecture"
    return (
        f"{who} comes first on all {len(first)} axes that have a better side: {'; '.join(parts)}. Numbers at "
        f"the right are ranks by {len(tests)} paired tests, one Holm family at 5 %; models that no test parts share "
        "one. Arrows point to the better side, dotted lines are where nothing would show. These networks alone."
    )


def finetuning_sentence() -> str:
    table = accuracy(load_table(TABLES, "01_finetuning", "vit"), by="condition").set_index("condition")
    names = {
        "linear": "a new linear classifier on its frozen features",
        "full": "all weights trained",
        "scratch": "the same from random weights",
    }
    parts = [f"{name} {shown(table.loc[key])}" for key, name in names.items() if key in table.index]
    return f"A small ViT pretrained on CIFAR-100, then {listed(parts)} top-1, n = {table['n'].iloc[0]:,}."


def attacks_sentence() -> str:
    worst = tables.attacks.stored_worst_case(TABLES)
    models, seeds = list(worst["model"].unique()), worst.groupby("model")["model_seed"].nunique().max()
    ranked = tables.attacks.ranks(worst)
    shown_at, held = (0.25, 1.0, 4.0), ranked.set_index(["model", "eps_255"])["accuracy"]
    parts = [
        f"the {label(model)} {' / '.join(f'{100 * held[model, eps]:.0f}' for eps in shown_at)} %" for model in models
    ]
    first = ranked[ranked["rank"] == 1].groupby("eps_255")["model"].agg(lambda names: listed([*map(label, names)]))
    runs = (first != first.shift()).cumsum()
    leads = [
        f"{part.iloc[0]} at {part.index[0]:g}" + (f" to {part.index[-1]:g}" if len(part) > 1 else "") + "/255"
        for _, part in first.groupby(runs)
    ]
    return (
        f"Under the ensemble ({tables.attacks.describe_budget(worst)}) at 0.25 / 1 / 4 of 255, {listed(parts)} of "
        f"{int(ranked['n'].iloc[0])} images stay right. Not surely behind anyone (McNemar's test, one Holm family): "
        f"{'; '.join(leads)}. These networks, {'one training seed each' if seeds == 1 else 'the first seed of each'}."
    )


def texture_shape_sentence() -> str:
    table = first_seed(tables.texture_shape.stored_conflicts(TABLES))
    table = table[(table["condition"] == "cutout") & table["model"].isin(MODELS)]
    bias = shape_bias(table).set_index("model")
    parts = [
        f"the {label(model)} follows the shape in {100 * row['shape'] / row['n']:.0f} % and the texture in "
        f"{100 * row['texture'] / row['n']:.0f} % (n = {int(row['n'])})"
        for model, row in bias.loc[list(MODELS)].iterrows()
    ]
    tests = compare_shape_bias(table, of_all=True)
    apart = [
        f"{label(row.a)} and {label(row.b)} ({100 * row.difference:+.0f} points [{100 * row.low:+.0f}, "
        f"{100 * row.high:+.0f}])"
        for row in tests[tests["p_holm"] < 0.05].itertuples()
    ]
    told = f"told apart in shape less texture: {listed(apart)}." if apart else "no test tells two of them apart."
    return (
        "Cut-outs, the one kind of cue conflict here that passed its check: the silhouette of one image filled with "
        f"texture of another. Of the pairs that it gets right as they are, {listed(parts)}. On those of two networks, "
        f"{told} Starred kinds are no measure of shape. These networks."
    )


def cka_sentence() -> str:
    every = tables.cka.compare_at_depth(load_table(TABLES, "04a_cka", "hsic"), MODELS)
    every = every[every["layers"] == "depth"].set_index(["measure", "pair", "what"])
    table, beyond = every.loc["CKA"], every.loc["deconfounded"]
    names = {"–".join(pair): f"{label(pair[0])} and {label(pair[1])}" for pair in combinations(MODELS, 2)}
    ordered = sorted(names, key=lambda pair: -table.loc[(pair, "trained"), "value"])
    parts = [f"{names[pair]} {shown_similarity(table.loc[(pair, 'trained')])}" for pair in ordered]
    before = [f"{table.loc[(pair, 'untrained'), 'value']:.2f}" for pair in ordered]
    added = [shown_similarity(beyond.loc[(pair, "excess")], "+.2f") for pair in ordered]
    return (
        f"Unbiased linear CKA of layers at matched depth: {listed(parts)}. The same networks untrained agree by "
        f"{listed(before)}, since they share the images; with the images' own similarity regressed out, training adds "
        f"{listed(added)}{over_seeds(every.xs('trained', level='what'))}. These networks alone."
    )


def shown_similarity(row: pd.Series, form: str = ".2f") -> str:
    return f"{row['value']:{form}} [{row['low']:{form}}, {row['high']:{form}}]"


def calibration_sentence() -> str:
    rows = calibration_error(TABLES, MODELS).query("other == ''").sort_values("value")
    parts = [f"{shown(row, 'value')} for the {label(row['model'])}" for _, row in rows.iterrows()]
    return (
        "Debiased calibration error (root mean square), as trained on labels smoothed by 0.1: "
        f"{listed(parts)}; n = {int(rows['n'].iloc[0]):,}{over_seeds(rows)}."
    )


def over_seeds(rows: pd.DataFrame) -> str:
    """That numbers are means over training seeds, of which the figure shows one; "" where there is one."""
    seeds = int(rows["seeds"].max())
    return f", means over {seeds} training seeds, of which the figure shows the first" if seeds > 1 else ""


def efficiency_sentence() -> str:
    timings = load_table(TABLES, "06_efficiency", "timings")
    timings = timings[timings["model"].isin(MODELS)]
    single = tables.efficiency.one_image(timings)
    cases = {"one image": single, "an image of a batch at full throughput": tables.efficiency.at_saturation(timings)}
    parts = []
    for what, part in cases.items():
        ratios = tables.efficiency.time_ratios(part).set_index("faster")
        told = [
            f"the {label(row.slower)} {row.ratio:.3g} [{row.low:.3g}, {row.high:.3g}]"
            for row in ratios.loc[["mlp"]].itertuples()
        ]
        parts.append(f"for {what} {listed(told)}")
    return (
        "Accuracy against four costs of one image; grey: no other network beats these in both. Times as long as the "
        f"MLP (throughput is in no panel), on {int(single['threads'].iloc[0])} CPU threads: {'; '.join(parts)}; "
        f"{single['process'].nunique()} fresh processes."
    )


# figure of notebook 07 -> (notebook, sentence)
GALLERY: dict[str, tuple[str, Callable[[], str]]] = {
    "07_profile": ("07_plots.ipynb", profile_sentence),
    "07_attacks_ensemble": ("02_adversarial_robustness.ipynb", attacks_sentence),
    "07_texture_shape_bias": ("03_texture_shape_bias.ipynb", texture_shape_sentence),
    "07_cka": ("04a_cka.ipynb", cka_sentence),
    "07_calibration": ("05_model_calibration.ipynb", calibration_sentence),
    "07_efficiency": ("06_inference_time.ipynb", efficiency_sentence),
    "07_finetuning": ("01_vit_finetuning.ipynb", finetuning_sentence),
}


# notebook -> the figure of 07 that its cell tagged keep_output shows to those who read it unrun
STORED = {
    "01_vit_finetuning": "07_finetuning",
    "02_adversarial_robustness": "07_attacks_curves",
    "03_texture_shape_bias": "07_texture_shape_accuracy",
    "04a_cka": "07_cka",
    "04b_feature_visualization": "07_feature_vis",
    "05_model_calibration": "07_calibration",
    "06_inference_time": "07_efficiency",
    "07_plots": "07_profile",
}
STORED_WIDTH = 840  # pixels


def store_picture(notebook: Path, figure: str) -> None:
    """Put a figure of CIFAR-10 in place of what a notebook's cell tagged keep_output showed."""
    with Image.open(paths.FIGURES / f"{figure}_{DATASET}.png") as picture:
        size = (STORED_WIDTH, picture.height * STORED_WIDTH // picture.width)
        small = picture.convert("RGB").resize(size, Image.Resampling.LANCZOS).quantize(256)
    small.save(content := io.BytesIO(), format="PNG", optimize=True)
    read = nbformat.read(notebook, as_version=4)
    (cell,) = (cell for cell in read.cells if "keep_output" in cell.metadata.get("tags", []))
    data = {"image/png": base64.b64encode(content.getvalue()).decode() + "\n", "text/plain": f"{figure}_{DATASET}"}
    cell.outputs = [nbformat.v4.new_output("display_data", data)]
    with written_whole(notebook) as partial:
        nbformat.write(read, partial)


def in_markdown(figures: list[str], marks: tuple[str, str]) -> str:
    """Figures of the gallery, each with its sentence, between marks."""
    parts = [marks[0]]
    for figure in figures:
        notebook, sentence = GALLERY[figure]
        name = figure.split("_", 1)[1].replace("_", " ")
        parts.append(f"![{name}](figures/gallery/{figure}_{DATASET}.png)")
        parts.append(f"*{sentence()}* ([{notebook}]({notebook}))")
    return "\n\n".join([*parts, marks[1]])


def with_gallery(readme: str) -> str:
    """The README with the gallery as the tables have it now."""
    first, *others = GALLERY
    readme = between(readme, FIRST_MARKS, in_markdown([first], FIRST_MARKS))
    return between(readme, MARKS, in_markdown(others, MARKS))


def between(readme: str, marks: tuple[str, str], text: str) -> str:
    """The README with what stands between two marks, and the marks, replaced. Raises ValueError where they are not."""
    pattern = re.compile(".*?".join(map(re.escape, marks)), flags=re.DOTALL)
    if not pattern.search(readme):
        raise ValueError(f"README.md has no {marks[0]} … {marks[1]} to write between")
    return pattern.sub(lambda _: text, readme)


def main() -> None:
    readme = with_gallery(README.read_text(encoding="utf-8"))
    for figure in GALLERY:
        with Image.open(paths.FIGURES / f"{figure}_{DATASET}.png") as picture:
            small = picture.convert("RGB").resize(
                (WIDTH, picture.height * WIDTH // picture.width), Image.Resampling.LANCZOS
            )
        with written_whole(paths.FIGURES / "gallery" / f"{figure}_{DATASET}.png") as partial:
            small.quantize(256).save(partial, format="PNG", optimize=True)
    for notebook, figure in STORED.items():
        store_picture(paths.ROOT / f"{notebook}.ipynb", figure)
    with written_whole(README) as partial:
        partial.write_text(readme, encoding="utf-8")
    with written_whole(SHEET) as partial:
        contact_sheet(sorted(set(paths.FIGURES.glob("*.png")) - {SHEET})).save(partial, format="PNG", optimize=True)


def contact_sheet(files: list[Path]) -> Image.Image:
    """All figures small on one picture, each above its name, to be looked through at once."""
    wide, high = THUMBNAIL
    sheet = Image.new("RGB", (wide * COLUMNS, high * -(-len(files) // COLUMNS)), "white")
    draw = ImageDraw.Draw(sheet)
    for place, file in enumerate(files):
        left, top = wide * (place % COLUMNS), high * (place // COLUMNS)
        with Image.open(file) as picture:
            small = ImageOps.contain(picture.convert("RGB"), (wide - 20, high - 40), Image.Resampling.LANCZOS)
        sheet.paste(small, (left + 10, top + 5))
        draw.text((left + 10, top + high - 30), file.stem, fill="black", font_size=18)
    return sheet.quantize(256)


if __name__ == "__main__":
    main()
