"""vfnet.predictor.Predictor: mixed sizes in batches, what it takes, what it keeps."""

import numpy as np
import pytest
import torch
from PIL import Image

from tests.minis import mini_config
from vfnet.errors import UserError
from vfnet.predictor import Predictor, build_predictor

SIZES = [(90, 120), (64, 64), (88, 118), (120, 90), (90, 120)]


@pytest.fixture(scope="module")
def cfg():
    from tests.conftest import REPOSITORY

    cfg = mini_config(REPOSITORY / "tests" / "reference", "mini_r50")
    cfg.MODEL.DEVICE = "cpu"
    cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST = 72, 200
    cfg.MODEL.VFNET.CLASS_NAMES = [f"thing {i}" for i in range(cfg.MODEL.VFNET.NUM_CLASSES)]
    return cfg


@pytest.fixture(scope="module")
def pictures():
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (*size, 3), dtype=np.uint8) for size in SIZES]


def test_batches_of_mixed_sizes_give_what_each_picture_gives_alone(cfg, pictures):
    alone = build_predictor(cfg)
    seen = []
    predictor = Predictor(None, cfg, batch_size=2)
    predictor._model.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    found = predictor(pictures)
    assert sorted(seen) == [1, 2, 2]
    for picture, result in zip(pictures, found):
        expected, instances = alone(picture)["instances"], result["instances"]
        assert len(instances) == len(expected) > 0
        assert instances.image_size == picture.shape[:2]
        torch.testing.assert_close(instances.scores, expected.scores)
        torch.testing.assert_close(
            instances.pred_boxes.tensor, expected.pred_boxes.tensor, rtol=1e-5, atol=1e-3
        )


def test_paths_arrays_and_pil_images_give_the_same(cfg, pictures, tmp_path):
    predictor = Predictor(None, cfg)
    image = Image.fromarray(pictures[0][:, :, ::-1])
    image.save(tmp_path / "a.png")
    path = tmp_path / "a.png"
    results = [predictor(given)["instances"] for given in (pictures[0], image, path, str(path))]
    for result in results:
        assert torch.equal(result.pred_boxes.tensor, results[0].pred_boxes.tensor)
    names = [name for name, _ in predictor.stream([path, image, pictures[0]])]
    assert names == [str(path), "1", "2"]
