"""Embedding and students fit any teacher; their size is that of the published parts."""

import pytest
import timm
import torch
from torch import nn

from anomalib_dmdd.models.components import BottleneckEmbedding, DecoderStudent, EncoderStudent, Teacher

BACKBONES = ["resnet18.tv_in1k", "wide_resnet50_2.tv_in1k", "mobilenetv3_small_050", "convnext_atto"]


def count(module: torch.nn.Module) -> float:
    return round(sum(parameter.numel() for parameter in module.parameters()) / 1e6, 2)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_decoder_mirrors_the_teacher(backbone: str) -> None:
    teacher = Teacher(backbone, pre_trained=False)
    embedding = BottleneckEmbedding(teacher.channels, teacher.reductions)
    decoder = DecoderStudent(embedding.width, teacher.channels, teacher.reductions, final_relu=teacher.final_relu)
    features = teacher(torch.rand(2, 3, 64, 96))
    embedded = embedding(features)
    assert embedded.shape == (2, embedding.width, 2, 3)
    decoded = decoder(embedded)
    assert [output.shape for output in decoded] == [target.shape for target in features]
    assert any(bool((output < 0).any()) for output in decoded) is not teacher.final_relu


def test_resnet18_parts_have_the_published_size() -> None:
    teacher = Teacher("resnet18", pre_trained=False)
    embedding = BottleneckEmbedding(teacher.channels, teacher.reductions)
    assert count(teacher) == 2.78
    assert count(embedding) == 11.68
    narrow = BottleneckEmbedding(teacher.channels, teacher.reductions, blocks=1, narrow=True)
    reduce = 9 * (64 * 128 + 128 * 256 + 128 * 256)
    compress = 768 * 256 + 9 * 256 * 256 + 256 * 512 + 768 * 512
    assert count(narrow) == round((reduce + compress + 5 * 512 + 2 * 1024) / 1e6, 2)  # and batch normalisation
    assert count(DecoderStudent(embedding.width, teacher.channels, teacher.reductions)) == 3.70


@pytest.mark.parametrize("backbone", BACKBONES)
def test_encoder_has_the_shapes_of_the_teacher(backbone: str) -> None:
    teacher = Teacher(backbone, pre_trained=False)
    student = EncoderStudent(teacher.channels, teacher.reductions, final_relu=teacher.final_relu)
    for module in student.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)  # else the last blocks are only their shortcuts
    images = torch.rand(2, 3, 64, 96)
    encoded = student(images)
    assert [output.shape for output in encoded] == [target.shape for target in teacher(images)]
    assert any(bool((output < 0).any()) for output in encoded) is not teacher.final_relu


@pytest.mark.parametrize("depth", [1, 2])
def test_encoder_is_a_resnet18_of_any_depth(depth: int) -> None:
    network = timm.create_model("resnet18", features_only=True, out_indices=(1, 2, 3))
    for name in ("layer1", "layer2", "layer3"):
        setattr(network, name, getattr(network, name)[:depth])
    student = EncoderStudent([64, 128, 256], [4, 8, 16], depth)
    pairs = list(zip(student.state_dict().items(), network.state_dict().values(), strict=True))
    for (name, own), other in pairs:  # both start from the same distribution
        if own.ndim:
            assert own.std().item() == pytest.approx(other.std().item(), rel=0.1), name
            assert own.mean().item() == pytest.approx(other.mean().item(), abs=1e-2), name
    for name in ("layer1", "layer2", "layer3"):  # else only the shortcuts would be compared
        for block in getattr(network, name):
            nn.init.ones_(block.bn2.weight)
    student.load_state_dict({name: other for (name, _), other in pairs})
    images = torch.rand(2, 3, 64, 96)
    torch.testing.assert_close(student(images), network(images))


@pytest.mark.parametrize("reductions", [[1, 2], [2, 8], [16, 16]])
def test_encoder_with_other_strides(reductions: list[int]) -> None:
    student = EncoderStudent([8, 16], reductions)
    sides = [output.shape[-1] for output in student(torch.rand(2, 3, 64, 64))]
    assert sides == [64 // reduction for reduction in reductions]


def test_layers_two_octaves_apart() -> None:
    embedding = BottleneckEmbedding([64, 256], [4, 16])
    decoder = DecoderStudent(embedding.width, [64, 256], [4, 16], depth=1)
    features = [torch.rand(1, 64, 16, 16), torch.rand(1, 256, 4, 4)]
    assert [output.shape for output in decoder(embedding(features))] == [target.shape for target in features]


def test_joined_sets_of_features() -> None:
    embedding = BottleneckEmbedding([64, 128], [4, 8], inputs=2)
    assert embedding([torch.rand(1, 128, 16, 16), torch.rand(1, 256, 8, 8)]).shape == (1, 256, 4, 4)
