"""Private and undocumented things of Anomalib, Lightning, torch and Python that this package relies on.

An upgrade that changes one of them fails here first, by name.
"""

import importlib
import inspect

import anomalib.models
import anomalib.utils.path
import anomalib.visualization.image.functional
import pytest
import timm
import torch
from anomalib.cli.cli import AnomalibCLI
from anomalib.data import AnomalibDataModule, MVTecAD
from anomalib.engine import Engine
from anomalib.models import AnomalibModule, Stfpm
from anomalib.post_processing import PostProcessor
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

import anomalib_dmdd
from anomalib_dmdd.models import __all__ as models


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (anomalib.models, "ALLOWED_MODULES"),
        (AnomalibCLI, "before_instantiate_classes"),
        (AnomalibDataModule, "_update_subset_augmentations"),
        (AnomalibCLI, "init_parser"),
        (AnomalibModule, "_accuracy_control_quantization_ov"),
        (AnomalibModule, "_post_training_quantization_ov"),
        (AnomalibModule, "configure_post_processor"),
        (AnomalibModule, "configure_pre_processor"),
        (AnomalibModule, "configure_visualizer"),
        (AnomalibModule, "input_size"),
        (AnomalibModule, "to_onnx"),
        (AnomalibModule, "to_openvino"),
        (AnomalibModule, "to_torch"),
        (AnomalibModule, "trainer_arguments"),
        (PostProcessor, "_checkpoint_config_keys"),
        (PostProcessor, "_normalize"),
        (PostProcessor, "checkpoint_config"),
        (PostProcessor, "load_checkpoint_config"),
        (PostProcessor, "normalized_image_threshold"),
        (PostProcessor, "normalized_pixel_threshold"),
        (PostProcessor, "on_validation_batch_end"),
        (PostProcessor, "on_validation_epoch_end"),
        (PostProcessor, "post_process_batch"),
        (Engine, "best_model_path"),
        (ModelCheckpoint, "format_checkpoint_name"),
        (Trainer, "ckpt_path"),
        (Trainer, "estimated_stepping_batches"),
        (anomalib.utils.path, "generate_output_filename"),
        (anomalib.visualization.image.functional, "add_text_to_image"),
        (torch, "_import_device_backends"),
    ],
)
def test_it_exists(owner: object, name: str) -> None:
    assert hasattr(owner, name)


def test_the_post_processor_keeps_thresholds_in_buffers() -> None:
    post_processor = PostProcessor()
    buffers = dict(post_processor.named_buffers())
    assert {"_image_threshold", "_pixel_threshold"} <= set(buffers)
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


def test_a_validation_can_be_run_from_a_hook_and_a_training_saved_without_waiting() -> None:
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    assert callable(trainer.fit_loop.epoch_loop.val_loop.run)
    assert callable(trainer.fit_loop.epoch_loop.val_loop.batch_progress.reset)
    assert callable(trainer._checkpoint_connector.dump_checkpoint)
    assert callable(trainer.strategy.reduce_boolean_decision)


def test_a_trainer_has_a_folder_and_its_strategy_a_layer_that_synchronises_normalisation() -> None:
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    assert trainer._default_root_dir == trainer.default_root_dir
    strategy = Trainer(accelerator="cpu", devices=2, strategy="ddp", sync_batchnorm=True, logger=False).strategy
    assert strategy._layer_sync is not None


def test_a_checkpoint_callback_knows_the_step_of_its_last_file() -> None:
    assert ModelCheckpoint()._last_global_step_saved == 0


def test_a_module_without_a_trainer_has_none() -> None:
    assert LightningModule()._trainer is None


def test_the_engine_asks_for_the_trainer_arguments_once_a_command() -> None:
    commands = (Engine.fit, Engine.train, Engine.test, Engine.validate, Engine.predict, Engine.export)
    assert all("self._setup_trainer(model)" in inspect.getsource(command) for command in commands)
    assert "requires_update(model)" in inspect.getsource(Engine._setup_trainer)


def test_a_module_under_import_says_so_in_its_spec() -> None:
    assert "_initializing" in inspect.getsource(importlib._bootstrap)


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
