"""VIS_PERIOD: what is drawn, when, and that the run is the one without pictures."""

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage, TensorboardXWriter, get_event_storage

from tests.engine.tiny import picture, tiny_config, train_on
from tests.engine.tiny_family import CONFIGS
from vfnet.data import register_test_sets
from vfnet.engine import Trainer, check_run
from vfnet.engine.hooks.pictures import TestPictures, TrainingPictures, class_names_of_run
from vfnet.errors import UserError

BATCHES = [[picture(seed), picture(seed + 10)] for seed in (1, 2, 3)]
SCORED = ("DATASETS.TEST", "('shapes_val',)", "TEST.EVAL_PERIOD", "2", "INPUT.MIN_SIZE_TEST", "32")


@pytest.fixture
def drawn(monkeypatch):
    """What reaches TensorBoard: (name, iteration) -> (3, H, W)."""
    pictures = {}

    write = TensorboardXWriter.write

    def write_and_keep(writer):
        for name, image, iteration in get_event_storage()._vis_data:
            pictures[name, iteration] = image
        write(writer)

    monkeypatch.setattr(TensorboardXWriter, "write", write_and_keep)
    return pictures


@pytest.mark.parametrize("detector", ["vfnet", *CONFIGS])
def test_pictures_are_drawn_and_weights_are_those_of_a_run_without(detector, tmp_path, drawn):
    make = CONFIGS.get(detector, tiny_config)
    quick = ("SOLVER.WARMUP_ITERS", "0", "SEED", "1", "MODEL.RESNETS.NORM_EVAL", "False")
    plain = train_on(make(tmp_path / "plain", *quick), *BATCHES)
    assert not drawn
    pictured = train_on(make(tmp_path / "pictured", *quick, "VIS_PERIOD", "2"), *BATCHES)
    # As Detectron2's own detectors: at iterations 0, 2, ...
    ours = {key for key in drawn if key[0].startswith("training/")}
    assert ours == {(f"training/{index}", i) for index in (0, 1) for i in (0, 2)}
    assert all(image.shape == (3, 96, 2 * 128 + 4) for key, image in drawn.items() if key in ours)
    one, other = plain.model.state_dict(), pictured.model.state_dict()
    assert one.keys() == other.keys()
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    assert pictured.model.training


def test_test_pictures_are_the_same_at_each_evaluation_and_change_nothing(
    tmp_path, drawn, monkeypatch
):
    monkeypatch.setattr(Trainer, "test", lambda *_: {})  # which is not what is looked at
    plain = train_on(tiny_config(tmp_path / "plain", *SCORED, "SEED", "1"), *BATCHES)
    cfg = tiny_config(tmp_path / "run", *SCORED, "SEED", "1", "VIS_PERIOD", "100")
    pictured = train_on(cfg, *BATCHES)
    names = [f"test/{index}" for index in range(4)]
    # After 2 iterations, and at the end, when the storage counts 3.
    assert {key for key in drawn if key[0].startswith("test/")} == {
        (name, i) for name in names for i in (1, 3)
    }
    for name in names:
        half = (drawn[name, 1].shape[2] - 4) // 2
        # The ground truth is the left half.
        np.testing.assert_array_equal(drawn[name, 1][:, :, :half], drawn[name, 3][:, :, :half])
    one, other = plain.model.state_dict(), pictured.model.state_dict()
    assert all(torch.equal(value, other[name]) for name, value in one.items())


class Finds(torch.nn.Module):
    """Finds one object, and says what it was given."""

    def forward(self, batch):
        if self.training:
            return {"loss": torch.zeros(())}
        self.given = batch
        found = Instances((60, 80))
        found.pred_boxes = Boxes(torch.tensor([[40.0, 20.0, 70.0, 50.0]]))
        found.scores, found.pred_classes = torch.tensor([0.5]), torch.tensor([1])
        return [{"instances": found} for _ in batch]


def grey(value=200):
    instances = Instances((60, 80))
    instances.gt_boxes = Boxes(torch.tensor([[10.0, 10.0, 30.0, 40.0]]))
    instances.gt_classes = torch.tensor([0])
    image = torch.full((3, 60, 80), value, dtype=torch.uint8)
    image[0] = 100
    return {"image": image, "instances": instances, "height": 600, "width": 800}


class AtTheFirst:
    iter = 0


def test_left_is_the_truth_right_the_prediction_in_the_pixels_of_the_input():
    model, batch = Finds(), [grey()]
    hook = TrainingPictures(model, 1, "BGR", ["a", "b"])
    hook.trainer = AtTheFirst()
    with EventStorage() as storage:
        hook.before_step()
        model(batch)
        hook.after_step()
        ((_, image, _),) = storage._vis_data
    assert model.given == [{"image": batch[0]["image"]}]
    left, right = image[:, :, :80], image[:, :, 84:]
    plain = np.array([200, 200, 100], np.uint8)[:, None, None]  # BGR became RGB
    changed = [np.nonzero((half != plain).any(axis=0)) for half in (left, right)]
    # Edges of boxes, and labels beside them.
    assert {10, 30} <= set(changed[0][1]) and 70 not in changed[0][1]
    assert {40, 69} <= set(changed[1][1]) and 10 not in changed[1][1]
    assert model.training and not model._forward_pre_hooks


def test_names_are_the_configs_the_datas_or_numbers(tmp_path):
    assert class_names_of_run(tiny_config(tmp_path)) == ["circle", "square", "triangle"]
    numbered = tiny_config(tmp_path, "DATASETS.TRAIN", "()")
    assert class_names_of_run(numbered) == ["0", "1", "2"]
    own = tiny_config(tmp_path, "MODEL.VFNET.CLASS_NAMES", "['x', 'y', 'z']")
    assert class_names_of_run(own) == ["x", "y", "z"]


def test_a_test_set_without_annotations_is_drawn_too(tmp_path):
    records = [{k: v for k, v in r.items() if k != "annotations"} for r in some_shapes()]
    DatasetCatalog.register("unannotated", lambda: records)
    cfg = tiny_config(tmp_path, "DATASETS.TEST", "('unannotated',)")
    with EventStorage() as storage:
        TestPictures(cfg, Finds())()
        assert [name for name, *_ in storage._vis_data] == ["test/0", "test/1"]


def test_a_bad_test_picture_is_left_out(tmp_path, make_coco):
    file, _ = make_coco("cells")
    (file.parent / "2.png").write_bytes(b"no picture")
    cfg = tiny_config(
        tmp_path,
        *("DATASETS.COCO_FORMAT", str([["cells", str(file), str(file.parent)]])),
        *("DATASETS.TEST", "('cells',)", "DATASETS.ON_BAD_IMAGE", "skip"),
        *("MODEL.VFNET.NUM_CLASSES", "2"),
    )
    register_test_sets(cfg)
    with EventStorage() as storage:
        TestPictures(cfg, Finds())()
        assert [name for name, *_ in storage._vis_data] == ["test/0", "test/2", "test/3"]


def some_shapes():
    return DatasetCatalog.get("shapes_val")[:2]


def test_a_negative_period_is_refused(tmp_path):
    with pytest.raises(UserError, match="VIS_PERIOD .* got -1"):
        check_run(tiny_config(tmp_path, "VIS_PERIOD", "-1"), [], "", training=True)
