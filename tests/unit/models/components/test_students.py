"""Embedding and students fit any teacher; their size is that of the published parts."""

import pytest
import torch

from anomalib_dmdd.models.components import BottleneckEmbedding, DecoderStudent, Teacher

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
    assert count(DecoderStudent(embedding.width, teacher.channels, teacher.reductions)) == 3.70


def test_untrained_copy_is_the_architecture_with_other_weights() -> None:
    teacher = Teacher("resnet18", pre_trained=False)
    student = teacher.untrained_copy()
    assert {name: tensor.shape for name, tensor in student.state_dict().items()} == {
        name: tensor.shape for name, tensor in teacher.features.state_dict().items()
    }
    assert all(parameter.requires_grad for parameter in student.parameters())
    assert not torch.equal(student.conv1.weight, teacher.features.conv1.weight)


def test_layers_two_octaves_apart() -> None:
    embedding = BottleneckEmbedding([64, 256], [4, 16])
    decoder = DecoderStudent(embedding.width, [64, 256], [4, 16], depth=1)
    features = [torch.rand(1, 64, 16, 16), torch.rand(1, 256, 4, 4)]
    assert [output.shape for output in decoder(embedding(features))] == [target.shape for target in features]


def test_joined_sets_of_features() -> None:
    embedding = BottleneckEmbedding([64, 128], [4, 8], inputs=2)
    assert embedding([torch.rand(1, 128, 16, 16), torch.rand(1, 256, 8, 8)]).shape == (1, 256, 4, 4)
