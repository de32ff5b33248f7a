"""vfnet.predictor: its pixels, its names, batches of mixed sizes, and what it is given."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from detectron2.config import get_cfg as get_detectron2_cfg
from detectron2.data import MetadataCatalog
from detectron2.engine import DefaultPredictor
from PIL import Image

from tests.evaluation.coco_files import write_coco
from tests.minis import mini_config
from vfnet import get_cfg
from vfnet.errors import UserError
from vfnet.predictor import Predictor, build_predictor, load_prediction_config

REFERENCE = Path(__file__).resolve().parent / "reference"


@pytest.mark.parametrize("resize", ["pil", "cv2"])
def test_the_predictor_resizes_as_the_config_says(repository, resize):
    reference = repository / "tests" / "reference"
    cfg = get_cfg()
    cfg.merge_from_file(str(reference / "mini_r50.yaml"))
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.WEIGHTS = f"mmdet://{reference / 'mini_r50.pth'}"
    cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST, cfg.INPUT.RESIZE = 72, 200, resize
    predictor = build_predictor(cfg)
    bgr = np.random.RandomState(0).randint(0, 256, (90, 120, 3), dtype=np.uint8)
    # 90 x 120 becomes 72 x 96.
    rgb = np.ascontiguousarray(bgr[:, :, ::-1])
    if resize == "pil":
        resized = np.asarray(Image.fromarray(rgb).resize((96, 72), Image.BILINEAR))
    else:
        resized = cv2.resize(rgb, (96, 72), interpolation=cv2.INTER_LINEAR)
    pixels = torch.from_numpy(resized.transpose(2, 0, 1).astype(np.float32))
    with torch.no_grad():
        (expected,) = predictor.model([{"image": pixels, "height": 90, "width": 120}])
    found = predictor(bgr)["instances"]
    assert len(found) > 0
    assert torch.equal(found.scores, expected["instances"].scores)
    assert torch.equal(found.pred_boxes.tensor, expected["instances"].pred_boxes.tensor)


def dumped_config(repository, folder):
    """Write what a training run far away left: no weights and no data here."""
    cfg = get_cfg()
    cfg.merge_from_file(str(repository / "tests" / "reference" / "mini_r50.yaml"))
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = ("far_train",), ("far_val",)
    cfg.MODEL.VFNET.CLASS_NAMES = [f"thing {i}" for i in range(cfg.MODEL.VFNET.NUM_CLASSES)]
    cfg.MODEL.DEVICE, cfg.MODEL.WEIGHTS = "cpu", ""
    (folder / "config.yaml").write_text(cfg.dump())
    return str(folder / "config.yaml"), cfg.MODEL.VFNET.CLASS_NAMES


def test_after_a_config_is_loaded_sahi_finds_the_class_names(repository, tmp_path):
    """As SAHI does: Detectron2's own config and predictor, and names of DATASETS.TRAIN[0]."""
    config, names = dumped_config(repository, tmp_path)
    load_prediction_config(config)
    cfg = get_detectron2_cfg()
    cfg.set_new_allowed(True)
    cfg.merge_from_file(config)
    predictor = DefaultPredictor(cfg)
    assert MetadataCatalog.get(cfg.DATASETS.TRAIN[0]).thing_classes == names
    assert predictor.metadata.thing_classes == names


def test_a_predictor_of_a_config_made_by_hand_has_the_class_names(repository, tmp_path):
    config, names = dumped_config(repository, tmp_path)
    cfg = get_cfg()
    cfg.merge_from_file(config)
    cfg.MODEL.WEIGHTS = f"mmdet://{repository / 'tests' / 'reference' / 'mini_r50.pth'}"
    assert build_predictor(cfg).metadata.thing_classes == names


# The first three and the other two are padded to one size each.
SIZES = [(90, 120), (64, 64), (88, 118), (120, 90), (90, 120)]


@pytest.fixture(scope="module")
def cfg():
    cfg = mini_config(REFERENCE, "mini_r50")
    cfg.MODEL.DEVICE = "cpu"
    cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST, cfg.INPUT.RESIZE = 72, 200, "cv2"
    cfg.MODEL.VFNET.CLASS_NAMES = [f"thing {i}" for i in range(cfg.MODEL.VFNET.NUM_CLASSES)]
    return cfg


@pytest.fixture(scope="module")
def predictor(cfg):
    return Predictor(None, cfg, batch_size=2)


@pytest.fixture(scope="module")
def pictures():
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (*size, 3), dtype=np.uint8) for size in SIZES]


def assert_same(found, expected):
    """Equal but for the rounding of float32 sums in another order, boxes of some 100 pixels."""
    assert len(found) == len(expected) > 0
    assert found.image_size == expected.image_size
    assert torch.equal(found.pred_classes, expected.pred_classes)
    torch.testing.assert_close(found.scores, expected.scores, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        found.pred_boxes.tensor, expected.pred_boxes.tensor, rtol=1e-4, atol=1e-2
    )


def test_batches_of_mixed_sizes_give_what_each_picture_gives_alone(cfg, predictor, pictures):
    seen = []
    hook = predictor._model.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    found = predictor(pictures)
    hook.remove()
    assert sorted(seen) == [1, 2, 2]
    alone = build_predictor(cfg)
    for picture, result in zip(pictures, found):
        assert_same(result["instances"], alone(picture)["instances"])
        assert result["instances"].image_size == picture.shape[:2]


def test_ids_of_the_data_set_are_read_when_they_are_asked_for(cfg, predictor, tmp_path):
    assert predictor.category_ids is None  # of no data set
    json_file = tmp_path / "images.json"
    json_file.write_text("{")
    cfg = cfg.clone()
    cfg.DATASETS.COCO_FORMAT = [["ids_of_things", str(json_file), str(tmp_path)]]
    cfg.DATASETS.TEST = ("ids_of_things",)
    late = Predictor(None, cfg)
    names = cfg.MODEL.VFNET.CLASS_NAMES
    write_coco(tmp_path, [], [(10 + 3 * i, name) for i, name in enumerate(names)])
    assert late.category_ids == [10, 13, 16, 19, 22]


def test_paths_arrays_and_pil_images_give_the_same(predictor, pictures, tmp_path):
    image, path = Image.fromarray(pictures[0][:, :, ::-1]), tmp_path / "a.png"
    image.save(path)
    results = [predictor(given)["instances"] for given in (pictures[0], image, path, str(path))]
    for result in results:
        assert torch.equal(result.pred_boxes.tensor, results[0].pred_boxes.tensor)


def test_files_and_pil_images_are_turned_upright(predictor, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: turn by 90 degrees
    Image.new("RGB", (96, 64)).save(tmp_path / "turned.jpg", exif=exif)
    given = [tmp_path / "turned.jpg", Image.open(tmp_path / "turned.jpg")]
    assert [r["instances"].image_size for r in predictor(given)] == [(96, 64)] * 2


def test_stream_names_what_it_predicts_on_in_order(predictor, pictures, tmp_path):
    for name, picture in zip("abc", pictures):
        cv2.imwrite(str(tmp_path / f"{name}.png"), picture)
    (tmp_path / "b.png").write_text("no picture")
    skipped = []
    stream = predictor.stream(
        [tmp_path, pictures[0]], skip=lambda name, error: skipped.append(name)
    )
    found = dict(stream)
    assert list(found) == [str(tmp_path / "a.png"), str(tmp_path / "c.png"), "3"]
    assert skipped == [str(tmp_path / "b.png")]
    assert_same(found["3"]["instances"], predictor(pictures[0])["instances"])
    with pytest.raises(UserError, match="b.png"):
        list(predictor.stream(tmp_path))


def test_threshold_classes_and_number_keep_the_best_of_what_is_chosen(cfg, pictures):
    everything = Predictor(None, cfg)(pictures[0])["instances"]
    counts = everything.pred_classes.bincount()
    chosen, threshold = int(counts.argmax()), float(everything.scores.median())
    given = {"classes": [f"thing {chosen}"], "max_detections": 2}
    few = Predictor(None, cfg, confidence_threshold=threshold, **given)(pictures[0])["instances"]
    kept = (everything.pred_classes == chosen) & (everything.scores >= threshold)
    expected = everything[kept][:2]
    assert 0 < len(expected) < len(everything)
    assert_same(few, expected)


def test_views_of_test_time_augmentation_are_looked_at(cfg, predictor, pictures):
    overrides = ["TEST.AUG.ENABLED", True, "TEST.AUG.MIN_SIZES", (72,), "TEST.AUG.MAX_SIZE", 200]
    one_view = Predictor(None, cfg, overrides=[*overrides, "TEST.AUG.FLIP", False], batch_size=2)
    assert_same(one_view(pictures)[0]["instances"], predictor(pictures[0])["instances"])


def test_the_config_beside_the_weights_is_taken(predictor, cfg, pictures, tmp_path):
    torch.save({"model": predictor._model.state_dict()}, tmp_path / "model.pth")
    with pytest.raises(UserError, match="config.yaml is not there"):
        Predictor(tmp_path / "model.pth")
    (tmp_path / "config.yaml").write_text(cfg.dump())
    found = Predictor(tmp_path / "model.pth")(pictures[0])
    assert_same(found["instances"], predictor(pictures[0])["instances"])


@pytest.mark.parametrize(
    "picture, message",
    [
        (None, "got None, which cv2.imread gives"),
        (np.zeros((8, 8), np.uint8), r"got the shape \(8, 8\)"),
        (np.zeros((8, 8, 4), np.uint8), r"got the shape \(8, 8, 4\)"),
        (np.zeros((8, 8, 3), np.float32), "got float32"),
        (np.zeros((8, 0, 3), np.uint8), "got an empty one"),
        (7, "got int"),
        ("no/such.jpg", "no/such.jpg"),
        (Image.fromarray(np.zeros((8, 8), np.uint16)), "mode I;16"),
    ],
)
def test_what_is_no_picture_is_named(predictor, picture, message):
    with pytest.raises(UserError, match=message):
        predictor(picture)


def test_detectron2s_predictor_names_what_is_no_picture(cfg):
    with pytest.raises(UserError, match="got None"):
        build_predictor(cfg)(None)


@pytest.mark.parametrize(
    "given, message",
    [
        ({"confidence_threshold": 1.5}, "from 0 to 1, got 1.5"),
        ({"max_detections": 0}, "max_detections of at least 1, got 0"),
        ({"batch_size": 0}, "batch_size of at least 1, got 0"),
        ({"classes": ["thin 1"]}, "got 'thin 1'; there are thing 1"),
        ({"classes": [99]}, "its id from 0 to"),
        ({"overrides": ["MODEL.NO_SUCH", 1]}, "NO_SUCH does not exist"),
    ],
)
def test_settings_that_cannot_be_are_named(cfg, given, message):
    with pytest.raises(UserError, match=message):
        Predictor(None, cfg, **given)


@pytest.mark.parametrize(
    "weights, config, message",
    [
        (None, None, "got neither"),
        ("mmdet://somewhere.pth", None, "expected a config for mmdet://somewhere.pth"),
        ("vfnet://no_such", None, "no_such"),
        ("no_such.pth", None, "a file of weights, but no_such.pth is not there.*vfnet://NAME"),
        ("tests", None, "a file of weights, but tests is a folder"),
        ("detector.onnx", "config.yaml", "leave the config out"),
    ],
)
def test_weights_and_configs_that_do_not_go_together_are_named(weights, config, message):
    with pytest.raises(UserError, match=message):
        Predictor(weights, config)
