"""The command `train_net.py`: scores on slices beside the plain scores."""

import json

import pytest
import torch
from detectron2.modeling import build_model
from PIL import Image

from tests.engine.tiny import CONFIG, tiny_config
from tests.extras import needs
from vfnet.errors import UserError

pytestmark = needs("sahi")

RESULTS = "coco_instances_results.json"


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    """Weights of the tiny detector, and three pictures to score it on."""
    folder = tmp_path_factory.mktemp("own")
    torch.manual_seed(0)
    torch.save({"model": build_model(tiny_config(folder)).state_dict()}, folder / "model.pth")
    pixels = torch.randint(0, 256, (3, 96, 128, 3), dtype=torch.uint8).numpy()
    images = [
        {"id": n, "file_name": f"{n}.png", "width": 128, "height": 96} for n in range(len(pixels))
    ]
    for image, picture in zip(images, pixels):
        Image.fromarray(picture).save(folder / image["file_name"])
    box = {"bbox": [20, 20, 40, 40], "area": 1600, "iscrowd": 0, "category_id": 1}
    content = {
        "images": images,
        "annotations": [{"id": n + 1, "image_id": n, **box} for n in range(len(images))],
        "categories": [{"id": n, "name": f"thing {n}"} for n in (1, 2, 3)],
    }
    (folder / "own.json").write_text(json.dumps(content))
    return (
        *("--eval-only", "MODEL.WEIGHTS", folder / "model.pth"),
        *("DATASETS.COCO_FORMAT", [["own_slices", str(folder / "own.json"), str(folder)]]),
        *("DATASETS.TEST", "('own_slices',)", "MODEL.VFNET.SCORE_THRESH_TEST", "0.0"),
        *("TEST.DETECTIONS_PER_IMAGE", "20", "TEST.SLICE.SIZE", "64"),
    )


def detections(folder):
    return json.loads((folder / RESULTS).read_text())


def test_one_process_and_two_score_the_same_slices(command, words, tmp_path):
    expected = [["bbox", "AP", 50.0, 50.0], ["bbox_slices", "AP", 50.0, 50.0]]  # 0 to 100
    for processes in (1, 2):
        done = command(
            *("--num-gpus", processes, "--dist-url", "auto", *words),
            *("OUTPUT_DIR", tmp_path / str(processes), "TEST.EXPECTED_RESULTS", expected),
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Results verification passed" in done.stdout
    one, two = tmp_path / "1", tmp_path / "2"
    assert {found["image_id"] for found in detections(one / "inference_slices")} == {0, 1, 2}
    assert detections(one / "inference_slices") == detections(two / "inference_slices")
    assert detections(one / "inference_slices") != detections(one / "inference")
    assert len(detections(one / "inference_slices")) == 3 * 20


def test_values_that_cannot_be_are_found_before_anything_is_written(train_net, words, tmp_path):
    pairs = [*map(str, words), "TEST.SLICE.OVERLAP", "1.0", "OUTPUT_DIR", str(tmp_path / "out")]
    with pytest.raises(UserError, match="TEST.SLICE: expected an overlap of slices"):
        train_net.setup(train_net.parse_args(["--config-file", str(CONFIG), *pairs]))
    assert not (tmp_path / "out").exists()
