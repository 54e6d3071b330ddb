"""How DMDD's map becomes score, threshold and mask."""

from anomalib_dmdd.models.post_processor import DistillationPostProcessor


class DmddPostProcessor(DistillationPostProcessor):
    """Smoothing with sigma 4 and the maximum as image score; the paper leaves both open.

    Example:
        >>> import torch
        >>> from anomalib.data import InferenceBatch
        >>> raw = torch.zeros(1, 1, 64, 64)
        >>> raw[..., 32, 32] = 1
        >>> smoothed = DmddPostProcessor(sigma=2.0)(InferenceBatch(anomaly_map=raw))
        >>> round(float(smoothed.pred_score), 3)  # 1 / (2 pi sigma^2)
        0.04
    """
