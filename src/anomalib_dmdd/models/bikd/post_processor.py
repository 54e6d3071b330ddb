"""How BiKD's map becomes score, threshold and mask."""

from anomalib_dmdd.models.post_processor import DistillationPostProcessor


class BikdPostProcessor(DistillationPostProcessor):
    """Smoothing with sigma 4 and the maximum as image score (our choice: the abstract does not speak of it)."""
