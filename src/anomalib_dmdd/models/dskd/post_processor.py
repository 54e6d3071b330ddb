"""How DSKD's map becomes score, threshold and mask."""

from anomalib_dmdd.models.post_processor import DistillationPostProcessor


class DskdPostProcessor(DistillationPostProcessor):
    """Smoothing with sigma 4 and the maximum as image score; the paper takes the score from the map."""
