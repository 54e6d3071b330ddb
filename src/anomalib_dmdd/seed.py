"""Makes ``--seed_everything`` of the ``anomalib`` command do what its help says; Anomalib 2.7 only declares it."""

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from anomalib.cli import AnomalibCLI
    from jsonargparse import Namespace


def let_command_seed() -> None:
    """Have the command seed before it builds the model, where Lightning's own command line does; for every model.

    Nothing happens in a program that has not imported the command.
    """
    command: type[AnomalibCLI] | None = getattr(sys.modules.get("anomalib.cli.cli"), "AnomalibCLI", None)
    if command is None or command.before_instantiate_classes.__module__ == __name__:
        return
    prepare = command.before_instantiate_classes

    def before_instantiate_classes(self: "AnomalibCLI") -> None:
        _seed(self.config[self.subcommand])
        prepare(self)

    command.before_instantiate_classes = before_instantiate_classes


def _seed(settings: "Namespace") -> None:
    """Seed as the settings say: an integer, True for a random seed, False for none.

    The seed replaces True in the settings, so that the run's ``config.yaml`` holds it. A random seed comes from
    ``PL_GLOBAL_SEED`` where it is set: Lightning hands it to the processes that it starts for further devices.
    """
    import torch  # noqa: PLC0415  # this module is loaded while torch is being imported
    from lightning import seed_everything  # noqa: PLC0415

    seed = settings.get("seed_everything", False)
    if seed is False:
        return
    if seed is True:
        seed = os.environ.get("PL_GLOBAL_SEED", torch.seed() % 2**32)
    settings["seed_everything"] = seed_everything(int(seed), workers=True)
