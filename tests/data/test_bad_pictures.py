"""DATASETS.ON_BAD_IMAGE skip: what stands in for a picture that cannot be used."""

import itertools
import logging

import pytest
from detectron2.data import DatasetCatalog

import vfnet
from vfnet.data import (
    build_test_loader,
    build_train_loader,
    check_images,
    register_coco_format,
)
from vfnet.data.bad_pictures import substitutes
from vfnet.errors import UserError

SIZES = ((64, 48), (48, 64)) * 4  # two groups of four


def config(make_coco, bad, **loader):
    file, _ = make_coco(sizes=SIZES)
    for number in bad:
        (file.parent / f"{number}.png").write_bytes(b"no picture")
    cfg = vfnet.get_cfg()
    cfg.DATASETS.COCO_FORMAT = [["own", str(file), str(file.parent)]]
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = ("own",), ("own",)
    cfg.DATASETS.ON_BAD_IMAGE = "skip"
    cfg.SOLVER.IMS_PER_BATCH = 2
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TEST = (48,), 48
    cfg.DATALOADER.NUM_WORKERS = loader.get("workers", 0)
    register_coco_format(cfg)
    return cfg


def take(loader, count):
    return [
        [(s["image_id"], s["image"].numpy().tobytes()) for s in batch]
        for batch in itertools.islice(loader, count)
    ]


def test_substitutes_are_all_others_once_their_own_group_first():
    order = list(substitutes(2, [0, 1, 0, 1, 0], (7, 0, 3)))
    assert sorted(order) == [0, 1, 3, 4]
    assert set(order[:2]) == {0, 4}
    assert order == list(substitutes(2, [0, 1, 0, 1, 0], (7, 0, 3)))


def test_bad_pictures_are_replaced_by_their_group_whatever_the_start_and_the_workers(
    make_coco, caplog
):
    cfg = config(make_coco, bad=(1, 2, 5))
    with caplog.at_level(logging.WARNING):
        batches = take(build_train_loader(cfg, seed=7), 24)
    ids = [{id_ for id_, _ in batch} for batch in batches]
    assert set().union(*ids) == {3, 4, 6, 7, 8}
    assert all(len(batch) == 2 for batch in batches)
    assert all(len({id_ % 2 for id_ in each}) == 1 for each in ids)
    assert sum("left out" in record.message for record in caplog.records) == 3  # each once
    assert take(build_train_loader(cfg, seed=7, start_iter=10), 14) == batches[10:]
    cfg.DATALOADER.NUM_WORKERS = 2
    assert take(build_train_loader(cfg, seed=7), 24) == batches


def test_where_all_are_bad_it_ends(make_coco):
    cfg = config(make_coco, bad=range(1, 9))
    with pytest.raises(UserError, match="no picture of DATASETS.TRAIN can be used"):
        next(iter(build_train_loader(cfg, seed=7)))


def test_an_evaluation_goes_on_without_them(make_coco):
    cfg = config(make_coco, bad=(1, 5))
    assert [b[0]["image_id"] for b in build_test_loader(cfg, "own")] == [2, 3, 4, 6, 7, 8]
    cfg.DATASETS.ON_BAD_IMAGE = "ignore"
    with pytest.raises(UserError, match="'error' or 'skip', got 'ignore'"):
        build_test_loader(cfg, "own")


def test_the_check_before_a_run_warns_unless_all_are_bad(make_coco):
    config(make_coco, bad=(1, 5))
    records = DatasetCatalog.get("own")
    assert check_images(records, skip=True).startswith("2 of 8 pictures cannot be used: ")
    with pytest.raises(UserError, match="2 of 2 pictures"):
        check_images([records[0], records[4]], skip=True)
    with pytest.raises(UserError, match="2 of 8 pictures.*DATASETS.ON_BAD_IMAGE skip goes on"):
        check_images(records)
