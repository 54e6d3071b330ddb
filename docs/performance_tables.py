# ruff: noqa: INP001  # docs is a folder of documents, not a package
"""Tables of speed, memory and exported files, for tables.py."""

from pathlib import Path

import pandas as pd

DOCS = Path(__file__).parent
METRICS = {"image_AUROC": "image AUROC", "pixel_AUROC": "pixel AUROC", "pixel_AUPRO": "AUPRO"}


def read(name: str) -> pd.DataFrame:
    """A file of results."""
    return pd.read_csv(DOCS / "results" / f"{name}.csv")


def plain(cells: pd.DataFrame, left: int = 1) -> str:
    """Cells of text in Markdown, the first columns on the left."""
    sides = ["left"] * left + ["right"] * (cells.shape[1] - left)
    cells = cells.rename_axis(columns=None)
    return str(cells.to_markdown(index=False, disable_numparse=True, colalign=sides))


def training_speed() -> "pd.Series[float]":
    """Images per second of a training in bf16 as a multiple of ReverseDistillation's, by model."""
    rows = read("training")
    return rows[rows["precision"] == "bf16-mixed"].set_index("model")["images_per_s_ratio"]


def latency() -> str:
    """Time per image as a multiple of the teacher alone, a row per model."""
    rows = read("latency").pivot_table(index="model", columns="kind", values="times_teacher", observed=True)
    table = rows[["torch", "FP32", "bf16", "INT8"]].sort_values("FP32").reset_index()
    cells = table.map(lambda value: value if isinstance(value, str) else "-" if pd.isna(value) else f"{value:.2f}")
    return plain(cells)


def counters() -> str:
    """Share of the time of the most expensive kinds of operation, a row per model."""
    rows = read("counters").set_index("model")
    rows["Convolution"] += rows.pop("ConvolutionBackpropData")  # transposed convolutions
    kinds = ["Convolution", "Interpolate", "MaxPool", "Concat"]
    table = rows[kinds].assign(other=100 - rows[kinds].sum(axis=1)).map(lambda value: f"{value:.1f}").reset_index()
    return plain(table)


def training() -> str:
    """Speed of a training as a multiple of ReverseDistillation's, a row per model."""
    rows = read("training")
    wide = read("training_wide").set_index("model")["images_per_s_ratio"]
    speed = rows.pivot_table(index="model", columns="precision", values="images_per_s_ratio")
    mixed = rows[rows["precision"] == "bf16-mixed"].set_index("model")
    shares = {f"{part}_share": f"{part} (%)" for part in ("synthesis", "teacher", "student", "loss", "backward")}
    columns = {
        "speed FP32": speed["32-true"],
        "speed bf16": speed["bf16-mixed"],
        "speed bf16, WideResNet50-2": wide,
        "memory": mixed["memory_MB_ratio"],
    }
    table = pd.DataFrame(columns).sort_values("speed bf16", ascending=False).map(_number, digits=2)
    percent = (100 * mixed[[*shares]]).rename(columns=shares).map(_number, digits=0)
    table = table.join(percent).reset_index()
    return plain(table)


def _number(value: float, digits: int) -> str:
    return "-" if pd.isna(value) else f"{value:.{digits}f}"


def large() -> str:
    """Seconds and memory for one image of 1024x1024, a row per model."""
    rows = read("training_1024")
    table = pd.DataFrame(
        {
            "model": rows["model"],
            "training step (s)": (rows["batch"] / rows["images_per_s"]).map("{:.1f}".format),
            "training (MB)": rows["memory_MB"].map("{:.0f}".format),
            "prediction (s)": rows["prediction_s"].map("{:.1f}".format),
        }
    )
    return plain(table)


def exports() -> str:
    """Accuracy and size of the kinds of export, a row per model and kind."""
    rows = read("quantization")
    shares = [*METRICS, "equal_labels"]
    rows[shares] = (100 * rows[shares]).map(lambda value: f"{value:.1f}")
    rows["file_MB"] = rows["file_MB"].map(lambda value: f"{value:.1f}")
    table = rows.rename(columns=METRICS | {"category": "set", "file_MB": "MB", "equal_labels": "equal labels"})
    return plain(table, left=3)


def backbones() -> str:
    """Backbones that were tried, a row for each."""
    names = {"times": "time", "weights_M": "weights (M)", "file_MB": "file (MB)", "training_MB": "memory (MB)"}
    rows = read("backbones").query("model == 'Dmdd'")
    table = rows.loc[rows["status"] == "ok", ["family", "backbone", *names, "difference"]].rename(columns=names)
    for column, form in {"time": "{:.2f}", "memory (MB)": "{:.0f}", "difference": "{:.0e}"}.items():
        table[column] = table[column].map(form.format)
    return plain(table, left=2)


def refused() -> str:
    """Backbones that cannot be used, with the reason."""
    rows = read("backbones").query("model == 'Dmdd'")
    table = rows.loc[rows["status"] != "ok", ["backbone", "status"]].rename(columns={"status": "reason"})
    table["reason"] = table["reason"].str.replace(r"^refused: backbone: '\w+' ", "", regex=True)
    return plain(table, left=2)
