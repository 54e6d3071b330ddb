"""What the plugin hook costs a program that imports torch: time, and modules where Anomalib is not used.

python benchmarks/import_cost.py [runs]
"""

import json
import os
import subprocess
import sys
from statistics import median
from typing import Any

PROGRAM = """
import json, sys
from time import perf_counter

start = perf_counter()
import torch
imported = perf_counter()
from importlib.metadata import entry_points
(entry,) = (entry for entry in entry_points(group="torch.backends") if entry.value == "anomalib_dmdd.plugin:install")
found = perf_counter()
before = set(sys.modules)
entry.load()()
loaded = perf_counter()
print(json.dumps({
    "import": imported - start, "find": found - imported, "load": loaded - found,
    "added": sorted(set(sys.modules) - before),
}))
"""


def measure(autoload: str) -> dict[str, Any]:
    """Import torch in a new process; seconds of each step, and the modules that the hook adds."""
    environment = {**os.environ, "TORCH_DEVICE_BACKEND_AUTOLOAD": autoload}
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)  # noqa: S603
    return json.loads(done.stdout)


def main(runs: int) -> None:
    """Take turns with and without autoloading, and print medians and ranges."""
    measure("1")  # fills the caches of the file system
    on, off = [], []
    for _ in range(runs):
        off.append(measure("0"))
        on.append(measure("1"))

    def show(name: str, seconds: list[float]) -> None:
        low, middle, high = (1000 * value for value in (min(seconds), median(seconds), max(seconds)))
        print(f"{name:58} {middle:9.2f} ms   ({low:.2f} to {high:.2f})")

    print(f"medians of {runs} runs, in brackets the fastest and the slowest")
    show("import torch, autoloading off", [run["import"] for run in off])
    show("import torch, autoloading on", [run["import"] for run in on])
    show("  of it torch reads the entry points, with or without us", [run["find"] for run in off])
    show("  of it the hook is loaded and called (goal: below 10 ms)", [run["load"] for run in off])
    (added,) = {tuple(run["added"]) for run in off}
    print(f"modules that the hook adds: {', '.join(added)}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10)
