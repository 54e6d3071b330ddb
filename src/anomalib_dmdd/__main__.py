"""The command ``anomalib-dmdd``, whose subcommands are imported on use."""

import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from importlib import import_module

# Name: (module with a function ``main(arguments)`` that returns the exit code, line of the help).
SUBCOMMANDS = {
    "calibrate": ("anomalib_dmdd.calibrate", "set new thresholds for a trained model"),
    "compare": ("anomalib_dmdd.compare.command", "train and test several models on the same images"),
    "explain": ("anomalib_dmdd.report.explain", "draw the distances that a trained model decides by"),
    "report": ("anomalib_dmdd.report.command", "write a page of tested images with a slider for the threshold"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a subcommand.

    Args:
        arguments: Command line without the program; by default that of this process.

    Returns:
        Exit code of the subcommand.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments and arguments[0] in SUBCOMMANDS:
        code: int = import_module(SUBCOMMANDS[arguments[0]][0]).main(arguments[1:])
        return code
    parser = ArgumentParser("anomalib-dmdd", description="Tools for comparing and using anomaly-detection models.")
    commands = parser.add_subparsers(metavar="command", required=True)
    for name, (_, summary) in SUBCOMMANDS.items():
        commands.add_parser(name, help=summary)
    parser.parse_args(arguments)  # prints the help or an error, and exits
    return 0


if __name__ == "__main__":
    sys.exit(main())
