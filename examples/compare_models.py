"""Compare models on your data and choose the most accurate one that is fast enough.

    python examples/compare_models.py --models Dmdd Patchcore Stfpm --data MVTec --data.category screw --at_most_ms 50

The other options are those of ``anomalib-dmdd compare``. Offline, with random weights:

    python examples/compare_models.py --config configs/compare/demo.yaml --at_most_ms 50
"""

import sys

import pandas as pd

from anomalib_dmdd.compare.command import main, parse


def choose(options: list[str], at_most_ms: float) -> str | None:
    """Run the comparison and choose the model with the highest image AUROC that is fast enough.

    Runs that are finished are not repeated. A model of which a run or an export failed is not chosen.

    Args:
        options: Command line of the comparison.
        at_most_ms: Longest latency of one image in milliseconds, in OpenVINO, or in torch if there is no export.

    Returns:
        Name of the model; ``None`` if none is fast enough.

    Raises:
        SystemExit: If the settings are wrong or the comparison is interrupted.
    """
    if (code := main(options)) > 1:
        raise SystemExit(code)
    rows = pd.read_csv(parse(options).out / "results.csv")
    failed = rows.loc[rows["error"].notna(), "model"]
    means = rows[~rows["model"].isin(failed)].groupby("model").mean(numeric_only=True)
    latency = means["openvino_fp32_ms"].fillna(means["torch_ms"])
    fast = means[latency <= at_most_ms]
    return str(fast["image_AUROC"].idxmax()) if len(fast) else None


if __name__ == "__main__":
    where = sys.argv.index("--at_most_ms") if "--at_most_ms" in sys.argv else len(sys.argv)
    limit = float(sys.argv[where + 1]) if where < len(sys.argv) else float("inf")
    print("Use:", choose(sys.argv[1:where] + sys.argv[where + 2 :], limit) or f"no model is faster than {limit} ms")
