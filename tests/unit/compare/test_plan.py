import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from anomalib.data import AnomalibDataModule, Folder
from anomalib.models import AnomalibModule, list_models
from jsonargparse import Namespace
from PIL import Image

from anomalib_dmdd import Dmdd
from anomalib_dmdd.compare.command import parse
from anomalib_dmdd.compare.plan import (
    PUBLISHED,
    Run,
    SettingsError,
    build,
    known,
    plan,
    read_entry,
)

MakeRun = Callable[..., Run]
MakeSettings = Callable[..., Namespace]


def test_grid_has_every_combination_once(make_settings: MakeSettings) -> None:
    runs = plan(make_settings(["Padim", "Patchcore"], **{"data.category": ["bolt", "nut"]}, seeds=[0, 1, 2]))
    assert len(runs) == 2 * 2 * 3
    assert len({run.id for run in runs}) == 12
    assert {(run.label, run.category, run.seed) for run in runs} == {
        (model, category, seed) for model in ("Padim", "Patchcore") for category in ("bolt", "nut") for seed in range(3)
    }
    assert [run.label for run in runs[:2]] == ["Padim", "Patchcore"], "the models of one category follow each other"


def test_all_models_get_the_same_images(make_settings: MakeSettings) -> None:
    padim, patchcore = plan(make_settings(["Padim", "Patchcore"]))
    assert padim.data == patchcore.data
    assert padim.data["init_args"]["seed"] == 0, "a random split must not depend on the model"


def test_arguments_that_are_classes_can_be_written_down(make_settings: MakeSettings) -> None:
    jitter = {"class_path": "torchvision.transforms.v2.ColorJitter", "init_args": {"brightness": 0.1}}
    smooth = {"class_path": "anomalib_dmdd.models.base.DistillationPostProcessor", "init_args": {"sigma": 2.0}}
    settings = make_settings(
        [{"class_path": "Dmdd", "init_args": {"pre_trained": False, "backbone": "resnet18", "post_processor": smooth}}]
    )
    settings.data.init_args["train_augmentations"] = {
        "class_path": "torchvision.transforms.v2.Compose",
        "init_args": {"transforms": [jitter]},
    }

    (run,) = plan(settings)

    assert Run(**json.loads(json.dumps(asdict(run)))) == run
    assert build(AnomalibDataModule, run.data).train_augmentations.transforms[0].brightness
    model = build(AnomalibModule, run.model)
    assert isinstance(model, Dmdd)
    assert model.post_processor.sigma == 2.0


def test_names_and_class_paths_are_the_same_model(make_settings: MakeSettings) -> None:
    ids = {plan(make_settings([name]))[0].id for name in ("Padim", "padim", "anomalib.models.Padim")}
    assert len(ids) == 1
    ours = {plan(make_settings([name]))[0].id for name in ("Dmdd", "anomalib_dmdd.Dmdd")}
    assert len(ours) == 1


def test_backbones_only_for_models_that_have_one(make_settings: MakeSettings) -> None:
    runs = plan(make_settings(["Padim", "EfficientAd"], backbones=["resnet18", "resnet34"]))
    assert [run.label for run in runs] == ["Padim resnet18", "Padim resnet34", "EfficientAd"]
    assert [run.model["init_args"].get("backbone") for run in runs] == ["resnet18", "resnet34", None]


def test_published_settings_fill_what_is_not_said(make_settings: MakeSettings) -> None:
    (plain,) = plan(make_settings(["ReverseDistillation"]))
    assert plain.trainer == {"max_epochs": 200}
    assert plain.data["init_args"]["train_batch_size"] == 16
    entry = {"class_path": "ReverseDistillation", "trainer": {"max_epochs": 3}, "init_args": {"backbone": "resnet18"}}
    (own,) = plan(make_settings([entry]))
    assert own.trainer == {"max_epochs": 3}
    (steps,) = plan(make_settings([{**entry, "trainer": {"max_steps": 3, "precision": "bf16-mixed"}}]))
    assert steps.trainer == {"max_steps": 3, "precision": "bf16-mixed"}, "not the published epochs, too"
    assert own.model["init_args"]["backbone"] == "resnet18"
    (capped,) = plan(make_settings([{"class_path": "Stfpm", "trainer": {"min_epochs": 2}}]))
    assert capped.trainer == {"max_epochs": 100, "min_epochs": 2}
    (for_all,) = plan(make_settings([entry], trainer={"max_steps": 5}, init_args={"train_batch_size": 2}))
    assert for_all.trainer == {"max_steps": 5}, "a length for all models replaces that of one"
    assert for_all.data["init_args"]["train_batch_size"] == 2


def test_a_category_counts_once(make_settings: MakeSettings) -> None:
    runs = plan(make_settings(["Padim"], **{"data.category": ["bolt", "nut", "bolt"]}))
    assert [run.category for run in runs] == ["bolt", "nut"]


def test_published_settings_fit_the_models() -> None:
    for name, settings in PUBLISHED.items():
        read_entry(AnomalibModule, name, settings.get("init_args", {}))
        assert set(settings) <= {"init_args", "trainer", "train_batch_size"}


@pytest.mark.parametrize(
    ("models", "changes", "message"),
    [
        (["Patchcor"], {}, r"Did you mean Patchcore\? Known: .*Dmdd.*Patchcore"),
        (["no_such_package.Model"], {}, "No module named 'no_such_package'"),
        (["anomalib.models.NoSuchModel"], {}, "no attribute 'NoSuchModel'"),
        (["pathlib.Path"], {}, "not correspond to a subclass of AnomalibModule"),
        ([{"class_path": "Padim", "init_args": {"backbon": "resnet18"}}], {}, "backbon.*\n.*backbone"),
        ([{"class_path": "Padim", "init_args": {"pre_trained": "perhaps"}}], {}, "pre_trained"),
        ([{"class_path": "Padim", "epochs": 3}], {}, "may have init_args"),
        ([{"init_args": {}}], {}, "needs class_path"),
        (["Padim", "padim"], {}, "called Padim"),
        (["Padim"], {"data.category": ["bold"]}, "no category 'bold'. Known: bolt, bottle.*nut"),
        (["Padim"], {"init_args": {"rooot": "x"}}, "rooot"),
        (["Padim"], {"trainer": {"max_step": 3}}, "max_step.*max_steps"),
        (["Padim"], {"trainer": {"logger": True}}, "logger"),
    ],
)
def test_mistakes_are_named_before_anything_runs(
    make_settings: MakeSettings, models: list[Any], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingsError, match=f"(?s){message}"):
        plan(make_settings(models, **changes))


def test_unknown_data_module_and_accelerator(make_settings: MakeSettings) -> None:
    with pytest.raises(SettingsError, match="Did you mean MVTec"):
        plan(make_settings(["Padim"], **{"data.class_path": "MVTek"}))
    with pytest.raises(SettingsError, match="DemoParts has no categories"):
        plan(make_settings(["Padim"], **{"data.class_path": "DemoParts", "data.init_args": {}}))
    with pytest.raises(SettingsError, match="--accelerator abacus"):
        plan(make_settings(["Padim"], accelerator="abacus"))


def test_own_folder_without_categories(make_settings: MakeSettings, tmp_path: Path) -> None:
    for name in range(8):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{name}.png")
    init_args = {"name": "parts", "normal_dir": str(tmp_path)}
    data = {"data.class_path": "Folder", "data.category": None, "data.init_args": init_args}
    (run,) = plan(make_settings(["Padim"], **data))
    assert run.category == "parts"


def test_changed_images_make_another_run(make_settings: MakeSettings, tmp_path: Path) -> None:
    settings = make_settings(["Padim"], **{"data.category": ["bolt", "nut"]})
    folder = tmp_path / "parts" / "bolt"
    bolt, nut = plan(settings)
    assert plan(settings) == [bolt, nut]
    Image.new("RGB", (9, 9), "red").save(folder / "train" / "good" / "0.png")
    replaced, other = plan(settings)
    Image.new("RGB", (8, 8)).save(folder / "test" / "good" / "1.png")
    added, _ = plan(settings)
    (folder / "test" / "scratch").mkdir()
    (folder / "test" / "good" / "1.png").rename(folder / "test" / "scratch" / "1.png")
    mask = folder / "ground_truth" / "scratch" / "1_mask.png"
    mask.parent.mkdir(parents=True)
    Image.new("L", (8, 8), 255).save(mask)
    labelled, _ = plan(settings)
    assert len({bolt.id, replaced.id, added.id, labelled.id}) == 4
    assert other == nut


@pytest.fixture
def folder(make_settings: MakeSettings, tmp_path: Path) -> Callable[..., str]:
    """Version of the images of a Folder of twelve good ones, without compression."""
    (tmp_path / "good").mkdir()
    for name in range(12):
        Image.new("RGB", (64, 64)).save(tmp_path / "good" / f"{name}.bmp")

    def version(root: Path = tmp_path, **init_args: object) -> str:
        arguments = {"name": "bolts", "normal_dir": "good", "root": str(root), **init_args}
        data = {"data.class_path": "Folder", "data.category": None, "init_args": arguments}
        (run,) = plan(make_settings(["Padim"], **data))
        return run.images

    return version


@pytest.mark.parametrize("settings", [{}, {"test_split_mode": "synthetic"}, {"val_split_mode": "synthetic"}])
def test_images_behind_a_split_count_but_not_simulated_ones(
    folder: Callable[..., str], tmp_path: Path, settings: dict[str, str]
) -> None:
    first = folder(**settings)
    assert folder(**settings) == first
    for path in sorted((tmp_path / "good").iterdir()):
        before = path.read_bytes()
        path.write_bytes(before[:-1] + bytes([before[-1] ^ 255]))  # one value in a corner
        assert folder(**settings) != first, path.name
        path.write_bytes(before)
    assert folder(**settings) == first


def test_the_place_of_the_folder_does_not_count(folder: Callable[..., str], tmp_path: Path) -> None:
    shutil.copytree(tmp_path / "good", tmp_path / "elsewhere" / "good")
    assert folder() == folder(tmp_path / "elsewhere")


class NeedsTrainer(Folder):
    """Asks its trainer while it is set up."""

    def _setup(self, stage: str | None = None) -> None:
        assert self.trainer.world_size
        super()._setup(stage)


def test_a_data_module_that_needs_a_trainer_is_planned_without_a_version(folder: Callable[..., str]) -> None:
    assert folder()
    names = {"name": "bolts", "normal_dir": "good"}
    settings = parse(["--models", "Padim", "--data", f"{__name__}.NeedsTrainer"])
    settings.data.init_args = names
    (run,) = plan(settings)
    assert run.images == ""


class Broken(Folder):
    """Asks for something of its own that does not exist."""

    def _setup(self, stage: str | None = None) -> None:
        assert self.missing
        super()._setup(stage)


def test_a_fault_of_a_data_module_is_not_taken_for_a_missing_trainer(folder: Callable[..., str]) -> None:
    assert folder()
    settings = parse(["--models", "Padim", "--data", f"{__name__}.Broken"])
    settings.data.init_args = {"name": "bolts", "normal_dir": "good"}
    with pytest.raises(SettingsError, match=r"Broken: .*'missing'"):
        plan(settings)


def test_masks_that_do_not_match_are_named(folder: Callable[..., str], tmp_path: Path) -> None:
    for name, file in (("bad", "0.png"), ("masks", "other.png")):
        (tmp_path / name).mkdir()
        Image.new("L", (8, 8), 255).save(tmp_path / name / file)
    with pytest.raises(SettingsError, match=r"Folder: .*[Mm]ask"):
        folder(abnormal_dir="bad", mask_dir="masks")


def test_a_folder_without_images_is_named(make_settings: MakeSettings, tmp_path: Path) -> None:
    settings = make_settings(["Padim"])
    for path in (tmp_path / "parts" / "bolt").rglob("*.png"):
        path.unlink()
    with pytest.raises(SettingsError, match="parts/bolt"):
        plan(settings)


def test_known_names_are_those_of_anomalib() -> None:
    assert list_models("pascal") <= set(known(AnomalibModule))
    assert {"MVTec", "DemoParts", "Folder", "Visa"} <= set(known(AnomalibDataModule))


def test_id_follows_every_setting_but_the_label(make_run: MakeRun) -> None:
    run = make_run()
    assert replace(run, label="other").id == run.id
    changes = {
        "model": {"class_path": run.model["class_path"], "init_args": {"backbone": "resnet34"}},
        "data": {"class_path": "MVTec", "init_args": {"category": "bolt", "train_batch_size": 4}},
        "category": "nut",
        "images": "76543210",
        "seed": 1,
        "trainer": {"max_steps": 3},
        "image_size": 128,
        "accelerator": "gpu",
        "threads": 3,
        "openvino": [],
        "timed_passes": 6,
        "code": "0123456789ab+1a2b3c4d",
    }
    ids = {replace(run, **{name: value}).id for name, value in changes.items()}
    assert len(ids | {run.id}) == len(changes) + 1
