"""Other ways to run a whole detector in inference: in half precision, and traced."""

import pytest
import torch
from detectron2.modeling import build_model

from tests.minis import load_mini, model_input
from vfnet.errors import UserError


@pytest.fixture
def mini_r50(repository):
    return load_mini(repository / "tests" / "reference", "mini_r50")


def test_inference_in_bfloat16_is_inference_under_autocast_and_training_stays(mini_r50):
    model, expected, cfg = mini_r50
    cfg.MODEL.VFNET.PRECISION_TEST = "bfloat16"
    half = build_model(cfg)
    half.load_state_dict(model.state_dict())
    batch = [model_input(expected["image_bgr"], expected["gt_boxes"], expected["gt_classes"])]
    assert half.train()(batch) == model.train()(batch)

    half.eval(), model.eval()
    with torch.no_grad():
        found = half(batch)[0]["instances"]
        *_, predictions = half.predict(batch)
        exact = model(batch)[0]["instances"]
        with torch.autocast("cpu", torch.bfloat16):
            wanted = model(batch)[0]["instances"]
    assert predictions.logits[0].dtype == torch.bfloat16
    assert torch.equal(found.pred_boxes.tensor, wanted.pred_boxes.tensor)
    assert torch.equal(found.scores, wanted.scores)
    assert found.scores.dtype == found.pred_boxes.tensor.dtype == torch.float32
    assert not torch.equal(found.scores, exact.scores)
    torch.testing.assert_close(found.scores, exact.scores, rtol=0.05, atol=0.01)


@pytest.mark.parametrize("name, message", [("float16", "needs a GPU"), ("half", "one of float32")])
def test_a_precision_that_inference_cannot_have_is_an_error(mini_r50, name, message):
    _, _, cfg = mini_r50
    cfg.MODEL.VFNET.PRECISION_TEST = name
    with pytest.raises(UserError, match=f"MODEL.VFNET.PRECISION_TEST.*{message}"):
        build_model(cfg)


def test_a_traced_detector_finds_the_same_at_other_sizes(mini_r50):
    model, expected, _ = mini_r50
    model.eval().requires_grad_(False)

    def detect(image):
        found = model([{"image": image}])[0]["instances"]
        return found.pred_boxes.tensor, found.scores, found.pred_classes

    image = expected["image_bgr"].flip(0).float()
    with torch.no_grad():
        traced = torch.jit.trace(detect, (image[:, :128, :160],), check_trace=False)
        for picture in (image, image[:, :160, :224]):
            actual, wanted = traced(picture), detect(picture)
            assert len(wanted[0]) > 10
            assert wanted[0][:, 2].max() > 170  # clipped to this picture, not the traced one
            torch.testing.assert_close(actual, wanted, rtol=1e-3, atol=1e-2)
