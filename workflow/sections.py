"""What the page says of one executed notebook: question, figures under the notebook's own words, reading, limits.

A figure is drawn from the file that the notebook wrote, <run>/figures/<experiment>[_<name>], and else from its output.
Its caption is the Markdown cell before it, and of a cell after it what stands above the next heading.
"""

import json
import re
import shlex
from pathlib import Path

import nbformat
from markupsafe import Markup

from src.parameters import default_parameters
from src.results import NOTEBOOKS
from workflow.embedding import Picture, as_lists, as_markdown, clean_table, embed_picture

# experiment -> the figures that carry its result, by the name they are saved under, and what each shows
FIGURES = {
    "01_finetuning": {"": "Learning curves, and test accuracy of three ways to train"},
    "02_attacks": {
        "curves": "Accuracy of each network along the radius, by attack",
        "ensemble": "Accuracy under the worst of several attacks, along the radius",
        "radii": "Radius at which each image breaks, and accuracy in the L2 norm",
        "transfer": "How often what fools one network fools another",
        "transfer_excess": "Transfer beyond random signs of the same size",
    },
    "03_texture_shape": {
        "accuracy": "Accuracy on manipulated images, and the share of it that is left along the levels",
        "classes": "Accuracy by class, as the images are and under each manipulation",
        "corruptions": "Errors under the corruptions of common benchmarks",
        "consistency": "Error consistency κ: which networks fail on the same images",
        "invariance": "Predictions kept when an image is shifted, turned, scaled or flipped",
        "bias": "Cue conflicts: whether decisions go to the shape, the texture or neither",
        "painters": "Every painter of stylised images before every judge",
    },
    "04a_cka": {
        "": "CKA of every layer with every other, within and across networks",
        "untrained": "CKA of each trained network with itself at random weights",
        "beyond_untrained": "CKA of trained networks against that of untrained ones, at matched depth",
        "matching": "Which layers of two networks are most alike",
        "layers": "What training adds, by three choices of what a layer is",
    },
    "04b_feature_vis": {
        "classes": "Each class as each network would like it best",
        "judges": "What each judge says of the pictures made for other networks",
        "ladder": "Images, and what each stage leaves of them",
        "depth": "What of an image survives along the depth of each network",
    },
    "05_calibration": {
        "reliability": "Accuracy against confidence, as trained and after temperature scaling",
        "against_error": "Calibration error against the share of wrong predictions",
        "errors": "Error by scaling and by the number of bins, and among the images that are answered",
        "shift": "Accuracy and mean confidence as images are perturbed",
    },
    "06_efficiency": {
        "pareto": "Accuracy against what one image costs",
        "headline": "Operations counted beside times measured",
        "times": "Every repeat, images a second, and ways to run",
        "blocks": "Share of the time that each block takes",
    },
}
LIMITS = {
    "01_finetuning": "One backbone and one training seed: the three ways are compared on the same images, and speak of "
    "this network and these epochs. More epochs would move all three.",
    "02_attacks": "An attack gives an upper bound: a stronger one may break more, and a network that hides its "
    "gradients looks more robust than it is, which the audit looks for. Radii are in pixels of [0, 1].",
    "03_texture_shape": "Only kinds of cue conflict without a star are validated as a measure of shape; stylised "
    "images depend on who painted them. A manipulation removes more than the cue it is named after.",
    "04a_cka": "CKA depends on what is taken for a layer, often by more than its interval is wide, and two networks "
    "that see the same images agree without having learned anything: read it against the untrained ones.",
    "04b_feature_vis": "A picture shows one optimum of many. Judges differ by maker, so makers are compared by the "
    "judges they share; only what differs from the untrained network was learned.",
    "05_calibration": "The recipe decides much of it: smoothed labels make a network less sure than it is right. The "
    "error is of the predicted class alone, on the half of the images that fitted nothing.",
    "06_efficiency": "Times belong to the machine named under provenance, and to 32-bit eager PyTorch where nothing "
    "else is said. At one image, most of a small network's time is overhead.",
}
STORED = re.compile(r"\s*The (?:first )?figure that is stored here comes from [^.]*(?:\.yaml`\))?; a run replaces it\.")
CHANGE = re.compile(r"[^.\n]*\bthe next cell holds everything there is to change\.", flags=re.I)
LONG = 12  # lines of a reading that are shown unfolded


def describe(name: str, notebook: nbformat.NotebookNode, *, experiment: str, folder: Path, link: str) -> dict:
    """The section of a notebook, all of it text and markup that a page may hold.

    name: of the notebook.  folder: of the run.  link: to the page of the executed notebook; "" for none.
    """
    opening = notebook.cells[0].source.split("\n\n")
    question = next((part for part in opening if part.startswith("**Question.**")), "")
    given = default_parameters(NOTEBOOKS[experiment]) | notebook.metadata.get("papermill", {}).get("parameters", {})
    about = "\n\n".join(part for part in opening[1:] if part != question)
    about = re.sub(r"`(\w+)`", lambda named: f"`{given.get(named[1], named[1])}`", about)  # the value, not its name
    reading, lines = reading_of(notebook)
    seconds = notebook.metadata.get("papermill", {}).get("duration")
    title = opening[0].lstrip("# ")
    return dict(
        name=name,
        title=title,
        short=title.split("·")[-1].strip(),
        question=as_markdown(question.removeprefix("**Question.**").strip()),
        blocks=blocks_of(notebook, experiment, folder),
        reading=reading,
        folded=lines > LONG,
        lines=lines,
        about=as_markdown(CHANGE.sub("", about).strip()),
        limits=LIMITS[experiment],
        command=command_of(name, notebook, folder),
        link=link,
        took=f"{seconds / 60:.1f} min" if seconds and seconds >= 60 else f"{seconds:.0f} s" if seconds else "",
    )


def blocks_of(notebook: nbformat.NotebookNode, experiment: str, folder: Path) -> list[dict]:
    """The figures of FIGURES that a notebook drew, in its order; those under one text are one block."""
    blocks: dict[str, dict] = {}
    for place, cell in enumerate(notebook.cells):
        for name, drawn in saved_pictures(cell, experiment, folder).items():
            if drawn is None:
                continue
            heading, before, after = explanation(notebook.cells, place)
            text = as_markdown(before + after)
            block = blocks.setdefault(before, dict(heading=heading, text=text, alt=first_sentences(text), pictures=[]))
            block["pictures"].append(
                dict(picture=drawn, title=FIGURES[experiment][name], id=f"{experiment}_{name}".strip("_"))
            )
    return list(blocks.values())


def saved_pictures(cell: nbformat.NotebookNode, experiment: str, folder: Path) -> dict[str, Picture | None]:
    """name -> picture, of the figures of FIGURES that a cell saves: of their files, else of the cell's outputs."""
    calls = re.findall(r"study\.save_figure\((.*)\)$", cell.source, flags=re.M) if cell.cell_type == "code" else []
    names = []
    for call in calls:
        if call.endswith(", name"):  # in a loop over names
            names += [name for name in FIGURES[experiment] if f'"{name}"' in cell.source]
        else:
            names += re.findall(r', "(\w+)"$', call) or [""]
    drawn = [output.data["image/png"] for output in cell.get("outputs", []) if "image/png" in output.get("data", {})]
    outputs = dict(zip(names, drawn, strict=True)) if len(names) == len(drawn) else {}
    path = folder / "figures" / experiment
    return {
        name: embed_picture(
            path.with_name(f"{experiment}_{name}" if name else experiment), output=outputs.get(name, "")
        )
        for name in names
        if name in FIGURES[experiment]
    }


def first_sentences(text: Markup, *, at_most: int = 300) -> str:
    """The beginning of an explanation, as what is said of a picture to those who do not see it."""
    plain = " ".join(text.striptags().split())
    return plain if len(plain) <= at_most else plain[:at_most].rsplit(". ", 1)[0].rstrip(".") + "."


def explanation(cells: list, place: int) -> tuple[str, str, str]:
    """Heading of a cell, and the Markdown before it and after it that speaks of it."""
    earlier = [k for k in range(place) if cells[k].cell_type == "markdown"]
    heading, text = split_heading(cells[earlier[-1]].source) if earlier else ("", "")
    following = cells[place + 1].source if place + 1 < len(cells) and cells[place + 1].cell_type == "markdown" else ""
    above = following.partition("\n## ")[0] if "\n## " in following and not following.startswith("## ") else ""
    return heading, STORED.sub("", text).strip(), f"\n\n{above.strip()}" if above else ""


def split_heading(text: str) -> tuple[str, str]:
    """The last heading of a Markdown cell, without what stands above it, and the text under it."""
    parts = re.split(r"^#+ (.*)$", text, flags=re.M)
    return (parts[-2].strip(), parts[-1].strip()) if len(parts) > 1 else ("", text.strip())


def reading_of(notebook: nbformat.NotebookNode) -> tuple[Markup, int]:
    """What the cells under "## Reading" print and show, with its lists kept, and how many lines that is."""
    parts, lines = [], 0
    for output in outputs_of_reading(notebook):
        data = output.get("data", {})
        if output.get("name") == "stdout":
            text = "\n".join(line for line in output.text.splitlines() if not line.startswith("left out: "))
            parts.append(as_lists(text))
            lines += len(text.splitlines())
        elif "text/html" in data and "<table" in data["text/html"]:
            parts.append(clean_table(data["text/html"]))
            lines += data["text/html"].count("<tr")
        elif "text/markdown" in data:
            parts.append(as_markdown(data["text/markdown"]))
            lines += len(data["text/markdown"].splitlines())
    return Markup("\n").join(parts), lines


def outputs_of_reading(notebook: nbformat.NotebookNode) -> list:
    """The outputs of the cells under "## Reading", or of the last cell where there is no such heading."""
    heads = [i for i, cell in enumerate(notebook.cells) if cell.source.startswith("## Reading")]
    cells = notebook.cells[heads[-1] + 1 :] if heads else notebook.cells[-1:]
    return [output for cell in cells for output in cell.get("outputs", [])]


def printed(notebook: nbformat.NotebookNode) -> list[str]:
    """The lines that the reading prints."""
    outputs = outputs_of_reading(notebook)
    return [line for output in outputs if output.get("name") == "stdout" for line in output.text.splitlines()]


def command_of(name: str, notebook: nbformat.NotebookNode, folder: Path) -> str:
    """The command that runs a notebook again with the parameters it was run with."""
    given = notebook.metadata.get("papermill", {}).get("parameters", {})
    given = {name: value for name, value in given.items() if name != "shard"}  # whole: the parts are gone
    output = f"runs/{folder.name}/notebooks/{name}.ipynb"
    return shlex.join(["python", "-m", "workflow.notebook", f"{name}.ipynb", output, json.dumps(given), "--page"])
