# ruff: noqa: INP001  # docs is a folder of documents, not a package
"""Write the tables of the documents from the CSV files in ``docs/results``.

    python docs/tables.py            # rewrite README.md, the documents and the README of each model
    python docs/tables.py --check    # change nothing; exit code 1 if a document differs

A document marks the place of a table with ``<!-- table: NAME -->`` and ``<!-- end -->``. Names:

- ``models``: means over the sets
- ``row_Dmdd`` and so on: one model, a column per set
- ``variants_Dmdd`` and so on: one model and its variants, a row per set
- ``image_AUROC``, ``pixel_AUROC`` and ``pixel_AUPRO``: a column per set
- ``field``: all models that were measured, a column per set, seed 0
- ``baselines_128``: models of Anomalib at 128x128; ``baselines_256``: these and ours at 256x256
- ``latency``: time per image as a multiple of the teacher alone
- ``counters``: where the time of an image goes in OpenVINO
- ``training``: speed and memory of a training, as a multiple of RD4AD's, and the share of each part of a step
- ``lengths``: accuracy at points of long trainings
- ``reached``: when a training holds the accuracy that ReverseDistillation ends with
- ``large``: one image of 1024x1024
- ``exports``: accuracy and size of the kinds of export
- ``sizes``: accuracy over the size of the image
- ``choosing``: accuracy, time of an image and of a training step, a row per model
- ``backbones`` and ``refused``: backbones that were tried, and those that cannot be used
- ``mixed``: what defects among the good training images cost, and how many are named
- ``rounded``: trainings before and after the coordinates of mild augmentation became exact
- ``ablation``: the maps of one training of DMDD, a column per set
- ``heads``: heads of DMDD that learnt from scaled distances, a column per set
- ``factors``: the same with wider factors, a column per training
- ``known_defects``: accuracy on unseen defects, with and without known ones
"""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from curve_tables import lengths, reached
from performance_tables import (
    DOCS,
    METRICS,
    backbones,
    counters,
    exports,
    large,
    latency,
    plain,
    read,
    refused,
    training,
    training_speed,
)

OURS = ("Dmdd", "Dskd", "Bikd")
MODEL_READMES = [DOCS.parent / "src/anomalib_dmdd/models" / name.lower() / "README.md" for name in OURS]
EXPERIMENTS = [DOCS / "experiments" / f"{name.lower()}.md" for name in OURS]
DOCUMENTS = (
    DOCS.parent / "README.md",
    DOCS / "results.md",
    DOCS / "field.md",
    DOCS / "performance.md",
    DOCS / "known_defects.md",
    DOCS / "choosing.md",
    DOCS / "backbones.md",
    DOCS / "how-to" / "bad-training-images.md",
    *MODEL_READMES,
    *EXPERIMENTS,
)
MODELS = ("Dmdd", "Dskd", "Bikd", "ReverseDistillation", "Stfpm", "Patchcore")
FIELD = (*MODELS, "Supersimplenet", "Padim", "Dfm", "Cfa", "Fastflow")
SETS = ("screw", "hazelnut", "tile", "tile_uneven", "cookie", "board", "flange")
UNTRAINED = ("Patchcore", "Padim", "Dfm")
"""Collect features in one pass, so their number of steps says nothing."""
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
    runs = runs[(runs["image_size"] == IMAGE_SIZE) & ((runs["steps"] == STEPS) | runs["model"].isin(UNTRAINED))]
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
    """One metric with its standard deviation over the seeds, a row per model and a column per set."""
    grouped = runs.groupby(["model", "category"])[metric]
    table, spread, counts = (values.unstack() for values in (grouped.mean(), grouped.std(), grouped.size()))
    columns, index = ordered(table.columns, SETS), ordered(table.index, MODELS)
    table, counts = table.loc[index, columns], counts.loc[index, columns]
    enough = {name: bool((counts[name].dropna() >= SEEDS_FOR_BEST).all()) for name in columns}
    return f"{markdown(table, enough, spread.where(counts >= SEEDS_FOR_BEST))}\n\n{seeds(counts)}."


def field() -> str:
    """Image AUROC and AUPRO of the first seed, a row per model and a column per set.

    Some lengths are whole epochs, and differ a little from ``STEPS``.
    """
    runs = read("development")
    length = runs["steps"].between(0.9 * STEPS, 1.1 * STEPS) | runs["model"].isin(UNTRAINED)
    runs = runs[(runs["image_size"] == IMAGE_SIZE) & (runs["seed"] == 0) & length & runs["model"].isin(FIELD)]
    table = pairs(runs, ["model", "category"])
    return plain(table.loc[ordered(table.index, FIELD), ordered(table.columns, SETS)].reset_index())


def baselines(size: int) -> str:
    """Models at an image size, a row per set, model and length.

    Means over the seeds are stored for the models of Anomalib. Ours at ``IMAGE_SIZE`` have tables of their own.
    """
    models = ("Dmdd", "Dmdd with unscaled distances", *MODELS[1:])  # the latter has more seeds and lengths
    rows = read(f"baselines_{size}")
    ours = read("development")
    ours = ours[(ours["image_size"] == size) & (size != IMAGE_SIZE) & ours["model"].isin(models)]
    groups = ours.groupby(["category", "model", "steps"])
    rows = pd.concat([rows, groups[list(METRICS)].mean().assign(seeds=groups.size()).reset_index()])
    rows["category"] = pd.Categorical(rows["category"], SETS)
    rows["model"] = pd.Categorical(rows["model"], models)
    rows = rows.sort_values(["category", "model", "steps"]).astype({"category": str, "model": str})
    table = rows.rename(columns={"category": "set"} | METRICS).set_index(["set", "model", "steps", "seeds"])
    return markdown(table, dict.fromkeys(table.columns, False))


def sizes() -> str:
    """Image AUROC and AUPRO of DMDD over the size of the image, a row per set and a column per size; seed 0."""
    runs = read("development")
    runs = runs[(runs["model"] == "Dmdd") & (runs["steps"] == STEPS) & (runs["seed"] == 0)]
    several = runs.groupby("category")["image_size"].transform("nunique") > 1
    table = pairs(runs[several].rename(columns={"category": "set"}), ["set", "image_size"])
    return plain(table.rename(columns=lambda size: f"{size}x{size}").reset_index())


def choosing() -> pd.DataFrame:
    """Means over the sets that all models have, in percent, and times as ratios; a row per model.

    ``latency`` and ``INT8`` are multiples of the teacher alone in single precision, ``training`` is the time of a step
    in bf16 as a multiple of ReverseDistillation's. The attribute ``sets`` names the sets.
    """
    by_set = 100 * development().groupby(["model", "category"])[list(METRICS)].mean()
    sets = by_set["image_AUROC"].unstack().dropna(axis=1).columns
    table = by_set[by_set.index.isin(sets, level="category")].groupby("model").mean()
    latency = read("latency").pivot(index="model", columns="kind", values="times_teacher")
    table = table.assign(latency=latency["FP32"], INT8=latency["INT8"], training=1 / training_speed())
    table.attrs["sets"] = ordered(sets, SETS)
    return table.loc[ordered(table.index, MODELS)]


def choices() -> str:
    """The table of the page that helps to choose."""
    table = choosing()
    cells = table.map(lambda value: "-" if pd.isna(value) else f"{value:.1f}")
    names = {"latency": "time of an image", "INT8": "with INT8", "training": "time of a training step"}
    return plain(cells.rename(columns=METRICS | names).reset_index())


def mixed() -> str:
    """What defects among the good training images cost, and how many of them are named."""
    rows = read("mixed_defects").sort_values(["category", "share"], kind="stable")
    table = pd.DataFrame(
        {
            "set": rows["category"],
            "defects among the good images": rows["mixed"],
            "image AUROC": (100 * rows["image_AUROC"]).map("{:.1f}".format),
            "AUPRO": (100 * rows["pixel_AUPRO"]).map("{:.1f}".format),
            "defects among as many first": rows["first"],
            "images named": rows["named"],
            "defects among them": rows["named_mixed"],
        }
    )
    return plain(table)


def known_defects() -> str:
    """Image AUROC and AUPRO on unseen defects, a row per kind and a column per number of known defects."""
    rows = read("known_defects").rename(columns={"category": "set"})
    known = rows["tested"] == rows["kind"]
    rows["defects"] = rows["tested"].where(~known, rows["tested"] + ", the known kind")
    by = ["set", "defects", "known"]
    table = pairs(rows.groupby(by, as_index=False).mean(numeric_only=True), by)
    table = table.rename(columns=lambda count: f"{count} known")
    return plain(table.reset_index(), left=2)


def triples(rows: pd.DataFrame) -> "pd.Series[str]":
    """The three metrics of each row in one cell, in percent."""
    return rows[[*METRICS]].map(lambda share: f"{100 * share:.1f}").agg(" / ".join, axis=1)


def rounded() -> str:
    """Trainings before and after the coordinates of mild augmentation became exact, a row for each."""
    rows = read("rounded").rename(columns={"category": "set", "image_size": "size"})
    keys = ["model", "set", "size", "steps", "seed"]
    table = triples(rows.set_index([*keys, "places"])).unstack(sort=False)[["rounded", "exact"]]
    return plain(table.reset_index(), left=2)


def ablation() -> str:
    """The maps of one training of DMDD, a column per set, and their means."""
    rows = read("ablation")
    table = sets_and_mean(rows[rows["variant"] == "DMDD"], "map")
    return plain(table.assign(map="`" + table["map"] + "`"), left=1)


def heads() -> str:
    """Heads that learnt from distances times a random factor, with the product that DMDD reports; seed 0 has all."""
    rows = read("heads")
    shown = (rows["map"] == "head x normality") & (rows["seed"] == 0) & (rows["steps"] == 400)  # noqa: PLR2004
    return plain(sets_and_mean(rows[shown], "factor"), left=1)


def factors() -> str:
    """Heads that learnt from wider factors, with the product that DMDD reports; a column per training."""
    rows = read("factors")
    rows = rows[rows["map"] == "head x normality"]
    rows = rows.assign(cells=triples(rows), training=rows["category"] + ", seed " + rows["seed"].astype(str))
    table = rows.pivot_table("cells", "factor", "training", aggfunc="first", sort=False).fillna("")
    return plain(table.rename_axis(columns=None).reset_index(), left=1)


def sets_and_mean(rows: pd.DataFrame, kind: str) -> pd.DataFrame:
    """The three metrics in a cell: a row per kind, a column per set and one of their means."""
    mean = rows.groupby(kind, as_index=False)[[*METRICS]].mean().assign(category="mean")
    rows = pd.concat([rows, mean])
    table: pd.DataFrame = rows.assign(cells=triples(rows)).pivot_table(
        "cells", kind, "category", aggfunc="first", sort=False
    )
    return table.rename_axis(columns=None).reset_index()


def markdown(table: pd.DataFrame, enough: dict[str, bool], spread: pd.DataFrame | None = None) -> str:
    """Turn shares into percent with one decimal, the best of a column in bold where it has enough seeds.

    Args:
        table: Shares from 0 to 1; the names of the index become headings.
        enough: Whether a column may have a best number.
        spread: Shares to write behind those of the table, after a plus-minus sign.

    Returns:
        Table in Markdown.
    """
    percent = (100 * table).round(1)
    cells = percent.map(lambda value: "-" if pd.isna(value) else f"{value:.1f}")
    for column in cells.columns[[enough[name] and len(table) > 1 for name in cells.columns]]:
        best = percent[column] == percent[column].max()
        cells.loc[best, column] = "**" + cells.loc[best, column] + "**"
    if spread is not None:
        cells += (100 * spread).map(lambda value: "" if pd.isna(value) else f" ± {value:.1f}").loc[cells.index]
    return plain(cells.reset_index(), left=sum(name in {"metric", "model", "set"} for name in table.index.names))


def pairs(runs: pd.DataFrame, row_and_column: list[str]) -> pd.DataFrame:
    """Image AUROC and AUPRO of each run in one cell, in percent."""
    metrics = runs.set_index(row_and_column)[["image_AUROC", "pixel_AUPRO"]]
    return metrics.map(lambda share: f"{100 * share:.1f}").agg(" / ".join, axis=1).unstack(fill_value="-")


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
        {"models": means(runs)}
        | {f"row_{model}": row(runs, model) for model in OURS}
        | {f"variants_{model}": variants(development(variants=True), model) for model in OURS}
        | {metric: by_set(runs, metric) for metric in METRICS}
        | {"field": field()}
        | {f"baselines_{size}": baselines(size) for size in (128, 256)}
        | {"training": training(), "large": large(), "lengths": lengths(), "reached": reached()}
        | {"choosing": choices(), "sizes": sizes(), "mixed": mixed(), "backbones": backbones(), "refused": refused()}
        | {
            "rounded": rounded(),
            "ablation": ablation(),
            "heads": heads(),
            "factors": factors(),
            "latency": latency(),
            "counters": counters(),
            "exports": exports(),
            "known_defects": known_defects(),
        }
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
