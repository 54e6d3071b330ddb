"""Applies ``--seed_everything`` of the ``anomalib`` command to the models of this package.

Anomalib 2.7 declares the option, but never reads it. Its own models keep that behaviour.
"""

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from anomalib.cli import AnomalibCLI
    from jsonargparse import Namespace


def let_command_seed() -> None:
    """Make the command apply its seed before it builds a model of this package.

    Does nothing in a program that has not imported the command.
    """
    command: type[AnomalibCLI] | None = getattr(sys.modules.get("anomalib.cli.cli"), "AnomalibCLI", None)
    if command is None or command.before_instantiate_classes.__module__ == __name__:
        return
    prepare = command.before_instantiate_classes

    def before_instantiate_classes(self: "AnomalibCLI") -> None:
        settings = self.config[self.subcommand]
        if _is_ours(settings):
            _seed(settings)
        prepare(self)

    command.before_instantiate_classes = before_instantiate_classes


def _is_ours(settings: "Namespace") -> bool:
    """Whether the settings of a subcommand name a model of this package."""
    class_path = str(settings.get("model.class_path") or "")
    return class_path.partition(".")[0] == __name__.partition(".")[0]


def _seed(settings: "Namespace") -> None:
    """Apply the seed of the settings: a number, True (random) or False (none).

    The seed replaces True in the settings, so the run's ``config.yaml`` holds it. A random seed comes from
    ``PL_GLOBAL_SEED`` if that is set, because Lightning passes it to the processes that it starts for other devices.
    """
    import torch  # noqa: PLC0415  # this module is loaded while torch is being imported
    from lightning import seed_everything  # noqa: PLC0415

    seed = settings.get("seed_everything", False)
    if seed is False:
        return
    if seed is True:
        seed = os.environ.get("PL_GLOBAL_SEED", torch.seed() % 2**32)
    settings["seed_everything"] = seed_everything(int(seed), workers=True)
