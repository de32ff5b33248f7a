import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from detectron2.structures import Boxes, BoxMode, Instances

from tests.engine.tiny import tiny_config
from vfnet.errors import UserError
from vfnet.inspection.unlearned import assign_boxes


def record(*boxes, width=320, height=240):
    annotations = [
        {"bbox": list(box), "bbox_mode": BoxMode.XYWH_ABS, "category_id": 0, "iscrowd": 0}
        for box in boxes
    ]
    return {"file_name": "a", "width": width, "height": height, "annotations": annotations}


@pytest.fixture
def config(tmp_path):
    def make(*overrides):
        sizes = ("INPUT.MIN_SIZE_TRAIN", "(240,)", "INPUT.MAX_SIZE_TRAIN", "400")
        return tiny_config(tmp_path, *sizes, *overrides)

    return make


def test_a_box_that_holds_no_location_is_not_learned(config):
    # Strides from 8 on: locations stand at multiples of 8, and this box lies between them.
    (found,) = assign_boxes(config(), [record((9, 9, 6, 6), (40, 40, 64, 64))])
    assert found.is_learned.tolist() == [False, True]
    assert found.sides.tolist() == [6, 64] and found.short_edge == 240


def test_sides_are_those_of_the_resized_picture(config):
    cfg = config("INPUT.MIN_SIZE_TRAIN", "(480, 240, 360)", "INPUT.MAX_SIZE_TRAIN", "10000")
    small, large = assign_boxes(cfg, [record((9, 9, 6, 6))])
    assert (small.short_edge, large.short_edge) == (240, 480)
    assert small.sides.tolist() == [6] and large.sides.tolist() == [12]
    # Twice as large it reaches from 18 to 30, around the location at 24.
    assert [small.is_learned.tolist(), large.is_learned.tolist()] == [[False], [True]]


@pytest.mark.parametrize("resize", ["pil", "cv2"])
def test_a_picture_is_resized_as_the_config_says(config, resize):
    cfg = config("INPUT.RESIZE", resize, "INPUT.MIN_SIZE_TRAIN", "(60,)")
    (found,) = assign_boxes(cfg, [record((40, 40, 64, 64))])
    assert found.sides.tolist() == [16] and found.is_learned.tolist() == [True]


def test_crowds_and_empty_pictures_play_no_part(config):
    crowd = record((9, 9, 6, 6))
    crowd["annotations"][0]["iscrowd"] = 1
    (found,) = assign_boxes(config(), [record(), crowd, record((40, 40, 64, 64))])
    assert found.is_learned.tolist() == [True]


@pytest.mark.parametrize("count", [1, 70])
def test_it_is_what_the_detector_counts_in_training(config, count):
    cfg = config()
    rng = np.random.RandomState(1)
    records = [
        record(*np.concatenate([rng.rand(9, 2) * 180, rng.rand(9, 2) * 40 + 2], axis=1))
        for _ in range(count)
    ]
    (found,) = assign_boxes(cfg, records)
    model = build_model(cfg)
    missed = 0
    for item in records:
        boxes = torch.tensor([a["bbox"] for a in item["annotations"]])
        boxes[:, 2:] += boxes[:, :2]
        gt = Instances(
            (240, 320), gt_boxes=Boxes(boxes), gt_classes=torch.zeros(9, dtype=torch.int64)
        )
        images = model.preprocess_image([{"image": torch.zeros(3, 240, 320)}])
        features = [
            images.tensor.new_zeros(1, 1, -(-256 // s), -(-320 // s)) for s in model.strides
        ]
        missed += int(model.assign(images, features, None, [gt]).gts_without_positive)
    assert (~found.is_learned).sum() == missed and len(found.is_learned) == 9 * count
    assert 0 < missed < 9 * count


def test_another_detector_is_refused(config):
    with pytest.raises(UserError, match="QualityRetinaNet does not assign boxes to locations"):
        assign_boxes(config("MODEL.META_ARCHITECTURE", "QualityRetinaNet"), [record((1, 1, 5, 5))])
