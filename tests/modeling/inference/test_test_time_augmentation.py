"""Test-time augmentation: views, the way back to the original image, one suppression for all."""

import cv2
import numpy as np
import pytest
import torch
from detectron2.evaluation.evaluator import inference_context
from detectron2.structures import Boxes, Instances
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from tests.modeling.inference.tta_views import augmented_model, pil_resized, with_tta
from vfnet import get_cfg
from vfnet.data.transforms.views import build_resizes
from vfnet.engine import load_config
from vfnet.errors import UserError
from vfnet.modeling.inference.candidates import Candidates
from vfnet.modeling.inference.test_time_augmentation import to_original


class Stub(nn.Module):
    """A model whose candidates of each view are given, by the order in which views come."""

    def __init__(self, *candidates):
        super().__init__()
        self.candidates_of_views = list(candidates)
        self.views = []

    def find_candidates(self, items):
        (item,) = items  # more than one view at a time needs more memory
        self.views.append(item["image"])
        boxes, scores = self.candidates_of_views[len(self.views) - 1]
        boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
        return [Candidates(boxes, torch.tensor(scores), torch.zeros(len(boxes), dtype=torch.int64))]

    def suppress(self, candidates, image_size):
        return Instances(
            image_size,
            pred_boxes=Boxes(candidates.boxes),
            scores=candidates.scores,
            pred_classes=candidates.classes,
        )


def noise(height, width, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)


def test_views_and_boxes_by_hand():
    box = [3.0, 4.0, 9.0, 10.0]
    stub = Stub(([box], [0.9]), ([box], [0.8]), ([box], [0.7]), ([box], [0.6])).eval()
    image = noise(40, 60)
    model = augmented_model(with_tta(get_cfg(), [20, 60], flip=True), stub)
    (result,) = model([{"image": image, "height": 40, "width": 60}])
    half, larger = pil_resized(image, 20, 30), pil_resized(image, 60, 90)
    expected_views = [half, half.flip(2), larger, larger.flip(2)]
    assert all(torch.equal(view, own) for view, own in zip(stub.views, expected_views))
    # Times 2 and times 2 / 3; mirrored, x becomes 30 - x and 90 - x first.
    assert result["instances"].pred_boxes.tensor.tolist() == [
        pytest.approx([6, 8, 18, 20]),
        pytest.approx([42, 8, 54, 20]),
        pytest.approx([2, 8 / 3, 6, 20 / 3]),
        pytest.approx([54, 8 / 3, 58, 20 / 3]),
    ]
    assert result["instances"].scores.tolist() == pytest.approx([0.9, 0.8, 0.7, 0.6])


def test_each_axis_has_its_own_scale():
    # 333 / 200 is 1.665, 500 / 300 is 1.667.
    candidates = Candidates(torch.tensor([[60.0, 50, 120, 100]]), torch.ones(1), torch.zeros(1))
    sizes = (200, 300), (333, 500)
    boxes = to_original(candidates, *sizes, mirrored=False).boxes[0].tolist()
    assert boxes == pytest.approx([100, 83.25, 200, 166.5])
    boxes = to_original(candidates, *sizes, mirrored=True).boxes[0].tolist()
    assert boxes == pytest.approx([300, 83.25, 400, 166.5])


def test_boxes_are_clipped_to_the_original_image_and_empty_ones_dropped():
    stub = Stub(([[-5.0, 2, 50, 90], [10, 4, 10, 9]], [0.9, 0.8])).eval()
    (result,) = augmented_model(with_tta(get_cfg(), [0]), stub)([{"image": noise(30, 40)}])
    assert result["instances"].image_size == (30, 40)
    assert result["instances"].pred_boxes.tensor.tolist() == [[0, 2, 40, 30]]


def test_the_scales_of_the_reference(repository):
    cfg = load_config(str(repository / "configs" / "tta" / "vfnet_R50_1x_tta.yaml"))
    assert cfg.TEST.AUG.ENABLED and cfg.TEST.AUG.FLIP

    def sizes(height, width):
        image = np.zeros((height, width, 3), np.uint8)
        transforms = [resize.get_transform(image) for resize in build_resizes(cfg)]
        return [transform.apply_image(image).shape[:2] for transform in transforms]

    assert sizes(480, 640) == [(800, 1067), (900, 1200), (1000, 1333), (1200, 1600)]
    # Here the longer side is what binds: times 4/3, 13/9, 5/3, 16/9.
    assert sizes(300, 900) == [(400, 1200), (433, 1300), (500, 1500), (533, 1600)]


def test_views_are_resized_as_the_config_says():
    stub = Stub(([], []), ([], [])).eval()
    augmented_model(with_tta(get_cfg(), [20], resize="cv2"), stub)([{"image": noise(41, 60)}])
    expected = cv2.resize(noise(41, 60).permute(1, 2, 0).numpy(), (29, 20))
    assert torch.equal(stub.views[0], torch.from_numpy(expected).permute(2, 0, 1))


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"min_sizes": []}, "MIN_SIZES is empty"),
        (
            {"min_sizes": [20, 40], "max_sizes": [50]},
            "MAX_SIZES has 1 lengths, but MIN_SIZES has 2",
        ),
        ({"min_sizes": [-1]}, r"got \[-1\]"),
        ({"min_sizes": [20], "max_size": 0}, r"got \[20\] and \[0\]"),
        ({"min_sizes": [20.5]}, "whole pixels"),
        ({"min_sizes": [20], "resize": "bicubic"}, "INPUT.RESIZE"),
    ],
)
def test_bad_sizes_are_named(changes, message):
    with pytest.raises(UserError, match=message):
        augmented_model(with_tta(get_cfg(), **changes), Stub())


def test_training_mode_is_refused_and_given_back():
    model = Stub(([], [])).train()
    augmented = augmented_model(with_tta(get_cfg(), [0]), model)
    with pytest.raises(UserError, match="evaluation mode"):
        augmented([{"image": noise(8, 8)}])
    with inference_context(augmented):
        assert not model.training
    assert model.training
    model.eval()
    with inference_context(augmented_model(with_tta(get_cfg(), [0]), model)):
        pass
    assert not model.training


def test_a_model_wrapped_for_several_processes():
    store = distributed.HashStore()
    distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        model = Stub()
        model.layer = nn.Linear(1, 1)
        wrapped = DistributedDataParallel(model)
        assert augmented_model(with_tta(get_cfg(), [0]), wrapped).model is model
    finally:
        distributed.destroy_process_group()
