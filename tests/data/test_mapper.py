import itertools

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, DatasetMapper
from detectron2.data import transforms as T
from detectron2.structures import BoxMode
from PIL import Image

import vfnet
from vfnet.data import build_mapper, build_train_loader, register_coco_format
from vfnet.data.datasets.shapes import load_shapes
from vfnet.data.mapper import CheckedDatasetMapper, boxes_of
from vfnet.data.transforms.crop import CropWithBox
from vfnet.data.transforms.cutout import RandomCutout
from vfnet.data.transforms.resize import (
    MmcvResizeShortestEdge,
    PilResizeShortestEdge,
    ResizeBothEdges,
)
from vfnet.errors import UserError


def make_config(resize="pil"):
    cfg = vfnet.get_cfg()
    cfg.INPUT.RESIZE = resize
    cfg.INPUT.FORMAT = "RGB"
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MAX_SIZE_TRAIN = (128,), 256
    cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST = 128, 256
    return cfg


def augmented_config(resize="pil"):
    """All augmentations of VFNet-X, at sizes of small pictures."""
    cfg = make_config(resize)
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING = (80, 160), "range"
    cfg.INPUT.MAX_SIZE_TRAIN_RANGE = (120, 240)
    cfg.INPUT.CROP.ENABLED, cfg.INPUT.CROP.SIZE = True, [0.75, 0.75]
    cfg.INPUT.CROP.PROBABILITY = 0.5
    cfg.INPUT.CUTOUT.ENABLED = True
    return cfg


def kinds(mapper):
    """Classes of the augmentations; of those with a probability, what is applied."""
    augmentations = mapper.augmentations.augs
    return [type(a.aug if isinstance(a, T.RandomApply) else a) for a in augmentations]


def map_white(tmp_path, augmentations, annotations=()):
    """Map a white 60x40 picture (width x height) with the given augmentations."""
    file = tmp_path / "white.png"
    Image.fromarray(np.full((40, 60, 3), 255, np.uint8)).save(file)
    record = {"file_name": str(file), "width": 60, "height": 40, "annotations": list(annotations)}
    return CheckedDatasetMapper(True, augmentations=augmentations, image_format="RGB")(record)


def annotation(box, mode=BoxMode.XYXY_ABS, **more):
    return {"bbox": box, "bbox_mode": mode, "category_id": 0, **more}


def test_pil_is_detectron2s_mapper():
    cfg = make_config()
    record = load_shapes("train")[0]
    np.random.seed(3)
    ours = build_mapper(cfg, True)(record)
    np.random.seed(3)
    theirs = DatasetMapper(cfg, True)(record)
    assert (ours["image"] == theirs["image"]).all()
    boxes = ours["instances"].gt_boxes.tensor, theirs["instances"].gt_boxes.tensor
    assert (boxes[0] == boxes[1]).all() and len(boxes[0]) == len(record["annotations"])


def test_cv2_replaces_only_the_resizing():
    assert kinds(build_mapper(make_config(), True)) == [PilResizeShortestEdge, T.RandomFlip]
    cfg = make_config("cv2")
    assert kinds(build_mapper(cfg, True)) == [MmcvResizeShortestEdge, T.RandomFlip]
    assert kinds(build_mapper(cfg, False)) == [MmcvResizeShortestEdge]


@pytest.mark.parametrize("style", ["choice", "range"])
def test_cv2_keeps_lengths_and_style(style):
    cfg = make_config("cv2")
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING = (100, 120), style
    resize = build_mapper(cfg, True).augmentations.augs[0]
    assert tuple(resize.short_edge_length) == (100, 120)
    assert (resize.max_size, resize.sample_style) == (256, style)


def test_cv2_resizes_picture_and_boxes():
    record = load_shapes("train")[0]
    cfg = make_config("cv2")
    cfg.INPUT.RANDOM_FLIP = "none"
    mapped = build_mapper(cfg, True)(record)
    scale = 128 / min(record["width"], record["height"])
    assert min(mapped["image"].shape[1:]) == 128
    expected = np.array([a["bbox"] for a in record["annotations"]]) * scale
    np.testing.assert_allclose(mapped["instances"].gt_boxes.tensor, expected, atol=0.5)


def test_test_mapper_keeps_the_original_size_beside_the_picture():
    record = load_shapes("val")[0]
    mapped = build_mapper(make_config("cv2"), False)(record)
    assert (mapped["height"], mapped["width"]) == (record["height"], record["width"])
    assert "instances" not in mapped and min(mapped["image"].shape[1:]) == 128


def test_another_resizing_is_an_error():
    with pytest.raises(UserError, match='INPUT.RESIZE has to be "pil" or "cv2"; got \'bicubic\''):
        build_mapper(make_config("bicubic"), True)


@pytest.mark.parametrize("resize", ["pil", "cv2"])
def test_training_crops_resizes_cuts_out_and_flips_in_this_order(resize):
    mapper = build_mapper(augmented_config(resize), True)
    assert kinds(mapper) == [CropWithBox, ResizeBothEdges, RandomCutout, T.RandomFlip]


@pytest.mark.parametrize("resize", ["pil", "cv2"])
def test_test_images_know_nothing_of_the_augmentations(resize):
    record = load_shapes("val")[0]
    plain = build_mapper(make_config(resize), False)
    augmented = build_mapper(augmented_config(resize), False)
    assert kinds(augmented) == kinds(plain) and len(kinds(plain)) == 1
    assert (augmented(record)["image"] == plain(record)["image"]).all()


def test_vfnetx_builds_what_was_published():
    mapper = build_mapper(vfnet.model_zoo.get_config("vfnetx_R2_101_59e.yaml"), True)
    crop, resize, cutout, flip = mapper.augmentations.augs
    assert (crop.prob, crop.aug.crop.crop_type) == (0.5, "relative_range")
    assert tuple(crop.aug.crop.crop_size) == (0.75, 0.75)
    assert tuple(resize.short_edge_length) == (500, 1400)
    assert (resize.sample_style, tuple(resize.long_edge_range)) == ("range", (750, 2100))
    assert (cutout.prob, tuple(cutout.aug.num_holes), len(cutout.aug.sizes)) == (0.5, (5, 10), 13)
    assert isinstance(flip, T.RandomFlip) and flip.horizontal


def test_boxes_of_a_crop_by_hand(tmp_path):
    boxes = [
        [12, 22, 30, 36],  # inside
        [0, 0, 20, 24],  # cut to 10x4: its centre lies outside, it stays
        [30, 30, 60, 40],  # cut to 20x6
        [0, 0, 10, 40],  # touches: dropped
        [51, 0, 60, 40],  # beside: dropped
    ]
    crop = T.CropTransform(10, 20, 40, 16)
    mapped = map_white(tmp_path, [crop], [annotation(box) for box in boxes])
    assert mapped["image"].shape == (3, 16, 40)
    expected = [[2, 2, 20, 16], [0, 0, 10, 4], [20, 10, 40, 16]]
    assert mapped["instances"].gt_boxes.tensor.tolist() == expected


def test_augmentations_that_ask_get_the_boxes_as_they_are_by_then(tmp_path):
    seen = []

    class Ask(T.Augmentation):
        def get_transform(self, image, boxes):
            seen.append((image.shape[:2], boxes.tolist()))
            return T.NoOpTransform()

    annotations = [
        annotation([10, 10, 20, 10], BoxMode.XYWH_ABS),
        annotation([0, 0, 60, 40], iscrowd=1),
        annotation([30, 20, 50, 40]),
    ]
    map_white(tmp_path, [Ask(), T.Resize((80, 120)), Ask()], annotations)
    assert seen == [
        ((40, 60), [[10, 10, 30, 20], [30, 20, 50, 40]]),
        ((80, 120), [[20, 20, 60, 40], [60, 40, 100, 80]]),
    ]


def test_boxes_of_no_annotation_are_none():
    assert boxes_of([]).shape == boxes_of([annotation([0, 0, 1, 1], iscrowd=1)]).shape == (0, 4)


def test_holes_are_black_pixels_of_the_resized_picture_and_leave_boxes_alone(tmp_path):
    np.random.seed(0)
    augmentations = [T.Resize((400, 600)), RandomCutout((1, 1), [(1, 1)]), T.RandomFlip()]
    for _ in range(20):
        mapped = map_white(tmp_path, augmentations, [annotation([0, 0, 60, 40])])
        image = mapped["image"].numpy()
        assert set(np.unique(image)) == {0, 255} and (image == image[:1]).all()
        assert (image[0] == 0).sum() == 1
        assert mapped["instances"].gt_boxes.tensor.tolist() == [[0, 0, 600, 400]]


@pytest.mark.parametrize("resize", ["pil", "cv2"])
def test_real_pictures_meet_a_bound_and_keep_a_box(shared, resize):
    folder = shared / "data" / "bccd"
    cfg = augmented_config(resize)
    cfg.DATASETS.COCO_FORMAT = [["cells", str(folder / "val.json"), str(folder / "images")]]
    register_coco_format(cfg)
    mapper = build_mapper(cfg, True)
    np.random.seed(0)
    sizes = set()
    for record in DatasetCatalog.get("cells")[:40]:
        mapped = mapper(record)
        short, long = sorted(mapped["image"].shape[1:])
        assert short <= 160 and long <= 240 and (short >= 80 or long >= 120)
        boxes = mapped["instances"].gt_boxes
        clipped = boxes.clone()
        clipped.clip(mapped["image"].shape[1:])
        assert len(boxes) and (clipped.tensor == boxes.tensor).all() and boxes.nonempty().all()
        sizes.add((short, long))
    assert len(sizes) > 30


def test_workers_do_not_change_augmented_batches():
    records = load_shapes("val")[:10]
    batches = []
    for workers in (0, 2):
        cfg = augmented_config()
        cfg.SOLVER.IMS_PER_BATCH = 4
        cfg.DATALOADER.NUM_WORKERS = workers
        loader = build_train_loader(cfg, seed=7, records=records)
        samples = itertools.chain(*itertools.islice(loader, 6))
        batches.append(
            [
                (s["image"].numpy().tobytes(), s["instances"].gt_boxes.tensor.tolist())
                for s in samples
            ]
        )
    assert batches[0] == batches[1] and len(batches[0]) == 24


def test_what_cannot_be_done_to_a_picture_is_no_damage_of_its_file(tmp_path):
    class Impossible(T.Augmentation):
        def get_transform(self, image):
            raise ValueError("height and width must be > 0")

    with pytest.raises(UserError, match=r"what INPUT asks for cannot .* 60x40 \(height and width"):
        map_white(tmp_path, [Impossible()])


@pytest.mark.parametrize("resize", ["pil", "cv2"])
def test_a_kept_crowd_goes_wherever_a_box_goes(resize):
    """By crops, resizing and flips: a crowd on an object's place stays on it."""
    cfg = augmented_config(resize)
    cfg.INPUT.KEEP_CROWD = True
    cfg.INPUT.CROP.PROBABILITY, cfg.INPUT.CROP.SIZE = 1.0, [0.4, 0.4]
    mapper, record = build_mapper(cfg, True), load_shapes("train")[0]
    crowds = [{**a, "iscrowd": 1, "segmentation": {"counts": []}} for a in record["annotations"]]
    both = {**record, "annotations": [*crowds, *record["annotations"]]}
    cut_off = 0
    for seed in range(6):
        np.random.seed(seed)
        mapped = mapper(both)
        boxes = mapped["instances"].gt_boxes.tensor
        torch.testing.assert_close(mapped["ignored_boxes"], boxes)
        assert mapped["ignored_boxes"].dtype == torch.float32
        cut_off += len(record["annotations"]) > len(boxes)
        np.random.seed(seed)
        assert torch.equal(mapper(record)["image"], mapped["image"])
    assert cut_off


def test_crowds_are_kept_where_the_key_says_so_and_never_as_ground_truth():
    cfg, record = make_config(), load_shapes("train")[0]
    crowd = annotation([0, 0, 30, 30], iscrowd=1)
    outside, broken = (
        annotation([-9, -9, 0, 5], iscrowd=1),
        annotation([0, 0, np.nan, 5], iscrowd=1),
    )
    record = {**record, "annotations": [crowd, outside, broken]}
    assert "ignored_boxes" not in build_mapper(cfg, True)(record)
    cfg.INPUT.KEEP_CROWD = True
    mapped = build_mapper(cfg, True)(record)
    assert len(mapped["instances"]) == 0 and len(mapped["ignored_boxes"]) == 1
    assert "ignored_boxes" not in build_mapper(cfg, False)(record)
    assert len(build_mapper(cfg, True)({**record, "annotations": []})["ignored_boxes"]) == 0
