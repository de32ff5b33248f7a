"""Other ways to run a model: they are taken, and their detections are compared."""

from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances

from lib.models import Subject, Workload
from lib.runs import Bench
from lib.timing import Stopwatch
from lib.variants import (
    CUDA_GRAPHS,
    Agreement,
    CapturedGraph,
    agreement,
    check_variant,
)
from vfnet import get_cfg
from vfnet.errors import UserError

TINY = str(Path(__file__).parents[2] / "engine" / "tiny.yaml")
WORKLOAD = Workload(TINY, image_size=(64, 96), boxes=4, candidates=500)


def detections(boxes, classes, scores):
    found = Instances((100, 100))
    found.pred_boxes = Boxes(torch.tensor(boxes).view(-1, 4))
    found.pred_classes = torch.tensor(classes, dtype=torch.int64)
    found.scores = torch.tensor(scores)
    return found


def test_partners_are_the_nearest_boxes_of_the_same_class():
    expected = detections(
        [[0.0, 0, 10, 10], [50, 50, 60, 60], [0, 0, 10, 10], [20, 20, 30, 30]],
        [0, 0, 1, 1],
        [0.9, 0.8, 0.7, 0.6],
    )
    found = detections(
        # Swapped ranks; the last one of class 1 is more than a pixel off.
        [[50.0, 50.25, 60, 60], [0, 0, 10, 10], [0.5, 0, 10, 10], [20, 20, 30, 31.5]],
        [0, 0, 1, 1],
        [0.8, 0.9, 0.675, 0.6],
    )
    result = agreement([expected], [found])
    assert result[:3] == (4, 4, 3)
    assert result.box == pytest.approx(0.5)
    assert result.score == pytest.approx(0.025)
    none = detections([], [], [])
    assert agreement([none, expected], [expected, none]) == Agreement(4, 4, 0, 0.0, 0.0)


def test_a_box_is_the_partner_of_one_and_nan_of_none():
    box = [0.0, 0, 10, 10]
    expected = detections([box, [0.0, 0, 10, 10.5]], [0, 0], [0.9, 0.8])
    one = detections([box], [0], [0.9])
    assert agreement([expected], [one])[:3] == (2, 1, 1)
    assert agreement([one], [expected])[:3] == (1, 2, 1)
    nan = detections([[float("nan")] * 4], [0], [0.9])
    assert agreement([one], [nan])[:3] == (1, 1, 0)


@pytest.mark.parametrize("config", ["tiny", "dcn"])
def test_backbone_and_head_are_one_graph_each(config):
    cfg = get_cfg()
    cfg.merge_from_file(TINY)
    if config == "dcn":
        cfg.MODEL.RESNETS.DEPTH = 50
        cfg.MODEL.RESNETS.WIDTH_PER_GROUP = 4
        cfg.MODEL.RESNETS.DEFORM_ON_PER_STAGE = [False, True, True, True]
        cfg.MODEL.RESNETS.DEFORM_MODULATED = True
        cfg.MODEL.VFNET.DEFORM_LAST_CONV = True
    model = build_model(cfg).eval()
    images = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        features = list(model.backbone(images).values())
        expected = model.head(features)
        # "fullgraph" raises where Python would have to take over.
        backbone, head = (
            torch.compile(part, backend="eager", fullgraph=True)
            for part in (model.backbone, model.head)
        )
        actual = head(list(backbone(images).values()))
    for name in ("logits", "distances", "refined_distances"):
        left, right = getattr(actual, name), getattr(expected, name)
        assert len(left) == len(right) == 5
        for level, reference in zip(left, right):
            torch.testing.assert_close(level, reference, rtol=1e-4, atol=1e-4)


def test_a_variant_is_compared_with_the_plain_model(monkeypatch):
    def differs(variant, model, images, precision):
        assert images.shape == (1, 3, 64, 96)
        torch.nn.init.zeros_(model.head.cls_pred.weight)

    monkeypatch.setattr("lib.runs.apply_variant", differs)
    found = Bench(Subject("vfnet", "worse"), WORKLOAD).agreement
    assert found.expected > 5
    assert found.matched < found.expected
    assert Bench(Subject("vfnet"), WORKLOAD).agreement is None


def test_a_compiled_model_is_timed_part_by_part_in_bfloat16():
    bench = Bench(Subject("vfnet", "eager"), WORKLOAD._replace(precision=torch.bfloat16))
    assert bench.agreement.matched == bench.agreement.expected > 5
    watch = Stopwatch()
    bench.inference_parts(watch)
    assert list(watch.seconds) == ["preprocessing", "backbone and neck", "head", "post-processing"]


def test_names_of_ways_are_checked():
    check_variant("inductor", "cpu")
    check_variant(CUDA_GRAPHS, "cuda:1")
    with pytest.raises(UserError, match="needs --device cuda, got --device cpu"):
        check_variant(CUDA_GRAPHS, "cpu")
    with pytest.raises(UserError, match=r"one of .*inductor.*; got 'tensorrt9'"):
        check_variant("tensorrt9", "cpu")


class Recorded:
    """What a CUDA graph does, without one: it computes anew from the tensors of the capture."""

    def __init__(self, function, example):
        self.function, self.example = function, example
        self.output = None

    def replay(self):
        self.output.copy_(self.function(self.example))


def test_a_graph_reads_what_it_is_given_and_refuses_other_sizes(monkeypatch):
    def twice_the_sum(tensors):
        return 2 * (tensors[0] + tensors[1])

    example = [torch.ones(3), torch.ones(3)]
    captured = object.__new__(CapturedGraph)
    captured.inputs = example
    captured.graph = Recorded(twice_the_sum, example)
    captured.output = captured.graph.output = twice_the_sum(example)
    assert captured([torch.full((3,), 2.0), example[1]]).tolist() == [6.0] * 3
    with pytest.raises(UserError, match=r"captured for tensors of \(3,\), got \(4,\)"):
        captured([torch.ones(4), example[1]])
