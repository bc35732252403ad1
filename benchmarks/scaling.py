"""The tables of docs/scaling.md: a report's time and growth as measured, on paper the worst case of ImageNet.

    python -m benchmarks.scaling        # after bench_report, bench_growth; replaces what lies between marks there

Growth is that of results/benchmarks/growth_laws.csv and growth.csv. The paper study counts multiply-accumulates of the
networks (untrained, of timm), two operations each, a backward pass as two forward ones; how many of its points the
ensemble needs, of those that it may take, is read from results/cifar10/02_attacks/worst_case, and so are bytes a
row.
"""

import pandas as pd
import timm
import torch

from src.efficiency.size import count_macs
from src.files import written_whole
from src.paths import RESULTS, ROOT
from src.results import load_facts, load_table, table_path

DOCUMENT = ROOT / "docs" / "scaling.md"
N = 50_000  # images of ImageNet's validation set
SIDE = 224
RADII = 2
SUSTAINED = 50e12  # operations a second in float32 on one GPU: an assumption, three quarters of an H200's peak
SHARDS = 50
POINTS = dict(gradient=100 * (1 + 9), queries=1000)  # of `worst_case` at its defaults, for one image and radius
NETWORKS = (
    "resnet50", "convnext_tiny", "efficientnet_b0", "regnety_040", "mixer_b16_224", "gmixer_24_224", "resmlp_24_224",
    "vit_small_patch16_224", "deit_small_patch16_224", "swin_tiny_patch4_window7_224",
)  # fmt: skip


def growth_table() -> str:
    """One line for each series: the law, and what one more costs."""
    laws = pd.read_csv(RESULTS / "benchmarks" / "growth_laws.csv")
    shown = pd.DataFrame(
        {
            "experiment": laws["experiment"],
            "along": laws["axis"],
            "seconds grow as x^p, p": [f"{r.p:.2f} [{r.p_low:.2f}, {r.p_high:.2f}]" for r in laws.itertuples()],
            "one more costs, ms": [
                f"{1000 * r.seconds_per_unit:.3g}" if r.axis != "shards" else "" for r in laws.itertuples()
            ],
            "and memory, KiB": [
                f"{1024 * r.mib_per_unit:.3g}" if r.axis != "shards" else "" for r in laws.itertuples()
            ],
        }
    )
    return shown.to_markdown(index=False, disable_numparse=True)


def classes_and_shards() -> str:
    """Ten classes against a hundred, and what dividing costs."""
    table = pd.read_csv(RESULTS / "benchmarks" / "growth.csv")
    classes = table[table["axis"] == "classes"].pivot(index="experiment", columns="value", values="seconds")
    lines = [
        f"- {name}: {row[100] / row[10]:.2f} times as long with 100 classes as with 10"
        for name, row in classes.iterrows()
    ]
    shards = table[table["axis"] == "shards"]
    most = shards["value"].max()
    for name, part in shards.groupby("experiment"):
        one, many = (part[part["value"] == k].iloc[0] for k in (1, most))
        own = (many.process_seconds - one.process_seconds) / (most - 1)
        lines.append(
            f"- {name}: the longest of {most} shards measures for {many.seconds / one.seconds:.1%} of the time of one "
            f"run, and each shard adds {own:.1f} s of its own (imports, weights, images)"
        )
    return "\n".join(lines)


def report_table() -> str:
    """Seconds of each notebook of the embedded report, of before too where they are, and what takes longest in it."""
    table = pd.read_csv(RESULTS / "benchmarks" / "report.csv")
    heads = {"notebook": "notebook", "seconds": "seconds", "seconds_before": "seconds before"}
    heads |= {"first_figure": "until the first figure", "longest": "the longest parts, seconds"}
    times = table.columns.intersection(["seconds", "seconds_before", "first_figure"])
    shown = table.assign(**{name: table[name].map("{:.0f}".format).replace("nan", "–") for name in times})
    shown = shown[[name for name in heads if name in shown]].rename(columns=heads)
    return shown.to_markdown(index=False, disable_numparse=True)


def targets_table() -> str:
    """What was aimed at, before and after."""
    table = pd.read_csv(RESULTS / "benchmarks" / "targets.csv")
    shown = table.rename(columns={"aim": "should be"})
    shown["should be"] += table["target"].map(" {:g}".format)
    for name in ("before", "after"):
        shown[name] = [f"{x:,.0f}" if x >= 100 else f"{x:.3g}".replace("nan", "–") for x in table[name]]
    shown = shown[["what", "should be", "before", "after", "reached"]]
    return shown.to_markdown(index=False, disable_numparse=True)


def macs() -> pd.Series:
    pixels = torch.zeros(1, 3, SIDE, SIDE)
    return pd.Series({name: count_macs(timm.create_model(name, pretrained=False).eval(), pixels) for name in NETWORKS})


def paper() -> str:
    """Hours, jobs and bytes of the worst case on ImageNet, by how soon images break."""
    total = 2 * macs().sum()
    most = 3 * POINTS["gradient"] + POINTS["queries"]  # in forward passes
    worst = load_table("results/cifar10", "02_attacks", "worst_case")
    used = load_facts("results/cifar10", "02_attacks", "worst_case")["parameters"]
    budget = used["apgd_steps"] * (1 + used["n_targets"]) + (used["queries"] or 0)
    share = worst.groupby(["model", "eps_255"])["n_evaluations"].mean() / budget
    robust = share["cnn_robust"]
    cases = {
        "undefended, 8/255": share.xs(8.0, level="eps_255").drop("cnn_robust").mean(),
        "undefended, 2/255": share.xs(2.0, level="eps_255").drop("cnn_robust").mean(),
        "trained against 8/255, at 8/255": robust[8.0],
        "nothing ever breaks": 1.0,
    }
    rows = []
    for name, part in cases.items():
        hours = N * total * most * part / SUSTAINED / 3600
        rows.append({"networks and radius": name, "points used": f"{part:.1%}", "GPU hours a radius": f"{hours:,.1f}",
                     f"hours a job of {SHARDS}": f"{hours / SHARDS:.2f}"})  # fmt: skip
    bytes_a_row = table_path("results/cifar10", "02_attacks", "worst_case").stat().st_size / len(worst)
    n_rows = N * len(NETWORKS) * RADII
    facts = [
        f"Ten networks ({', '.join(NETWORKS)}) take {total / 1e9:.0f} GFLOP for a forward pass of one image. "
        f"The ensemble takes at most {most:,} such passes an image and radius.",
        f"{SHARDS} shards are {SHARDS} jobs and one that puts them together, of {N // SHARDS:,} images each. The table "
        f"has {n_rows:,} rows, {n_rows * bytes_a_row / 1e6:.0f} MB at {bytes_a_row:.0f} bytes a row, in {SHARDS} parts "
        "at first.",
    ]
    return "\n\n".join([facts[0], pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True), facts[1]])


def main() -> None:
    text = DOCUMENT.read_text()
    parts = {
        "report": report_table,
        "targets": targets_table,
        "growth": growth_table,
        "classes and shards": classes_and_shards,
        "paper": paper,
    }
    for name, make in parts.items():
        mark, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        if text.count(mark) != 1 or text.count(end) != 1:
            raise ValueError(f"{DOCUMENT} should have {mark} and {end} once each")
        text = f"{text.partition(mark)[0]}{mark}\n{make()}\n{end}{text.partition(end)[2]}"
    with written_whole(DOCUMENT) as partial:
        partial.write_text(text)


if __name__ == "__main__":
    main()
