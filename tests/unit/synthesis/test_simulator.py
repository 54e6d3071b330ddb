"""The simulator as a model sees it: pairs of images and masks."""

import copy
from pathlib import Path

import pytest
import torch
from scipy.ndimage import label
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn import functional as F  # noqa: N812
from torchvision.utils import save_image

from anomalib_dmdd.synthesis import AnomalySimulator
from anomalib_dmdd.synthesis.simulator import drop_specks

MEAN, STD = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)


def parts(count: int = 8, height: int = 128, width: int = 128) -> Tensor:
    """Dark ellipses on a light ground, normalised."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    inside = (y / 0.5) ** 2 + (x / 0.7) ** 2 < 1
    rgb = torch.where(inside, 0.3, 0.8) + 0.02 * torch.randn(count, 3, height, width)
    return (rgb - MEAN) / STD


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i in range(4):
        save_image(torch.rand(3, 40, 60), tmp_path / f"{i}.png")
    return tmp_path


@pytest.fixture
def known(tmp_path: Path) -> Path:
    (tmp_path / "known").mkdir()
    mask = torch.zeros(1, 40, 60)
    mask[:, 10:20, 25:40] = 1
    save_image(torch.rand(3, 40, 60), tmp_path / "known/defect.png")
    save_image(mask, tmp_path / "known/defect_mask.png")
    return tmp_path / "known"


@pytest.fixture(params=["no files", "folder", "known defects"])
def simulator(request: pytest.FixtureRequest, folder: Path, known: Path) -> AnomalySimulator:
    torch.manual_seed(0)
    is_known = request.param == "known defects"
    return AnomalySimulator(folder if request.param == "folder" else None, known_defects=known if is_known else None)


@pytest.mark.parametrize("shape", [(8, 128, 128), (3, 96, 200), (1, 130, 70), (2, 33, 32)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_pixels_change_exactly_where_the_mask_is(
    simulator: AnomalySimulator, shape: tuple[int, int, int], dtype: torch.dtype
) -> None:
    images = (parts(*shape).double() * 1.1).to(dtype)  # no float32 in disguise
    before = images.clone()
    anomalous, mask = simulator(images)
    assert torch.equal(images, before)
    assert anomalous.shape == images.shape
    assert mask.shape == (shape[0], 1, *shape[1:])
    assert anomalous.dtype == mask.dtype == dtype
    assert set(mask.unique().tolist()) <= {0.0, 1.0}
    outside = mask.expand_as(images) == 0
    assert torch.equal(anomalous[outside], images[outside])
    change = ((anomalous - images).double() * STD).abs().amax(1, keepdim=True)
    if simulator.known_defects:  # a visible pixel near by is enough
        change = F.max_pool2d(change, 7, 1, 3)
    tolerance = 0.01 if dtype == torch.bfloat16 else 1e-5
    assert change[mask == 1].min() >= 0.02 - tolerance


def test_anomalies_stay_in_the_range_of_images(simulator: AnomalySimulator) -> None:
    images = parts()
    rgb = images * STD + MEAN
    low, high = min(0.0, rgb.min().item()), max(1.0, rgb.max().item())
    anomalous = simulator(images)[0] * STD + MEAN
    assert anomalous.min() >= low - 1e-5
    assert anomalous.max() <= high + 1e-5


def test_defects_are_on_the_object_unless_told_otherwise() -> None:
    torch.manual_seed(0)
    y, x = torch.meshgrid(torch.linspace(-1, 1, 128), torch.linspace(-1, 1, 128), indexing="ij")
    near = (y / 0.56) ** 2 + (x / 0.76) ** 2 < 1
    images = parts(32)
    assert AnomalySimulator()(images)[1][:, 0][:, ~near].sum() == 0
    assert AnomalySimulator(foreground=False)(images)[1][:, 0][:, ~near].sum() > 0


def test_no_mask_is_empty_and_the_mean_area_is_the_published_one() -> None:
    torch.manual_seed(0)
    whole, on_object = AnomalySimulator(foreground=False), AnomalySimulator()
    areas = torch.cat([whole(torch.randn(32, 3, 128, 128))[1].mean((1, 2, 3)) for _ in range(16)])
    assert areas.min() > 0
    assert 0.035 < areas.mean() < 0.07
    assert areas.std() > 0.02
    assert min(on_object(parts(32))[1].mean((1, 2, 3)).min() for _ in range(16)) > 0


def test_masks_are_not_empty_where_the_noise_never_reaches_the_threshold() -> None:
    torch.manual_seed(0)
    mask = AnomalySimulator(threshold=0.999)(parts(16))[1]
    assert (mask.sum((1, 2, 3)) > 0).all()
    assert mask.mean() < 0.1


def test_blend_has_the_weights_of_the_equation() -> None:
    """With b = 1/2 everywhere, I_a = (Q + I) / 2 lies half-way between I and the same texture with b = 0."""
    images = parts(16)
    torch.manual_seed(3)
    opaque, opaque_mask = AnomalySimulator(image_weight=(0.0, 0.0))(images)
    torch.manual_seed(3)
    half, half_mask = AnomalySimulator(image_weight=(0.5, 0.5))(images)
    both = (opaque_mask * half_mask).bool().expand_as(images)
    assert both.any()
    torch.testing.assert_close(half[both], ((opaque + images) / 2)[both], atol=1e-5, rtol=1e-5)


def test_an_image_without_a_visible_texture_stays_as_it_is() -> None:
    images = parts(2)
    anomalous, mask = AnomalySimulator(image_weight=(1.0, 1.0))(images)
    assert mask.sum() == 0
    assert torch.equal(anomalous, images)


def test_one_seed_repeats_and_images_of_a_batch_differ(simulator: AnomalySimulator) -> None:
    images = parts(1).expand(8, -1, -1, -1)
    torch.manual_seed(1)
    first, first_mask = simulator(images)
    torch.manual_seed(1)
    again, again_mask = simulator(images)
    assert torch.equal(first, again)
    assert torch.equal(first_mask, again_mask)
    assert len(first_mask.flatten(1).unique(dim=0)) == 8
    assert not torch.equal(simulator(images)[1], first_mask)


def test_autocast_changes_nothing(simulator: AnomalySimulator) -> None:
    images = parts(4)
    torch.manual_seed(1)
    expected = simulator(images)
    torch.manual_seed(1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = simulator(images)
    assert torch.equal(out[0], expected[0])
    assert torch.equal(out[1], expected[1])


def test_nothing_waits_for_the_values_of_a_tensor(simulator: AnomalySimulator) -> None:
    """Tensors without values run through: no size, no branch and no Python number depends on one."""
    simulator(parts(1, 96, 130))  # reads the folders
    with FakeTensorMode(allow_non_fake_inputs=True):
        anomalous, mask = simulator(torch.empty(5, 3, 96, 130))
    assert anomalous.shape == (5, 3, 96, 130)
    assert mask.shape == (5, 1, 96, 130)


def test_no_constant_is_copied_to_the_device(simulator: AnomalySimulator) -> None:
    simulator(parts(1))
    graph = make_fx(simulator)(parts(2)).graph
    constants = [node for node in graph.nodes if node.op == "call_function" and "lift_fresh" in str(node.target)]
    assert not constants


def test_textures_are_read_late_and_stay_out_of_checkpoints(folder: Path, tmp_path: Path) -> None:
    missing = AnomalySimulator(tmp_path / "missing")
    assert missing.state_dict() == {}
    with pytest.raises(FileNotFoundError, match="missing"):
        missing(parts(1))
    used = AnomalySimulator(str(folder))
    used(parts(1))
    assert used.state_dict() == {}
    for path in folder.glob("*.png"):
        path.unlink()
    copy.deepcopy(used)(parts(1))  # the folder is not needed any more


def test_textures_of_the_folder_are_what_the_defects_are_made_of(tmp_path: Path) -> None:
    save_image(torch.full((3, 32, 32), 0.5), tmp_path / "plain.png")
    images = (torch.full((8, 3, 64, 64), 0.1) - MEAN) / STD
    anomalous, mask = AnomalySimulator(tmp_path)(images)
    for image, where in zip(anomalous * STD + MEAN, mask[:, 0] == 1, strict=True):
        colours = image[:, where]
        assert (colours - colours[:, :1]).abs().max() < 1e-3


def test_a_single_image_gets_both_kinds_of_texture() -> None:
    torch.manual_seed(0)
    plain = torch.zeros(1, 3, 64, 64)  # its own places are all of one colour, drawn textures are not
    simulator = AnomalySimulator(image_weight=(0.0, 0.0))
    defects = [anomalous[:, :, mask[0, 0] == 1] for anomalous, mask in (simulator(plain) for _ in range(60))]
    one_colour = sum(bool((defect.std(2) < 1e-4).all()) for defect in defects)
    assert 15 < one_colour < 45


@pytest.mark.parametrize(("size", "cell"), [((256, 256), 4), ((512, 512), 8), ((192, 341), 4), ((64, 64), 1)])
def test_specks_go_and_the_rest_stays(size: tuple[int, int], cell: int) -> None:
    """Blobs on a wide grid, their sides up to two cells: labelled by SciPy, sorted by their area."""
    torch.manual_seed(0)
    mask = torch.zeros(4, *size, dtype=torch.bool)
    for one in mask:
        for y in range(0, size[0] - 6 * cell, 6 * cell):
            for x in range(0, size[1] - 6 * cell, 6 * cell):
                a, b = torch.randint(1, 2 * cell + 1, (2,)).tolist()
                one[y + 1 : y + 1 + a, x + 2 : x + 2 + b] = True
    kept = drop_specks(mask)
    for before, after in zip(mask.numpy(), kept.numpy(), strict=True):
        labels, count = label(before)
        for i in range(1, min(count, 200) + 1):
            blob = labels == i
            if blob.sum() < cell**2:
                assert not after[blob].any()
            elif max(blob.any(0).sum(), blob.any(1).sum()) <= cell + 1:  # in one window, wherever it lies
                assert after[blob].all()
