"""Models that are fit to be timed, and runs that compute what the model computes."""

import itertools
from pathlib import Path

import pytest
import torch
from detectron2.utils.events import EventStorage

from lib.models import Subject, Workload, build_batch, build_detector, features_of
from lib.runs import Bench
from lib.timing import Stopwatch
from vfnet.errors import UserError
from vfnet.modeling.inference.views import as_view_detector

TINY = str(Path(__file__).parents[2] / "engine" / "tiny.yaml")
WORKLOAD = Workload(TINY, image_size=(96, 128), batch=2, boxes=4, candidates=50)


def test_random_weights_let_as_many_candidates_pass_as_asked_for():
    model = build_detector("vfnet", WORKLOAD)
    batch = build_batch(WORKLOAD)
    with torch.no_grad():
        features = features_of(model, batch)
        found = model.candidates(model.preprocess_image(batch), features, model.head(features))
    # The last one lies on the threshold itself; clipped boxes may be empty.
    assert 95 <= sum(len(candidates.boxes) for candidates in found) <= 100
    assert torch.cat([candidates.classes for candidates in found]).unique().numel() == 3


@pytest.mark.parametrize("name", ["tiny_retinanet", "tiny_libra"])
def test_detectors_of_other_kinds_have_candidates_and_runs(name):
    workload = WORKLOAD._replace(config_file=TINY.replace("tiny", name))
    bench = Bench(Subject("vfnet"), workload)
    views = as_view_detector(bench.model.eval())
    with torch.no_grad():
        found = views.find_candidates(bench.batch)
    # Those of both pictures; clipped boxes may be empty.
    assert 90 <= sum(len(candidates.boxes) for candidates in found) <= 100
    bench.model.train()
    before = {name: tensor.clone() for name, tensor in bench.model.state_dict().items()}
    with EventStorage():
        torch.manual_seed(0)
        losses = bench.losses(Stopwatch())
        bench.model.load_state_dict(before)  # Libra's sampler remembers
        torch.manual_seed(0)
        expected = bench.model(bench.batch)
    assert list(losses) == list(expected)
    for loss, value in expected.items():
        assert losses[loss].item() == pytest.approx(value.item(), rel=1e-5)
    for phase in ("inference", "training"):
        for run in bench.runs(phase).values():
            run(Stopwatch())


def test_the_inside_of_two_stages_is_not_compiled():
    workload = WORKLOAD._replace(config_file=TINY.replace("tiny", "tiny_libra"))
    with pytest.raises(UserError, match="expect a dense detector.*got GeneralizedRCNN"):
        Bench(Subject("vfnet", "eager"), workload)


@pytest.mark.parametrize("name", ["retinanet", "fcos"])
def test_baselines_have_the_same_classes_candidates_and_runs(name):
    workload = WORKLOAD._replace(batch=1)
    bench = Bench(Subject(name), workload)
    model = bench.model
    assert model.num_classes == 3
    with torch.no_grad():
        features = features_of(model, bench.batch)
        model.max_detections_per_image = 1000
        model.test_nms_thresh = 1.0
        images = model.preprocess_image(bench.batch)
        (found,) = model.forward_inference(images, features, model.head(features))
    assert 45 <= len(found) <= 50
    watch = Stopwatch()
    for run in (bench.inference_parts, bench.training_parts, bench.training_step):
        run(watch)
    assert {"assignment and losses", "backward", "whole training step"} <= set(watch.seconds)


def test_parts_compute_what_the_model_computes_and_change_nothing():
    bench = Bench(Subject("vfnet"), WORKLOAD)
    bench.model.train()
    before = {name: tensor.clone() for name, tensor in bench.model.state_dict().items()}
    with EventStorage():
        losses, expected = bench.losses(Stopwatch()), bench.model(bench.batch)
    assert list(losses) == list(expected)
    for name, loss in losses.items():
        assert loss.item() == pytest.approx(expected[name].item(), rel=1e-6)
    for run in itertools.chain(
        *(bench.runs(phase).values() for phase in ("inference", "training"))
    ):
        run(Stopwatch())
    for name, tensor in bench.model.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert not any(module._forward_hooks for module in bench.model.modules())


def test_parts_are_timed_in_bfloat16_too():
    bench = Bench(Subject("vfnet"), WORKLOAD._replace(precision=torch.bfloat16))
    seen = []
    bench.model.head.cls_pred.register_forward_hook(lambda *call: seen.append(call[2].dtype))
    for phase in ("inference", "training"):
        for run in bench.runs(phase).values():
            run(Stopwatch())
    assert set(seen) == {torch.bfloat16}
