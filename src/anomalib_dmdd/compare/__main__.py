"""``python -m anomalib_dmdd.compare``, the same as ``anomalib-dmdd compare``."""

import sys

from .command import main

if __name__ == "__main__":
    sys.exit(main())
