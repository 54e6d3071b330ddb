"""Private and undocumented things of Anomalib, Lightning, torch and Python that this package relies on.

An upgrade that changes one of them fails here first, by name.
"""

import importlib.machinery
import inspect
import sys

import anomalib.models
import pytest
import timm
import torch
from anomalib.cli.cli import AnomalibCLI
from anomalib.data import MVTecAD
from anomalib.engine import Engine
from anomalib.models import AnomalibModule, Stfpm
from anomalib.post_processing import PostProcessor
from lightning.pytorch import LightningModule, Trainer

import anomalib_dmdd
from anomalib_dmdd.models import __all__ as models


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (anomalib.models, "ALLOWED_MODULES"),
        (AnomalibCLI, "before_instantiate_classes"),
        (AnomalibCLI, "init_parser"),
        (AnomalibModule, "configure_post_processor"),
        (AnomalibModule, "configure_pre_processor"),
        (AnomalibModule, "input_size"),
        (AnomalibModule, "to_torch"),
        (AnomalibModule, "trainer_arguments"),
        (PostProcessor, "_checkpoint_config_keys"),
        (PostProcessor, "_normalize"),
        (PostProcessor, "checkpoint_config"),
        (PostProcessor, "load_checkpoint_config"),
        (PostProcessor, "on_validation_batch_end"),
        (PostProcessor, "on_validation_epoch_end"),
        (PostProcessor, "post_process_batch"),
        (Engine, "best_model_path"),
        (Trainer, "estimated_stepping_batches"),
        (torch, "_import_device_backends"),
    ],
)
def test_it_exists(owner: object, name: str) -> None:
    assert hasattr(owner, name)


def test_the_post_processor_keeps_thresholds_in_buffers() -> None:
    post_processor = PostProcessor()
    buffers = dict(post_processor.named_buffers())
    assert {"_image_threshold", "_pixel_threshold"} <= set(buffers)
    assert hasattr(post_processor, "_image_threshold_metric")
    assert hasattr(post_processor, "_pixel_threshold_metric")
    assert list(inspect.signature(PostProcessor._normalize).parameters) == [
        "preds",
        "norm_min",
        "norm_max",
        "threshold",
    ]


def test_the_trainer_of_a_module_is_a_property_that_can_be_extended() -> None:
    assert isinstance(LightningModule.trainer, property)
    assert LightningModule.trainer.fset is not None


def test_a_missing_length_is_none_until_the_trainer_runs() -> None:
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    assert (trainer.max_epochs, trainer.max_steps) == (None, -1)
    trainer.fit_loop.max_epochs = 7
    trainer.check_val_every_n_epoch = 3
    assert trainer.max_epochs == 7


def test_a_module_under_import_says_so_in_its_spec() -> None:
    assert "_initializing" in inspect.getsource(importlib._bootstrap)
    assert isinstance(sys.meta_path, list)
    assert hasattr(importlib.machinery, "ModuleSpec")


def test_list_models_knows_direct_subclasses_alone() -> None:
    class Indirect(Stfpm):
        pass

    assert Indirect not in AnomalibModule.__subclasses__()
    assert all(AnomalibModule in getattr(anomalib_dmdd, name).__bases__ for name in models)


def test_a_data_module_names_its_augmentations() -> None:
    assert MVTecAD(train_augmentations=torch.nn.Identity()).train_augmentations is not None
    assert MVTecAD().train_augmentations is None


def test_a_features_only_network_describes_its_layers() -> None:
    info = timm.create_model("resnet18", features_only=True, out_indices=[1, 2]).feature_info
    assert (info.channels(), info.reduction(), info.module_name()) == ([64, 128], [4, 8], ["layer1", "layer2"])
