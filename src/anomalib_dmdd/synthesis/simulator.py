"""Simulated anomalies: normal images blended with textures inside random masks."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from .foreground import foreground_mask
from .known import load_known_defects, place_known_defects
from .normalization import Normalized
from .perlin import PerlinNoise
from .texture import draw_textures_, jitter_colours_, load_textures, rearrange, shuffled_channels

VISIBLE = 0.02
"""Least visible change of a pixel: maximum over the channels, for images in [0, 1]."""
CANDIDATES = 4
"""Noise fields drawn per image; the first one with a defect on the object is used."""


class AnomalySimulator(Normalized):
    """Simulates one anomaly per normal image and returns the mask of what changed.

    With an image I, a mask M and a texture Q, the anomalous image is I_a = (1 - M) I + M ((1 - b) Q + b I). M is
    thresholded Perlin noise on the object, restricted to visible changes. Specks are dropped: regions smaller than 16
    pixels at 256x256, scaled with the image area, without others beside them. Outside of M, I_a equals I bit for bit. A
    mask is empty only if the texture differs visibly nowhere on the object.

    With known defects, half of the images get one of these instead: cut out along its mask, turned, mirrored, scaled
    and blended in at a random place.

    Nothing here waits for the GPU, and all randomness comes from torch's global generator of the images' device.

    Note:
        Blend and masks come from DRAEM, DeSTSeg and URD. Foreground, textures without files, and the treatment of
        invisible, small and empty masks are our choice.

    Args:
        textures: Folder of texture images, read when training starts or the first batch comes. Without it, textures are
            shuffled patches of other images of the batch, and drawn patterns.
        foreground: Whether defects lie on the object only.
        known_defects: Folder of images of real defects and their masks, see :func:`find_known_defects`. It is read when
            training starts or the first batch comes.
        known_share: Share of the images that get a known defect, in [0, 1].
        image_weight: Range of b, the weight of the normal image inside the mask, in [0, 1].
        threshold: Noise above this value is anomalous, in (-1, 1).
        octaves: The noise has 2^0 to 2^(octaves - 1) cells per axis.

    References:
        - DRAEM, https://arxiv.org/abs/2108.07610
        - DeSTSeg, https://arxiv.org/abs/2211.11317
        - URD, https://arxiv.org/abs/2412.07579

    Example:
        >>> images = torch.randn(4, 3, 64, 64)
        >>> anomalous, mask = AnomalySimulator()(images)
        >>> anomalous.shape, mask.shape
        (torch.Size([4, 3, 64, 64]), torch.Size([4, 1, 64, 64]))
        >>> bool(((anomalous != images).any(1, keepdim=True) == mask.bool()).all())
        True
    """

    def __init__(
        self,
        textures: str | Path | None = None,
        foreground: bool = True,
        known_defects: str | Path | None = None,
        *,
        known_share: float = 0.5,
        image_weight: tuple[float, float] = (0.0, 0.8),
        threshold: float = 0.5,
        octaves: int = 6,
    ) -> None:
        super().__init__()
        self.textures = textures
        self.foreground = foreground
        self.known_defects = known_defects
        self.known_share = known_share
        self.image_weight = image_weight
        self.threshold = threshold
        self.octaves = octaves
        # Not buffers: a checkpoint has no need of other people's images.
        self._loaded: Tensor | None = None
        self._known: Tensor | None = None

    def load_textures(self) -> None:
        """Read the folder of textures, once.

        Raises:
            FileNotFoundError: If the folder does not exist.
            ValueError: If it has no images, or one of them cannot be read.
        """
        if self.textures is not None and self._loaded is None:
            self._loaded = load_textures(self.textures)

    def forget_images(self) -> None:
        """Free textures and known defects. They are read again when they are needed."""
        self._loaded = self._known = None

    def load_known_defects(self, size: tuple[int, int]) -> None:
        """Read the folder of known defects, once for a size of the images.

        Args:
            size: Height and width of the images in pixels.

        Raises:
            FileNotFoundError: If the folder does not exist.
            ValueError: If an image or a mask cannot be used.
        """
        if self.known_defects is not None and (self._known is None or self._known.shape[2:] != size):
            self._known = load_known_defects(self.known_defects, size, margin=_cell_size(*size) | 1)

    @torch.no_grad()
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Simulate one anomaly per image.

        Args:
            images: Normalised normal images, ``(N, 3, H, W)``.

        Returns:
            Anomalous images of the same shape and type, and masks ``(N, 1, H, W)`` of 0 and 1 in the same type.

        Raises:
            FileNotFoundError: If a folder does not exist.
            ValueError: If a folder has no images, or one of them cannot be used.
        """
        normal = images.float()
        objects = self._objects(normal)
        change, mask = self._simulated(normal, objects)
        if self.known_defects is not None:
            known_change, known_mask = self._known_for(normal, objects)
            chosen = torch.rand(len(images), 1, 1, device=images.device) < self.known_share
            chosen = chosen & known_mask.flatten(1).any(1)[:, None, None]
            change = torch.where(chosen[:, None], known_change, change)
            mask = torch.where(chosen, known_mask, mask)
        return change.to(images.dtype).add_(images), mask[:, None].to(images.dtype)

    def _objects(self, normal: Tensor) -> Tensor:
        """Where defects may lie: one pixel of each cell, ``(N, h, w)``, bool."""
        cell = _cell_size(normal.shape[2], normal.shape[3])
        every = slice(cell // 2, None, cell)
        cells = normal[:, :, every, every] * self._std
        return foreground_mask(cells) if self.foreground else torch.ones_like(cells[:, 0], dtype=torch.bool)

    def _simulated(self, normal: Tensor, objects: Tensor) -> tuple[Tensor, Tensor]:
        """Change ``(N, 3, H, W)`` of images by textures, and its mask ``(N, H, W)``."""
        low, high = self.image_weight
        texture_weight = 1 - (low + (high - low) * torch.rand(len(normal), 1, 1, device=normal.device))
        # In place where possible: on a CPU, fresh memory costs more than the arithmetic.
        change = self._textures_for(normal).sub_(self._mean).addcmul_(normal, self._std, value=-1)
        visible = torch.maximum(change.amax(1), -change.amin(1)) * texture_weight >= VISIBLE
        mask = self._masks(objects, visible)
        return change.mul_((mask * texture_weight)[:, None]).div_(self._std), mask

    def _known_for(self, normal: Tensor, objects: Tensor) -> tuple[Tensor, Tensor]:
        """Change images ``(N, 3, H, W)`` and masks ``(N, H, W)`` by known defects."""
        size = (normal.shape[2], normal.shape[3])
        self.load_known_defects(size)
        self._known = cast("Tensor", self._known).to(normal.device)
        whole = _resize(objects[:, None].float(), size)[:, 0] >= 0.5  # noqa: PLR2004  # the nearer side of an outline
        change, weight = place_known_defects(normal * self._std + self._mean, whole, self._known)
        # A pixel of a defect may have the colour of the normal image by chance: visible ones close by are enough.
        visible = (change.abs().amax(1, keepdim=True) >= VISIBLE).float()
        margin = _cell_size(*size) | 1
        mask = (weight > 0) & (F.max_pool2d(visible, margin, 1, margin // 2) > 0)
        return change.mul_(mask).div_(self._std), mask[:, 0]

    def _textures_for(self, normal: Tensor) -> Tensor:
        """One texture per image, ``(N, 3, H, W)`` in [0, 1]."""
        count, device, size = len(normal), normal.device, (normal.shape[2], normal.shape[3])
        if self.textures is not None:
            self.load_textures()
            self._loaded = cast("Tensor", self._loaded).to(device)
            which = torch.randint(len(self._loaded), (count, 1), device=device)
            chosen = self._loaded[which, shuffled_channels(count, device)].float()
            return jitter_colours_(rearrange(chosen, size).div_(255))
        # The first half is shuffled places of the others, the second half is drawn; an odd one is of either kind.
        half = (count + 1) // 2
        both = torch.empty(2 * half, 3, *size, device=device)
        others = torch.arange(count - half, count, device=device)[:, None]
        both[:half] = rearrange(normal[others, shuffled_channels(half, device)], size, patches=8)
        jitter_colours_(both[:half], self._mean, self._std)
        draw_textures_(both[half:])
        if count % 2:
            both[half - 1 : half] = both[half - 1 + half * torch.randint(2, (1,), device=device)]
        return both[:count]

    def _masks(self, objects: Tensor, visible: Tensor) -> Tensor:
        """Masks of visible changes on the object, ``(N, H, W)``, bool; empty only without any."""
        count, height, width = visible.shape
        cell = _cell_size(height, width)
        every = slice(cell // 2, None, cell)  # one pixel of each cell
        y, x = ((torch.arange(side, device=visible.device) - (side - 1) / 2)[every] for side in (height, width))
        visible_cells = visible[:, every, every]

        fields = PerlinNoise.draw(count, CANDIDATES, max(height, width), self.octaves, visible.device)
        found = ((fields(y, x) > self.threshold) & (visible_cells & objects)[:, None]).flatten(2).any(2)
        noise = fields.choose(found.int().argmax(1)).render(height, width)
        # Off the object it falls to -2, below all noise. Thin objects need at least the resolution of the cells.
        size = [max(sides) for sides in zip(noise.shape[2:], objects.shape[1:], strict=True)]
        noise = torch.minimum(_resize(noise, size), _resize(4.0 * objects[:, None] - 2, size))
        noise = _resize(noise, (height, width))[:, 0]

        mask = drop_specks(visible & (noise > self.threshold))
        # Where nothing is left: a lower threshold, that of the sixteen highest cells.
        highest = noise[:, every, every].masked_fill(~visible_cells, -1).flatten(1)
        lower = highest.topk(min(16, highest.shape[1]), dim=1).values[:, -1:].clamp(min=-1)
        lower = lower.masked_fill(mask.flatten(1).any(1, keepdim=True), torch.inf)
        return mask | (visible & (noise >= lower[..., None]))


def _resize(images: Tensor, size: Sequence[int]) -> Tensor:
    """Bilinear resizing, ``(N, C, h, w)`` to ``(N, C, *size)``."""
    return F.interpolate(images, tuple(size), mode="bilinear", align_corners=True)


def drop_specks(mask: Tensor) -> Tensor:
    """Remove isolated regions of masks that are smaller than one cell.

    A cell has 16 pixels at 256x256. A pixel stays if a window of 2x2 cells over it holds at least as many mask pixels
    as a cell has. So small regions disappear unless others are beside them. Large ones stay, except for thin ends. This
    is much faster than connected components.

    Args:
        mask: Masks ``(N, H, W)``, bool.

    Returns:
        Masks without specks, ``(N, H, W)``, bool.

    Example:
        >>> mask = torch.zeros(1, 256, 256, dtype=torch.bool)
        >>> mask[:, 10:12, 10:12] = True
        >>> mask[:, 100:120, 100:120] = True
        >>> int(drop_specks(mask).sum())
        400
    """
    height, width = mask.shape[1:]
    cell = _cell_size(height, width)
    cells = F.avg_pool2d(mask[:, None].float(), cell, ceil_mode=True, divisor_override=1)
    windows = F.avg_pool2d(cells, 2, stride=1, padding=1, divisor_override=1) >= cell**2
    kept = F.avg_pool2d(windows.float(), 2, stride=1)[:, 0] > 0
    return mask & kept.repeat_interleave(cell, 1).repeat_interleave(cell, 2)[:, :height, :width]


def _cell_size(height: int, width: int) -> int:
    """Side of a cell in pixels, the resolution of coarse masks: 4 at 256x256."""
    return max(1, round(math.sqrt(height * width) / 64))
