import itertools
import json
import random

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog
from detectron2.utils import comm

import vfnet
from vfnet.data import build_test_loader, build_train_loader, register_coco_format
from vfnet.data.datasets.shapes import load_shapes
from vfnet.data.stream import TrainingBatches, seeded_generators
from vfnet.errors import UserError


def make_config(**loader):
    cfg = vfnet.get_cfg()
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = ("shapes_few",), ("shapes_few",)
    cfg.SOLVER.IMS_PER_BATCH = 4
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING = (100, 160), "range"
    cfg.INPUT.MIN_SIZE_TEST = 128
    cfg.DATALOADER.NUM_WORKERS = 0
    for key, value in loader.items():
        cfg.DATALOADER[key] = value
    return cfg


@pytest.fixture(autouse=True)
def few_shapes():
    """Ten shapes pictures, so that a few batches go round more than once."""
    DatasetCatalog.register("shapes_few", lambda: load_shapes("val")[:10])


@pytest.fixture
def two_processes(monkeypatch):
    """A function that makes this process believe to be one of two."""

    def become(rank):
        monkeypatch.setattr(comm, "get_world_size", lambda: 2)
        monkeypatch.setattr(comm, "get_rank", lambda: rank)

    return become


@pytest.fixture
def unmapped(monkeypatch):
    """The loader yields bare records: quick, where a test asks only which images come when."""
    monkeypatch.setattr("vfnet.data.stream.build_mapper", lambda cfg, is_train: lambda r: r)


def take(loader, count):
    """The next batches, as comparable data."""
    return [
        [
            (s["image_id"], s["image"].numpy().tobytes(), s["instances"].gt_boxes.tensor.tolist())
            for s in batch
        ]
        for batch in itertools.islice(loader, count)
    ]


def take_images(loader, count):
    """The image ids of the next batches."""
    return [[s["image_id"] for s in batch] for batch in itertools.islice(loader, count)]


def test_workers_do_not_change_the_stream():
    alone = take(build_train_loader(make_config(), seed=7), 6)
    assert take(build_train_loader(make_config(NUM_WORKERS=2), seed=7), 6) == alone


def test_a_stream_continued_is_the_tail_of_the_whole():
    whole = take(build_train_loader(make_config(), seed=7), 8)
    assert take(build_train_loader(make_config(), seed=7, start_iter=5), 3) == whole[5:]
    assert whole[0] != whole[5]


def test_iterating_again_starts_again():
    loader = build_train_loader(make_config(), seed=7, start_iter=2)
    assert take(loader, 2) == take(loader, 2)


def test_seeds_give_different_streams(unmapped):
    first, second = (take_images(build_train_loader(make_config(), seed=s), 3) for s in (1, 2))
    assert first != second


def test_one_picture_is_augmented_anew_each_time():
    DatasetCatalog.register("one", lambda: load_shapes("val")[:1])
    cfg = make_config()
    cfg.DATASETS.TRAIN = ("one",)
    (batch,) = take(build_train_loader(cfg, seed=7), 1)
    assert len({pixels for _, pixels, _ in batch}) > 1


def test_two_ranks_share_each_round(two_processes, unmapped):
    seen = []
    for rank in (0, 1):
        two_processes(rank)
        cfg = make_config(ASPECT_RATIO_GROUPING=False)
        cfg.SOLVER.IMS_PER_BATCH = 10
        (batch,) = take_images(build_train_loader(cfg, seed=7), 1)
        assert len(batch) == 5
        seen += batch
    assert sorted(seen) == list(range(10))


def test_two_ranks_augment_differently(two_processes):
    DatasetCatalog.register("one", lambda: load_shapes("val")[:1])
    cfg = make_config()
    cfg.DATASETS.TRAIN = ("one",)
    batches = []
    for rank in (0, 1):
        two_processes(rank)
        batches.append(take(build_train_loader(cfg, seed=7), 2))
    assert batches[0] != batches[1]


def test_grouping_keeps_one_side_per_batch_and_loses_nothing(unmapped):
    wide = {r["image_id"]: r["width"] > r["height"] for r in load_shapes("val")[:10]}
    assert len(set(wide.values())) == 2
    grouped = take_images(build_train_loader(make_config(), seed=7), 20)
    assert all(len({wide[i] for i in batch}) == 1 for batch in grouped)
    # 80 samples are 8 rounds; what waits in the two groups is less than two batches.
    counts = [sum(batch.count(i) for batch in grouped) for i in range(10)]
    assert min(counts) >= 7 and max(counts) <= 9


def test_without_grouping_batches_are_mixed(unmapped):
    wide = {r["image_id"]: r["width"] > r["height"] for r in load_shapes("val")[:10]}
    mixed = take_images(build_train_loader(make_config(ASPECT_RATIO_GROUPING=False), seed=7), 10)
    assert any(len({wide[i] for i in batch}) == 2 for batch in mixed)


def test_batches_by_hand():
    # Groups: even and odd. A batch comes when its group has two; each sample keeps its number.
    batches = TrainingBatches([4, 1, 2, 6, 3, 0], 2, groups=[0, 1, 0, 1, 0, 1, 0])
    assert list(batches) == [[(4, 0), (2, 2)], [(1, 1), (3, 4)], [(6, 3), (0, 5)]]


def test_skipping_reads_no_picture(monkeypatch):
    DatasetCatalog.register("absent", lambda: [{**load_shapes("val")[0], "file_name": "no.png"}])
    cfg = make_config()
    cfg.DATASETS.TRAIN = ("absent",)
    loader = iter(build_train_loader(cfg, seed=7, start_iter=50_000))
    with pytest.raises(UserError, match="no.png cannot be decoded"):
        next(loader)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_in_a_worker_is_still_one_sentence(workers):
    DatasetCatalog.register("absent", lambda: [{**load_shapes("val")[0], "file_name": "no.png"}])
    cfg = make_config(NUM_WORKERS=workers)
    cfg.DATASETS.TRAIN = ("absent",)
    with pytest.raises(UserError, match="^no.png cannot be decoded") as caught:
        next(iter(build_train_loader(cfg, seed=7)))
    assert "Traceback" not in str(caught.value)


def test_loading_leaves_the_training_generators_alone():
    def draw():
        return random.random(), np.random.rand(), torch.rand(1).item()

    def seed_all():
        random.seed(1), np.random.seed(1), torch.manual_seed(1)

    seed_all()
    expected = draw()
    seed_all()
    take(build_train_loader(make_config(), seed=7), 3)
    assert draw() == expected


def test_generators_are_restored_after_an_error():
    before = torch.get_rng_state()
    with pytest.raises(KeyError), seeded_generators((1, 2, 3)):
        torch.rand(3)
        raise KeyError
    assert torch.equal(torch.get_rng_state(), before)


def test_rare_classes_come_more_often_with_repeat_factors(unmapped):
    records = load_shapes("val")[:10]
    for record in records:
        record["annotations"] = [{**a, "category_id": 0} for a in record["annotations"]]
    records[3]["annotations"][0]["category_id"] = 1
    DatasetCatalog.register("unbalanced", lambda: records)
    cfg = make_config(SAMPLER_TRAIN="RepeatFactorTrainingSampler", REPEAT_THRESHOLD=0.9)
    cfg.DATASETS.TRAIN = ("unbalanced",)
    seen = list(itertools.chain(*take_images(build_train_loader(cfg, seed=7), 30)))
    # Class 1 is in a tenth of the images: sqrt(0.9 / 0.1) = 3 times as often as the others.
    share = seen.count(3) / len(seen)
    assert share == pytest.approx(3 / 12, abs=0.05)


def test_another_sampler_is_an_error():
    cfg = make_config(SAMPLER_TRAIN="RandomSubsetTrainingSampler")
    with pytest.raises(UserError, match="TrainingSampler.*got 'RandomSubsetTrainingSampler'"):
        build_train_loader(cfg, seed=7)


def test_a_batch_that_processes_cannot_share_is_an_error(two_processes):
    two_processes(0)
    cfg = make_config()
    cfg.SOLVER.IMS_PER_BATCH = 3
    with pytest.raises(UserError, match="IMS_PER_BATCH is 3.*number of processes, 2"):
        build_train_loader(cfg, seed=7)


def register_with_empty(make_coco, **changes):
    """Register four images of which the last has no annotation."""
    _, content = make_coco("unused")
    file, _ = make_coco(annotations=content["annotations"][:3], **changes)
    cfg = make_config()
    cfg.DATASETS.COCO_FORMAT = [["toy", str(file), str(file.parent)]]
    cfg.DATASETS.TRAIN = ("toy",)
    register_coco_format(cfg)
    return cfg


def test_records_that_are_loaded_already_are_taken(make_coco):
    cfg = register_with_empty(make_coco)
    records = DatasetCatalog.get("toy")
    expected = take(build_train_loader(cfg, seed=7), 3)
    DatasetCatalog.pop("toy")
    assert take(build_train_loader(cfg, seed=7, records=records), 3) == expected


@pytest.mark.parametrize(("filter_empty", "expected"), [(True, {1, 2, 3}), (False, {1, 2, 3, 4})])
def test_images_without_boxes_are_left_out_by_config(make_coco, unmapped, filter_empty, expected):
    cfg = register_with_empty(make_coco)
    cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS = filter_empty
    seen = list(itertools.chain(*take_images(build_train_loader(cfg, seed=7), 3)))
    assert set(seen) == expected


def test_strict_reaches_the_boxes(make_coco):
    cfg = register_with_empty(make_coco, sizes=((64, 20),) * 4)  # the boxes end at y = 22
    cfg.DATASETS.STRICT = True
    with pytest.raises(UserError, match="DATASETS.STRICT: 3 boxes stick out"):
        build_train_loader(cfg, seed=7)


def crowd(content):
    for annotation in content["annotations"]:
        annotation["iscrowd"] = 1


def empty_and_crowd(content):
    crowd(content)
    content["annotations"][0].update(iscrowd=0, bbox=[4, 6, 0, 9])


REASONS = {
    "no box": (lambda content: content["annotations"].clear(), "of 0 boxes 0 are crowds"),
    "crowds": (crowd, "of 4 boxes 4 are crowds .iscrowd 1., .* and 0 are empty"),
    "both": (empty_and_crowd, "of 4 boxes 3 are crowds .*, and 1 are empty or outside"),
}


@pytest.mark.parametrize("filter_empty", [True, False])
@pytest.mark.parametrize("reason", REASONS)
def test_no_image_left_is_an_error(make_coco, reason, filter_empty):
    change, message = REASONS[reason]
    file, content = make_coco()
    change(content)
    file.write_text(json.dumps(content))
    cfg = make_config(FILTER_EMPTY_ANNOTATIONS=filter_empty)
    cfg.DATASETS.COCO_FORMAT = [["toy", str(file), str(file.parent)]]
    cfg.DATASETS.TRAIN = ("toy",)
    register_coco_format(cfg)
    with pytest.raises(UserError, match=f"No image of toy has a usable box: {message}"):
        build_train_loader(cfg, seed=7)


def test_records_without_annotations_cannot_train():
    DatasetCatalog.register("bare", lambda: [{"file_name": "a.png", "width": 9, "height": 9}])
    cfg = make_config()
    cfg.DATASETS.TRAIN = ("bare",)
    with pytest.raises(UserError, match="a.png has no annotations"):
        build_train_loader(cfg, seed=7)


def test_the_test_loader_gives_every_image_once_in_order():
    batches = list(build_test_loader(make_config(), "shapes_few"))
    assert [sample["image_id"] for batch in batches for sample in batch] == list(range(10))
    assert all(min(sample["image"].shape[1:]) == 128 for batch in batches for sample in batch)
