"""What the scripts about loading measure."""

import json

import numpy as np
import pytest

from benchmarks import loader, planes
from lib.loading import LOADING, profile_loading
from lib.pictures import LONG_EDGE, SHORT_EDGE, write_coco_like
from vfnet.data import register_coco_format
from vfnet.engine import load_config


def test_drawn_pictures_are_of_cocos_kind(tmp_path):
    content = json.loads(write_coco_like(tmp_path, 16).read_text())
    sizes = [(image["width"], image["height"]) for image in content["images"]]
    assert sizes.count((LONG_EDGE, SHORT_EDGE)) == 12
    assert sizes.count((SHORT_EDGE, LONG_EDGE)) == 4
    files = [(tmp_path / image["file_name"]).stat().st_size for image in content["images"]]
    assert 140e3 < sum(files) / len(files) < 180e3
    assert 5 < len(content["annotations"]) / 16 < 10
    for annotation in content["annotations"]:
        width, height = sizes[annotation["image_id"] - 1]
        x, y, w, h = annotation["bbox"]
        assert x >= 0 and y >= 0 and x + w <= width + 1e-6 and y + h <= height + 1e-6
        xs, ys = annotation["segmentation"][0][::2], annotation["segmentation"][0][1::2]
        assert min(xs) >= x - 0.01 and max(ys) <= y + h + 0.01


def test_the_parts_of_loading_add_up_to_an_image(repository):
    path = str(repository / "tests" / "engine" / "tiny.yaml")
    cfgs = {way: load_config(path, ["INPUT.RESIZE", way]) for way in ("pil", "cv2")}
    for cfg in cfgs.values():
        register_coco_format(cfg)
    samples = profile_loading(cfgs, images=3)
    assert list(samples) == ["pil", "cv2"]
    for parts in samples.values():
        assert list(parts) == [*LOADING, "an image"]
        for number, whole in enumerate(parts["an image"]):
            assert whole == pytest.approx(sum(parts[part][number] for part in LOADING))
            assert min(parts[part][number] for part in LOADING) > 0


def test_the_loaders_table(tmp_path, capsys):
    path = tmp_path / "out.json"
    words = ["--drawn", "4", "--batches", "1", "--workers", "0", "--repeats", "1"]
    loader.main(
        [*words, "--profiled", "2", "--json", str(path), "--opts", "SOLVER.IMS_PER_BATCH", "2"]
    )
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    first = [line.split("|")[1].strip() for line in lines]
    rates = ["pil, an image", "pil, images a second", "cv2, an image", "cv2, images a second"]
    assert first[2:6] == rates
    assert first[8:] == [*LOADING, "an image"]
    content = json.loads(path.read_text())
    assert list(content["results"]["0 workers"]) == rates
    assert len(content["parts"]["samples"]["cv2"]["resize and flip"]) == 2


def test_both_ways_to_planes_agree_and_are_timed(tmp_path, capsys):
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    for view in (picture, np.flip(picture, axis=1)):
        assert np.array_equal(planes.transposed(view), planes.split(view))
    path = tmp_path / "out.json"
    planes.main(["--size", "5x7", "--repeats", "1", "--json", str(path)])
    assert "| flipped, time |" in capsys.readouterr().out
    assert list(json.loads(path.read_text())["results"]) == ["transposed", "split"]
