"""How the stock ``anomalib`` command finds the models and data modules of installed packages.

Anomalib loads no plugins, but it imports torch, and the last thing that ``import torch`` does is to call the entry
points of the group ``torch.backends``. :func:`install` is one of them: it waits until ``anomalib.models`` has been
imported, and then loads the entry points of two more groups, in which any package may list its classes::

    [project.entry-points."anomalib.models"]
    Dmdd = "anomalib_dmdd:Dmdd"

    [project.entry-points."anomalib.data"]
    DemoParts = "anomalib_dmdd:DemoParts"

Each class becomes an attribute of the module that its group is named after, so that short names work wherever Anomalib
takes its own. ``list_models`` and ``get_model`` know direct subclasses of ``AnomalibModule`` only.

:func:`install` also makes the command's ``--seed_everything`` work, see :mod:`anomalib_dmdd.seed`.
"""

import logging
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType

from anomalib_dmdd.seed import let_command_seed

_logger = logging.getLogger(__name__)
_loaded: set[EntryPoint] = set()
_left_out: set[EntryPoint] = set()


def install() -> None:
    """Load the plugins as soon as ``anomalib.models`` has been imported; never raises.

    torch calls it. With ``TORCH_DEVICE_BACKEND_AUTOLOAD=0`` a program may do so itself, before or after it imports
    Anomalib.
    """
    try:
        if "anomalib.models" not in sys.modules:
            if _finder not in sys.meta_path:
                sys.meta_path.insert(0, _finder)
        elif not _postponed("anomalib"):
            for group in ("anomalib.models", "anomalib.data"):
                for entry in entry_points(group=group):
                    _load(entry)
            let_command_seed()
    except Exception:
        _logger.exception("Anomalib plugins could not be loaded.")


class _Finder:
    """Finds nothing, but notices that ``anomalib.models`` is being imported when its first submodule is looked up.

    It is never taken away again: a finder that leaves while the import system walks along the list makes it skip the
    next one.
    """

    noticed: ModuleSpec | None = None

    def find_spec(self, name: str, _path: Sequence[str] | None = None, _target: ModuleType | None = None) -> None:
        if name.startswith("anomalib.models."):
            spec = getattr(sys.modules.get("anomalib.models"), "__spec__", None)
            if spec is not self.noticed:
                self.noticed = spec
                install()


_finder = _Finder()


class _SpecUnderWay(ModuleSpec):
    """Spec of a module that is being imported: calls :func:`install` when the import has ended, well or badly."""

    def __setattr__(self, name: str, value: object) -> None:
        super().__setattr__(name, value)
        if name == "_initializing" and not value:
            self.__class__ = ModuleSpec  # type: ignore[assignment]
            install()


def _postponed(package: str) -> bool:
    """Whether part of the package is being imported; if so, :func:`install` is called again after that.

    The outermost module counts: what it imports may still need names that it has not got yet.
    """
    for name, module in sys.modules.copy().items():
        if name.partition(".")[0] == package:
            spec = getattr(module, "__spec__", None)
            if _under_way(spec):
                spec.__class__ = _SpecUnderWay
                if _under_way(spec):  # no longer, if another thread has just finished it
                    return True
    return False


def _under_way(spec: ModuleSpec | None) -> bool:
    return getattr(spec, "_initializing", False)


def _load(entry: EntryPoint) -> None:
    """Register one entry; whatever is wrong with it costs a warning, once, and nothing else."""
    if entry in _left_out:
        return
    try:
        _register(entry)
    except Exception as error:  # noqa: BLE001  # it is another package's code that runs here
        _left_out.add(entry)
        _logger.warning(
            "Anomalib plugin %s = %s of %s is left out: %s: %s",
            entry.name,
            entry.value,
            entry.dist.name if entry.dist else "an unknown package",
            type(error).__name__,
            error,
        )


def _register(entry: EntryPoint) -> None:
    """Make one class known to Anomalib."""
    if _postponed(entry.module.partition(".")[0]):
        return
    home = import_module(entry.group)
    if hasattr(home, entry.name) and entry not in _loaded:
        raise NameError(f"{entry.group} has a {entry.name} already")
    loaded = entry.load()
    _loaded.add(entry)
    setattr(home, entry.name, loaded)
    if entry.group == "anomalib.models":
        home.ALLOWED_MODULES.add(entry.module)
