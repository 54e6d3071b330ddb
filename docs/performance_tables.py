# ruff: noqa: INP001  # docs is a folder of documents, not a package
"""Tables of speed, memory and exported files, for tables.py."""

from pathlib import Path

import pandas as pd

DOCS = Path(__file__).parent
METRICS = {"image_AUROC": "image AUROC", "pixel_AUROC": "pixel AUROC", "pixel_AUPRO": "AUPRO"}


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
    wide = pd.read_csv(csv.with_name("training_wide.csv")).set_index("model")["images_per_s_ratio"]
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
    return str(table.to_markdown(index=False, disable_numparse=True, colalign=["left", *["right"] * 9]))


def _number(value: float, digits: int) -> str:
    return "-" if pd.isna(value) else f"{value:.{digits}f}"


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


def backbones(csv: Path = DOCS / "results" / "backbones.csv") -> str:
    """Backbones that were tried, a row for each."""
    names = {"times": "time", "weights_M": "weights (M)", "file_MB": "file (MB)", "training_MB": "memory (MB)"}
    rows = pd.read_csv(csv).query("model == 'Dmdd'")
    table = rows.loc[rows["status"] == "ok", ["family", "backbone", *names, "difference"]].rename(columns=names)
    for column, form in {"time": "{:.2f}", "memory (MB)": "{:.0f}", "difference": "{:.0e}"}.items():
        table[column] = table[column].map(form.format)
    sides = ["left"] * 2 + ["right"] * (table.shape[1] - 2)
    return str(table.to_markdown(index=False, disable_numparse=True, colalign=sides))


def refused(csv: Path = DOCS / "results" / "backbones.csv") -> str:
    """Backbones that cannot be used, with the reason."""
    rows = pd.read_csv(csv).query("model == 'Dmdd'")
    table = rows.loc[rows["status"] != "ok", ["backbone", "status"]].rename(columns={"status": "reason"})
    table["reason"] = table["reason"].str.replace(r"^refused: backbone: '\w+' ", "", regex=True)
    return str(table.to_markdown(index=False, disable_numparse=True))
