"""Side-by-side runs of Anomalib models, each in its own process; see ``anomalib-dmdd compare --help``."""
