"""The teacher: which layers, frozen how, and where its weights come from."""

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from anomalib_dmdd.models.components import Teacher

BACKBONES = ["resnet18.tv_in1k", "wide_resnet50_2.tv_in1k", "mobilenetv3_small_050", "convnext_atto"]


@pytest.mark.parametrize("backbone", BACKBONES)
def test_default_layers_have_strides_4_8_16(backbone: str) -> None:
    teacher = Teacher(backbone, pre_trained=False)
    outputs = teacher(torch.rand(1, 3, 64, 96))
    assert teacher.reductions == [4, 8, 16]
    assert [tuple(output.shape) for output in outputs] == [
        (1, channels, 64 // stride, 96 // stride) for channels, stride in zip(teacher.channels, [4, 8, 16], strict=True)
    ]


def test_layers_by_name_come_shallow_to_deep() -> None:
    teacher = Teacher("resnet18", ["layer3", "layer2"], pre_trained=False)
    assert teacher.channels == [128, 256]


def test_it_stays_frozen_and_in_evaluation_mode() -> None:
    teacher = Teacher("resnet18", pre_trained=False)
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    torch.nn.Sequential(teacher).train()
    output = teacher(torch.rand(4, 3, 64, 64))[0]
    assert not output.requires_grad
    assert all(torch.equal(before[name], tensor) for name, tensor in teacher.state_dict().items())


@pytest.mark.parametrize(("backbone", "final_relu"), [("resnet18", True), ("convnext_atto", False)])
def test_final_relu_tells_that_no_feature_is_negative(backbone: str, final_relu: bool) -> None:
    assert Teacher(backbone, pre_trained=False).final_relu is final_relu


@pytest.mark.parametrize(
    ("backbone", "similar"), [("resnt18", "resnet18"), ("resnet18.tv_in1kk", r"resnet18\.tv_in1k")]
)
def test_unknown_backbone_or_tag_names_similar_ones(backbone: str, similar: str) -> None:
    with pytest.raises(ValueError, match=rf"no model '{backbone}'.*\b{similar},"):
        Teacher(backbone)


def test_unknown_layer_lists_the_backbones_layers() -> None:
    with pytest.raises(ValueError, match=r"\['layer9'\].*layer3 \(stride 16\)"):
        Teacher("resnet18", ["layer9"])


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("backbone", ["resnet18", "mobilenetv3_small_050", "convnext_atto"])
def test_weights_from_a_file(backbone: str, suffix: str, tmp_path: Path) -> None:
    whole = timm.create_model(backbone, pretrained=False).eval()
    file = tmp_path / f"weights{suffix}"
    (torch.save if suffix == ".pth" else save_file)(whole.state_dict(), file)
    teacher = Teacher(backbone, weights=file)
    teacher.load_pretrained()
    images = torch.rand(1, 3, 64, 64)
    expected = whole.forward_intermediates(images, intermediates_only=True)
    for output in teacher(images):  # timm's other way to intermediate features, on the whole network
        assert any(output.shape == other.shape and torch.allclose(output, other, atol=1e-5) for other in expected)


def test_missing_file_of_weights(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"teacher_weights: there is no file .*nowhere\.pth"):
        Teacher("resnet18", weights=tmp_path / "nowhere.pth").load_pretrained()


def test_weights_of_another_architecture(tmp_path: Path) -> None:
    torch.save(timm.create_model("mobilenetv3_small_050").state_dict(), tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"lacks \d+ of the \d+ tensors of 'resnet18'"):
        Teacher("resnet18", weights=tmp_path / "other.pth").load_pretrained()


def test_weights_of_another_size(tmp_path: Path) -> None:
    torch.save(timm.create_model("wide_resnet50_2").state_dict(), tmp_path / "wide.pth")
    with pytest.raises(ValueError, match="does not fit 'resnet50'"):
        Teacher("resnet50", weights=tmp_path / "wide.pth").load_pretrained()


def test_no_weights_anywhere_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = Teacher("resnet18")

    def offline(*_args: object, **_kwargs: object) -> None:
        raise ConnectionError("network is unreachable")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(RuntimeError, match=r"network is unreachable.*teacher_weights.*HF_HOME.*pre_trained false"):
        teacher.load_pretrained()


def test_restored_weights_are_not_fetched_again(tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    torch.save(timm.create_model("resnet18").state_dict(), file)
    teacher = Teacher("resnet18", weights=file)
    teacher.load_pretrained()
    file.unlink()
    restored = Teacher("resnet18", weights=file)
    restored.load_state_dict(teacher.state_dict())
    restored.load_pretrained()
    images = torch.rand(1, 3, 64, 64)
    assert torch.equal(restored(images)[2], teacher(images)[2])


def test_random_weights_are_fitted_to_images_once() -> None:
    teacher = Teacher("resnet18", pre_trained=False)
    images = 5 + torch.randn(8, 3, 64, 64)
    teacher.calibrate(images)
    before = teacher(images)
    normalised = teacher.features.bn1(teacher.features.conv1(images))
    assert torch.allclose(normalised.mean((0, 2, 3)), torch.tensor(0.0), atol=1e-2)
    assert torch.allclose(normalised.std((0, 2, 3)), torch.tensor(1.0), atol=1e-2)
    teacher.calibrate(torch.randn(8, 3, 64, 64))
    assert all(torch.equal(a, b) for a, b in zip(before, teacher(images), strict=True))
    assert not any(module.training for module in teacher.modules())


@pytest.mark.parametrize(
    ("backbone", "layers"),
    [
        ("resnet18", None),
        ("resnet18", ["act1", "layer1", "layer2"]),
        ("vgg11", None),
        ("hrnet_w18_small", None),
        ("efficientformer_l1", None),
        ("xcit_nano_12_p8_224", None),
        ("mobilenetv3_small_050", None),
        ("convnext_atto", None),
        ("efficientnet_b0", None),
        ("regnetx_002", None),
        ("densenet121", None),
        ("ghostnet_050", None),
    ],
)
def test_a_trainable_copy_learns_behind_its_stem(backbone: str, layers: list[str] | None) -> None:
    teacher = Teacher(backbone, layers, pre_trained=False)
    copy = teacher.trainable_copy()
    trained = [parameter for parameter in copy.parameters() if parameter.requires_grad]
    assert 0 < len(trained) < len(list(copy.parameters()))
    images = torch.randn(2, 3, *copy._probe_size)
    before = [parameter.clone() for parameter in trained]
    torch.optim.SGD(trained, lr=1.0).zero_grad()
    torch.stack([features.square().mean() for features in copy(images)]).sum().backward()
    assert all(parameter.grad is not None for parameter in trained), "DDP waits for each of them"
    torch.optim.SGD(trained, lr=1.0).step()
    assert any(not torch.equal(old, new) for old, new in zip(before, trained, strict=True))
    stem = next(copy.parameters())
    assert stem.grad is None, "the first weights of the network belong to the stem"
    assert not any(features.requires_grad for features in teacher(images))


def test_a_teacher_without_weights_behind_its_layer_cannot_learn() -> None:
    with pytest.raises(ValueError, match="no weights behind its first chosen layer"):
        Teacher("resnet18", ["act1"], pre_trained=False).trainable_copy()


def test_a_layer_named_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="names a layer twice"):
        Teacher("resnet18", ["layer1", "layer1"], pre_trained=False)


@pytest.mark.parametrize("backbone", ["swin_tiny_patch4_window7_224", "vit_tiny_patch16_224"])
def test_a_backbone_whose_outputs_do_not_fit_is_refused_with_the_reason(backbone: str) -> None:
    with pytest.raises(ValueError, match=rf"'{backbone}'"):
        Teacher(backbone, pre_trained=False)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "cannot be read"),
        (b"these are no weights", "cannot be read"),
        ("truncated", "cannot be read"),
        ("nan", "holds NaN"),
    ],
)
def test_a_broken_file_of_weights_is_named(content: bytes | str, reason: str, tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    state = timm.create_model("resnet18").state_dict()
    if content == "nan":
        state["conv1.weight"][0] = torch.nan
    torch.save(state, file)
    if content == "truncated":
        file.write_bytes(file.read_bytes()[:1000])
    elif isinstance(content, bytes):
        file.write_bytes(content)
    with pytest.raises(ValueError, match=rf"teacher_weights: .*{reason}") as error:
        Teacher("resnet18", weights=file).load_pretrained()
    assert str(file) in str(error.value)


def test_a_list_is_no_file_of_weights(tmp_path: Path) -> None:
    torch.save([torch.zeros(2)], tmp_path / "list.pth")
    with pytest.raises(ValueError, match=r"teacher_weights: .*list\.pth"):
        Teacher("resnet18", weights=tmp_path / "list.pth").load_pretrained()


def test_a_teacher_with_synchronised_batch_norm_is_calibrated() -> None:
    teacher = torch.nn.SyncBatchNorm.convert_sync_batchnorm(Teacher("resnet18", pre_trained=False))
    teacher.calibrate(torch.rand(2, 3, 64, 64))
    assert teacher.features.bn1.running_mean.any()  # zeros before
