"""``python -m anomalib_dmdd.compare``."""

import sys

from .command import main

if __name__ == "__main__":
    sys.exit(main())
