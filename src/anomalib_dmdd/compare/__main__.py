"""``python -m anomalib_dmdd.compare``, the same as ``anomalib-dmdd compare``."""

from .command import main

raise SystemExit(main())
