"""What the simulator promises for images of any size, type and content."""

import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from anomalib_dmdd.synthesis import AnomalySimulator, MildAugmentation
from anomalib_dmdd.synthesis.simulator import drop_specks

PROPERTY = settings(deadline=None, derandomize=True, database=None, max_examples=25)
SIMULATORS = st.builds(AnomalySimulator, foreground=st.booleans(), octaves=st.integers(1, 6))


@st.composite
def batches(draw: st.DrawFn) -> Tensor:
    """Noise, a bright or dark rectangle on a smooth ground, or one colour, normalised."""
    count, height, width = draw(st.integers(1, 4)), draw(st.integers(1, 120)), draw(st.integers(1, 120))
    kind = draw(st.sampled_from(["noise", "object", "one colour"]))
    torch.manual_seed(draw(st.integers(0, 2**32 - 1)))
    images = torch.randn(count, 3, 1, 1).expand(-1, -1, height, width).clone()
    if kind == "noise":
        images = torch.randn_like(images)
    elif kind == "object":
        top, left = int(torch.randint(height, ())), int(torch.randint(width, ()))
        images[..., top : top + height // 2 + 1, left : left + width // 2 + 1] += 2
    if draw(st.booleans()):
        images = images.contiguous(memory_format=torch.channels_last)
    return images.to(draw(st.sampled_from([torch.float32, torch.float64, torch.float16, torch.bfloat16])))


@PROPERTY
@given(simulator=SIMULATORS, images=batches(), seed=st.integers(0, 2**32 - 1))
def test_images_change_in_the_mask_alone_and_one_seed_repeats(
    simulator: AnomalySimulator, images: Tensor, seed: int
) -> None:
    before = images.clone()
    torch.manual_seed(seed)
    anomalous, mask = simulator(images)
    assert torch.equal(images, before)
    assert anomalous.shape == images.shape
    assert mask.shape == images[:, :1].shape
    assert anomalous.dtype == mask.dtype == images.dtype
    assert anomalous.isfinite().all()
    assert ((mask == 0) | (mask == 1)).all()
    outside = (mask == 0).expand_as(images)
    assert torch.equal(anomalous[outside], images[outside])
    torch.manual_seed(seed)
    again, again_mask = simulator(images)
    assert torch.equal(anomalous, again)
    assert torch.equal(mask, again_mask)


@PROPERTY
@given(
    octaves=st.integers(1, 6),
    threshold=st.floats(-0.9, 0.99),
    height=st.integers(24, 120),
    width=st.integers(24, 120),
    thickness=st.integers(1, 5),
    seed=st.integers(0, 2**32 - 1),
)
@example(octaves=1, threshold=0.5, height=26, width=81, thickness=1, seed=0)  # the noise has fewer points than cells
def test_no_mask_is_empty_where_textures_are_visible(
    octaves: int, threshold: float, height: int, width: int, thickness: int, seed: int
) -> None:
    """A bright frame on a dark ground, both of colours that no texture has."""
    torch.manual_seed(seed)
    images = torch.full((4, 3, height, width), -4.0)
    frame = images[..., height // 6 : -(height // 6), width // 6 : -(width // 6)]
    frame[:] = 6.0
    frame[..., thickness:-thickness, thickness:-thickness] = -4.0
    mask = AnomalySimulator(threshold=threshold, octaves=octaves)(images)[1]
    assert (mask.sum((1, 2, 3)) > 0).all()


@PROPERTY
@given(
    height=st.integers(1, 150),
    width=st.integers(1, 150),
    share=st.floats(0, 1),
    seed=st.integers(0, 2**32 - 1),
)
def test_dropping_specks_adds_nothing_and_keeps_full_masks(height: int, width: int, share: float, seed: int) -> None:
    torch.manual_seed(seed)
    mask = torch.rand(2, height, width) < share
    kept = drop_specks(mask)
    assert kept.shape == mask.shape
    assert not (kept & ~mask).any()
    assert not drop_specks(torch.zeros_like(mask)).any()
    if min(height, width) >= 4:
        assert drop_specks(torch.ones_like(mask)).all()


@PROPERTY
@given(images=batches(), seed=st.integers(0, 2**32 - 1))
def test_mild_augmentation_keeps_shape_type_and_range(images: Tensor, seed: int) -> None:
    augmentation = MildAugmentation(brightness=0.0)
    torch.manual_seed(seed)
    moved = augmentation(images)
    assert moved.shape == images.shape
    assert moved.dtype == images.dtype
    tolerance = 1e-5 + float(images.abs().max()) * torch.finfo(images.dtype).eps
    assert (moved.amax((2, 3)) <= images.amax((2, 3)) + tolerance).all()
    assert (moved.amin((2, 3)) >= images.amin((2, 3)) - tolerance).all()
    torch.manual_seed(seed)
    assert torch.equal(moved, augmentation(images))
