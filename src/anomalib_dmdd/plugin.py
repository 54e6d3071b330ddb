"""Registers the models and data modules of installed packages with the stock ``anomalib`` command.

Anomalib 2.7 finds short model names only among classes that are imported before it parses its arguments, and it loads
no plugins. The one hook that runs that early is torch's: ``import torch`` ends by calling the entry points of the group
``torch.backends``. :func:`install` is such an entry point. It waits until ``anomalib.models`` has been imported and
then loads two groups of entry points, in which any package may list its classes. It never raises, and it does nothing
in a program that does not import Anomalib::

    [project.entry-points."anomalib.models"]
    Dmdd = "anomalib_dmdd:Dmdd"

    [project.entry-points."anomalib.data"]
    DemoParts = "anomalib_dmdd:DemoParts"

Each class becomes an attribute of the module that its group is named after. ``list_models`` and ``get_model`` only know
direct subclasses of ``AnomalibModule``.

Note:
    It relies on these undocumented things, which ``tests/unit/test_anomalib_contract.py`` checks:

    - torch loads ``torch.backends`` entry points at the end of its import, unless ``TORCH_DEVICE_BACKEND_AUTOLOAD=0``.
    - Python sets ``_initializing`` on the spec of a module while it is imported, and asks ``sys.meta_path`` in order.
    - Importing ``anomalib.models`` imports submodules of it.
    - Anomalib looks names up as attributes of ``anomalib.models``, and class paths in its ``ALLOWED_MODULES``.
    - The command calls ``AnomalibCLI.before_instantiate_classes`` and ``init_parser``, see
      :mod:`anomalib_dmdd.seed` and :mod:`anomalib_dmdd.names`.

    ``docs/upstream.md`` proposes a change of Anomalib that would replace all of this.
"""

import logging
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType

from anomalib_dmdd.names import let_command_suggest
from anomalib_dmdd.seed import let_command_seed

_logger = logging.getLogger(__name__)
_loaded: set[EntryPoint] = set()
_left_out: set[EntryPoint] = set()


def install() -> None:
    """Load the plugins as soon as ``anomalib.models`` has been imported; never raises.

    torch calls this function. With ``TORCH_DEVICE_BACKEND_AUTOLOAD=0`` a program may call it, before or after it
    imports Anomalib.
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
            let_command_suggest()
    except Exception:
        _logger.exception("Anomalib plugins could not be loaded.")


class _Finder:
    """Finds nothing, but notices the import of ``anomalib.models`` by its first submodule.

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
    """Spec of a module under import; calls :func:`install` when the import has ended."""

    def __setattr__(self, name: str, value: object) -> None:
        super().__setattr__(name, value)
        if name == "_initializing" and not value:
            self.__class__ = ModuleSpec  # type: ignore[assignment]
            install()


def _postponed(package: str) -> bool:
    """Whether part of the package is under import; then :func:`install` is called again.

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
