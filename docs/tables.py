# ruff: noqa: INP001  # docs is a folder of documents, not a package
"""Write the tables of the documents from the CSV files in ``docs/results``.

    python docs/tables.py            # rewrite README.md, the documents and the README of each model
    python docs/tables.py --check    # change nothing; exit code 1 if a document differs

A document marks the place of a table with ``<!-- table: NAME -->`` and ``<!-- end -->``. Names:

- ``models``: means of our models over the sets
- ``row_Dmdd`` and so on: one model, a column per set
- ``variants_Dmdd`` and so on: one model and its variants, a row per set
- ``image_AUROC``, ``pixel_AUROC`` and ``pixel_AUPRO``: a column per set
- ``baselines_128`` and ``baselines_256``: models of Anomalib at these image sizes
- ``latency``: time per image as a multiple of the teacher alone
- ``counters``: where the time of an image goes in OpenVINO
- ``training``: speed and memory of a training, as a multiple of RD4AD's, and the share of each part of a step
- ``large``: one image of 1024x1024
- ``exports``: accuracy and size of the kinds of export
- ``known_defects``: accuracy on unseen defects, with and without known ones
"""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

DOCS = Path(__file__).parent
OURS = ("Dmdd", "Dskd", "Bikd")
MODEL_READMES = [DOCS.parent / "src/anomalib_dmdd/models" / name.lower() / "README.md" for name in OURS]
EXPERIMENTS = [DOCS / "experiments" / f"{name.lower()}.md" for name in OURS]
DOCUMENTS = (
    DOCS.parent / "README.md",
    DOCS / "results.md",
    DOCS / "performance.md",
    DOCS / "known_defects.md",
    *MODEL_READMES,
    *EXPERIMENTS,
)
METRICS = {"image_AUROC": "image AUROC", "pixel_AUROC": "pixel AUROC", "pixel_AUPRO": "AUPRO"}
MODELS = ("Dmdd", "Dskd", "Bikd", "ReverseDistillation", "Stfpm", "Patchcore")
SETS = ("screw", "hazelnut", "tile", "tile_uneven", "cookie", "board", "flange")
UNTRAINED = "Patchcore"
"""Collects a memory bank in one pass, so its number of steps says nothing."""
IMAGE_SIZE, STEPS = 128, 400
"""Setting of the development tables; rows of other settings stay in the file."""
SEEDS_FOR_BEST = 3
"""With fewer seeds no number is marked as the best."""
MARK = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def development(csv: Path = DOCS / "results" / "development.csv", variants: bool = False) -> pd.DataFrame:
    """Read the runs of the development tables, one row per run.

    Args:
        csv: Raw file. Metrics are shares from 0 to 1.
        variants: Whether to keep variants of the models, whose names begin with that of the model.

    Returns:
        Runs of the models in ``MODELS`` at the setting of the tables.

    Raises:
        ValueError: If a model has two runs of one set and seed.
    """
    runs = pd.read_csv(csv)
    runs = runs[(runs["image_size"] == IMAGE_SIZE) & ((runs["steps"] == STEPS) | (runs["model"] == UNTRAINED))]
    names = runs["model"].str.split().str[0] if variants else runs["model"]
    runs = runs[names.isin(MODELS)]
    run = ["model", "category", "seed"]
    if (twice := runs.duplicated(run)).any():
        raise ValueError(f"{csv}: more than one run of\n{runs.loc[twice, run].to_string(index=False)}")
    return runs


def means(runs: pd.DataFrame) -> str:
    """Mean over the sets that all models have, a row per model and a column per metric.

    Each set is averaged over its seeds first.
    """
    values = runs.groupby(["model", "category"])[list(METRICS)].mean()
    counts = runs.groupby(["model", "category"]).size().unstack()
    shared = ordered(counts.dropna(axis="columns").columns, SETS)
    table = values[values.index.isin(shared, level="category")].groupby("model").mean()
    table = table.reindex(ordered(counts.index, MODELS)).rename(columns=METRICS)
    enough = bool(counts[shared].min(axis=None) >= SEEDS_FOR_BEST) if shared else False
    label = ", ".join(f"`{name}`" for name in shared) or "none"
    caption = f"Sets: {label}. {seeds(counts[shared])}, {IMAGE_SIZE}x{IMAGE_SIZE}, {STEPS} steps."
    return f"{markdown(table, dict.fromkeys(table.columns, enough))}\n\n{caption}"


def row(runs: pd.DataFrame, model: str) -> str:
    """One model, a row per metric and a column per set."""
    values = runs[runs["model"] == model].groupby("category")[list(METRICS)].mean()
    table = values.rename(columns=METRICS).T.rename_axis(index="metric")
    table = table[ordered(table.columns, SETS)]
    return markdown(table, dict.fromkeys(table.columns, False))


def variants(runs: pd.DataFrame, model: str) -> str:
    """One model and its variants, a row per set and variant and a column per metric.

    Sets without a variant are left out, because there is nothing to compare.
    """
    runs = runs[runs["model"].str.split().str[0] == model]
    compared = runs.groupby("category")["model"].transform("nunique") > 1
    if not compared.any():
        return "*Not measured yet.*"
    runs = runs[compared].rename(columns={"category": "set"} | METRICS)
    groups = runs.groupby(["set", "model"])
    table = groups[list(METRICS.values())].mean()
    table.index = pd.MultiIndex.from_tuples(
        [(*key, int(count)) for key, count in groups.size().items()], names=["set", "model", "seeds"]
    )
    return markdown(table, dict.fromkeys(table.columns, False))


def by_set(runs: pd.DataFrame, metric: str) -> str:
    """One metric, averaged over the seeds, a row per model and a column per set."""
    grouped = runs.groupby(["model", "category"])[metric]
    table, counts = grouped.mean().unstack(), grouped.size().unstack()
    columns, index = ordered(table.columns, SETS), ordered(table.index, MODELS)
    table, counts = table.loc[index, columns], counts.loc[index, columns]
    enough = {name: bool((counts[name].dropna() >= SEEDS_FOR_BEST).all()) for name in columns}
    return f"{markdown(table, enough)}\n\n{seeds(counts)}."


def baselines(size: int) -> str:
    """Models of Anomalib at an image size, a row per set, model and length."""
    rows = pd.read_csv(DOCS / "results" / f"baselines_{size}.csv")
    rows["category"] = pd.Categorical(rows["category"], SETS)
    rows["model"] = pd.Categorical(rows["model"], MODELS)
    rows = rows.sort_values(["category", "model", "steps"]).astype({"category": str, "model": str})
    table = rows.rename(columns={"category": "set"} | METRICS).set_index(["set", "model", "steps", "seeds"])
    return markdown(table, dict.fromkeys(table.columns, False))


def latency(csv: Path = DOCS / "results" / "latency.csv") -> str:
    """Time per image as a multiple of the teacher alone, a row per model."""
    rows = pd.read_csv(csv).pivot_table(index="model", columns="kind", values="times_teacher", observed=True)
    table = rows[["torch", "FP32", "bf16", "INT8"]].sort_values("FP32").rename_axis(columns=None).reset_index()
    cells = table.map(lambda value: value if isinstance(value, str) else "-" if pd.isna(value) else f"{value:.2f}")
    return str(cells.to_markdown(index=False, disable_numparse=True, colalign=["left", *["right"] * 4]))


def counters(csv: Path = DOCS / "results" / "counters.csv") -> str:
    """Share of the time of the most expensive kinds of operation, a row per model."""
    rows = pd.read_csv(csv, index_col="model")
    rows["Convolution"] += rows.pop("ConvolutionBackpropData")  # transposed convolutions
    kinds = ["Convolution", "Interpolate", "MaxPool", "Concat"]
    table = rows[kinds].assign(other=100 - rows[kinds].sum(axis=1)).map(lambda value: f"{value:.1f}").reset_index()
    return str(table.to_markdown(index=False, disable_numparse=True, colalign=["left", *["right"] * (len(kinds) + 1)]))


def training(csv: Path = DOCS / "results" / "training.csv") -> str:
    """Speed of a training as a multiple of ReverseDistillation's, a row per model."""
    rows = pd.read_csv(csv)
    speed = rows.pivot_table(index="model", columns="precision", values="images_per_s_ratio")
    mixed = rows[rows["precision"] == "bf16-mixed"].set_index("model")
    shares = {f"{part}_share": f"{part} (%)" for part in ("synthesis", "teacher", "student", "loss", "backward")}
    columns = {"speed FP32": speed["32-true"], "speed bf16": speed["bf16-mixed"], "memory": mixed["memory_MB_ratio"]}
    table = pd.DataFrame(columns).sort_values("speed bf16", ascending=False).map(lambda value: f"{value:.2f}")
    percent = (100 * mixed[[*shares]]).rename(columns=shares)
    table = table.join(percent.map(lambda value: "-" if pd.isna(value) else f"{value:.0f}")).reset_index()
    return str(table.to_markdown(index=False, disable_numparse=True, colalign=["left", *["right"] * 8]))


def large(csv: Path = DOCS / "results" / "training_1024.csv") -> str:
    """Seconds and memory for one image of 1024x1024, a row per model."""
    rows = pd.read_csv(csv)
    table = pd.DataFrame(
        {
            "model": rows["model"],
            "training step (s)": (rows["batch"] / rows["images_per_s"]).map("{:.1f}".format),
            "training (MB)": rows["memory_MB"].map("{:.0f}".format),
            "prediction (s)": rows["prediction_s"].map("{:.1f}".format),
        }
    )
    return str(table.to_markdown(index=False, disable_numparse=True, colalign=["left", *["right"] * 3]))


def exports(csv: Path = DOCS / "results" / "quantization.csv") -> str:
    """Accuracy and size of the kinds of export, a row per model and kind."""
    rows = pd.read_csv(csv)
    shares = [*METRICS, "equal_labels"]
    rows[shares] = (100 * rows[shares]).map(lambda value: f"{value:.1f}")
    rows["file_MB"] = rows["file_MB"].map(lambda value: f"{value:.1f}")
    table = rows.rename(columns=METRICS | {"category": "set", "file_MB": "MB", "equal_labels": "equal labels"})
    sides = ["left"] * 3 + ["right"] * (table.shape[1] - 3)
    return str(table.to_markdown(index=False, disable_numparse=True, colalign=sides))


def known_defects(csv: Path = DOCS / "results" / "known_defects.csv") -> str:
    """Accuracy on unseen defects, a row per number of known defects and a column per kind and metric."""
    rows = pd.read_csv(csv).rename(columns=METRICS)
    metrics = [METRICS["image_AUROC"], METRICS["pixel_AUPRO"]]
    table = rows.pivot_table(index=["category", "known"], columns="tested", values=metrics)[metrics]
    table.columns = [f"{metric}, {kind}" for metric, kind in table.columns]
    counts = rows.groupby(["category", "known"])["seed"].nunique()
    table.index = pd.MultiIndex.from_tuples(
        [(*key, counts[key]) for key in table.index], names=["set", "known defects", "seeds"]
    )
    return markdown(table, dict.fromkeys(table.columns, False))


def markdown(table: pd.DataFrame, enough: dict[str, bool]) -> str:
    """Turn shares into percent with one decimal, the best of a column in bold where it has enough seeds.

    Args:
        table: Shares from 0 to 1; the names of the index become headings.
        enough: Whether a column may have a best number.

    Returns:
        Table in Markdown.
    """
    percent = (100 * table).round(1)
    cells = percent.map(lambda value: "-" if pd.isna(value) else f"{value:.1f}")
    for column in cells.columns[[enough[name] and len(table) > 1 for name in cells.columns]]:
        best = percent[column] == percent[column].max()
        cells.loc[best, column] = "**" + cells.loc[best, column] + "**"
    cells = cells.rename_axis(columns=None).reset_index()
    sides = ["left" if name in {"metric", "model", "set"} else "right" for name in cells.columns]
    return str(cells.to_markdown(index=False, disable_numparse=True, colalign=sides))


def seeds(counts: pd.DataFrame) -> str:
    """Say how many seeds the cells of a table have."""
    if counts.empty:
        return "No seed"
    low, high = int(counts.min(axis=None)), int(counts.max(axis=None))
    number = f"{low} to {high}" if low < high else str(low)
    return f"{number} seed{'s' if high > 1 else ''}"


def ordered(names: Sequence[str], order: Sequence[str]) -> list[str]:
    """Names in the given order; unknown ones at the end."""
    return [*(name for name in order if name in names), *sorted(set(names) - set(order))]


def tables() -> dict[str, str]:
    """All tables by their name in the documents."""
    runs = development()
    return (
        {"models": means(runs[runs["model"].isin(OURS)])}
        | {f"row_{model}": row(runs, model) for model in OURS}
        | {f"variants_{model}": variants(development(variants=True), model) for model in OURS}
        | {metric: by_set(runs, metric) for metric in METRICS}
        | {f"baselines_{size}": baselines(size) for size in (128, 256)}
        | {"training": training(), "large": large()}
        | {"latency": latency(), "counters": counters(), "exports": exports(), "known_defects": known_defects()}
    )


def fill(text: str, made: dict[str, str]) -> str:
    """Replace what stands between the marks of each table.

    Raises:
        KeyError: If a mark names a table that does not exist.
    """
    return MARK.sub(lambda mark: f"{mark[1]}{made[mark[2]]}\n{mark[3]}", text)


def main(arguments: Sequence[str] | None = None, documents: Sequence[Path] = DOCUMENTS) -> int:
    """Write or check the documents.

    Returns:
        Exit code: 1 if a checked document differs from its CSV files.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; exit code 1 if a document differs")
    check = parser.parse_args(arguments).check
    made, code = tables(), 0
    for path in documents:
        text = path.read_text(encoding="utf-8")
        if (new := fill(text, made)) == text:
            continue
        if check:
            print(f"{path.name} differs from docs/results: run `python docs/tables.py`.")
            code = 1
        else:
            path.write_text(new, encoding="utf-8")
            print(f"Written: {path.name}")
    return code


if __name__ == "__main__":
    sys.exit(main())
