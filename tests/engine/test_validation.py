"""TEST.VALIDATION_LOSS: what the numbers are, and that a run is the same with them."""

import copy
import json
import logging
from statistics import fmean

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage

from tests.engine.tiny import picture, tiny_config, train_on
from tests.engine.tiny_family import CONFIGS
from tests.engine.tiny_retinanet import retinanet_config
from vfnet.data import build_validation_loader
from vfnet.data.datasets.shapes import load_shapes
from vfnet.data.stream import seeded_generators
from vfnet.engine import Trainer
from vfnet.engine.validation import mean_losses, validation_losses

PICTURES = [picture(1), picture(2, num_boxes=2), picture(3, num_boxes=0)]
ON = ("TEST.VALIDATION_LOSS", "True", "DATASETS.TEST", "('three',)")
ALL = {"vfnet": tiny_config, **CONFIGS}


@pytest.fixture(autouse=True)
def three_shapes():
    for name in ("three", "other"):
        DatasetCatalog.register(name, lambda: load_shapes("val")[:3])
        MetadataCatalog.get(name).set(thing_classes=["circle", "square", "triangle"])


def model_of(cfg):
    torch.manual_seed(0)
    return build_model(cfg).train()


def losses_in_training(model, item):
    """The losses of a batch of one picture, by a copy in train mode."""
    with EventStorage(), seeded_generators((0,)), torch.no_grad():
        return {name: float(value) for name, value in copy.deepcopy(model)([item]).items()}


@pytest.mark.parametrize("name", ALL)
def test_a_loss_is_the_mean_of_the_training_losses_of_each_picture_alone(tmp_path, name):
    model = model_of(ALL[name](tmp_path))
    each = [losses_in_training(model, item) for item in PICTURES]
    before = copy.deepcopy(model.state_dict())
    found, count = mean_losses(model, [[item] for item in PICTURES])
    assert count == 3
    total = found.pop("total_loss")
    assert found.keys() == each[0].keys()
    for loss, value in found.items():
        assert value == pytest.approx(fmean(losses[loss] for losses in each), rel=1e-5)
    assert total == pytest.approx(sum(found.values()), rel=1e-12)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_a_moving_average_neither_moves_nor_divides(tmp_path):
    key = "MODEL.RETINANET.LOSS_NORMALIZER"
    moving, own = (model_of(retinanet_config(tmp_path, key, kind)) for kind in ("ema", "positives"))
    moving.normaliser.average.fill_(7.0)
    batches = [[item] for item in PICTURES]
    assert mean_losses(moving, batches) == mean_losses(own, batches)
    assert moving.normaliser.average == 7


def test_detectron2s_own_retinanet_forgets_what_it_counted(tmp_path):
    model = model_of(retinanet_config(tmp_path, "MODEL.META_ARCHITECTURE", "RetinaNet"))
    model.loss_normalizer = 50.0
    batches = [[item] for item in PICTURES]
    found, _ = mean_losses(model, batches)
    assert mean_losses(model, batches[::-1])[0] == pytest.approx(found, rel=1e-12)
    assert model.loss_normalizer == 50


def test_norms_stand_still_and_normalise_as_in_inference(tmp_path):
    cfg = tiny_config(tmp_path, "MODEL.RESNETS.NORM_EVAL", "False", "VIS_PERIOD", "1")
    model = model_of(cfg)
    mode = [module.training for module in model.modules()]
    assert any(m.training for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d))
    before, drawn = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    found, _ = mean_losses(model, [[item] for item in PICTURES])
    assert [module.training for module in model.modules()] == mode
    assert torch.equal(torch.get_rng_state(), drawn)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    still = model_of(tiny_config(tmp_path))
    assert mean_losses(still, [[item] for item in PICTURES])[0] == found


def test_test_pictures_have_the_ground_truth_of_training(tmp_path):
    def crowded():
        records = load_shapes("val")[:2]
        records[0]["annotations"][0]["iscrowd"] = 1
        del records[1]["annotations"]
        return records

    DatasetCatalog.register("crowded", crowded)
    objects = len(load_shapes("val")[0]["annotations"])
    first, second = (item for (item,) in build_validation_loader(tiny_config(tmp_path), "crowded"))
    assert (len(first["instances"]), len(second["instances"])) == (objects - 1, 0)
    assert min(first["image"].shape[1:]) == 96  # INPUT.MIN_SIZE_TEST


def test_without_annotations_there_is_none_and_one_line(tmp_path, caplog):
    DatasetCatalog.register(
        "bare", lambda: [{**record, "annotations": []} for record in load_shapes("val")[:2]]
    )
    cfg = tiny_config(tmp_path)
    with caplog.at_level(logging.INFO):
        assert validation_losses(cfg, model_of(cfg), "bare") == {}
    (line,) = [record.message for record in caplog.records if "validation" in record.message]
    assert line == "bare has no annotations, so it has no validation loss"


def test_a_run_is_the_same_with_them_and_they_are_written(tmp_path):
    batches = [[picture(seed)] for seed in (1, 2, 3)]
    period = ("TEST.EVAL_PERIOD", "1", "SEED", "1", "MODEL.RESNETS.NORM_EVAL", "False")
    plain = train_on(tiny_config(tmp_path / "plain", *period), *batches)
    cfg = tiny_config(tmp_path / "with", *period, *ON, "SOLVER.EMA.ENABLED", "True")
    trainer = train_on(cfg, *batches)
    for one, other in zip(plain.model.state_dict().values(), trainer.model.state_dict().values()):
        assert torch.equal(one, other)
    written = [json.loads(line) for line in (tmp_path / "with" / "metrics.json").open()][-1]
    losses = {name: value for name, value in written.items() if name.startswith("validation/")}
    expected = validation_losses(cfg, trainer.model, "three")
    assert losses == {f"validation/{name}": value for name, value in expected.items()}
    assert len(losses) == 4 and "ema/validation/total_loss" in written


def test_with_several_test_sets_each_has_its_own(tmp_path):
    cfg = tiny_config(tmp_path, *ON, "DATASETS.TEST", "('three', 'other')")
    model = model_of(cfg)
    results = Trainer.test(cfg, model)
    expected = validation_losses(cfg, model, "three")
    assert results["three"]["validation"] == results["other"]["validation"] == expected
    assert "AP" in results["three"]["bbox"]
