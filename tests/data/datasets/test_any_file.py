"""Whatever is done to an annotation file: it is refused in one sentence, or every box is used.

Structure, values, names, encodings and bytes of a small file are damaged. What is accepted gives a
training batch and goes through COCO's evaluation with its own boxes as detections.
"""

import copy
import json
import logging

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import Boxes, BoxMode, Instances
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.data.datasets.coco_config import make_config
from vfnet.data import build_train_loader, check_own_data, register_coco_format
from vfnet.data.checks.boxes import inspect_boxes
from vfnet.errors import UserError
from vfnet.evaluation.evaluator import build_evaluator

NAME = "any"
LETTERS = st.text(st.sampled_from('aä红😀\u202e\u2028\0\n\x1b|$"/\\.\ud800'), max_size=4)
NUMBERS = st.one_of(
    st.sampled_from([0, 1, -1, 2, 9, 40, 2**31, 2**63, 2**64, 10**400, -(10**400)]),
    st.sampled_from([0.0, -0.5, 0.3, 1e-320, 1e300, 1.7e308, float("nan"), float("inf")]),
    st.integers(-5, 100),
    st.floats(-10, 100),
)
PLAIN = st.one_of(st.none(), st.booleans(), NUMBERS, LETTERS)
ANYTHING = st.one_of(
    PLAIN,
    st.lists(PLAIN, max_size=5),
    st.lists(NUMBERS, min_size=4, max_size=4),
    st.dictionaries(LETTERS, PLAIN, max_size=3),
)
KEYS = ["id", "image_id", "category_id", "bbox", "area", "iscrowd", "ignore", "segmentation"]
KEYS += ["file_name", "width", "height", "name", "supercategory", "images", "annotations"]
ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "cp1252", "utf-7"]


def damage(draw, content):
    """Change one thing somewhere in a json content."""
    node, parent, at = content, None, None
    while isinstance(node, (dict, list)) and node and draw(st.integers(0, 5)):
        places = sorted(node) if isinstance(node, dict) else range(len(node))
        parent, at = node, draw(st.sampled_from(places))
        node = parent[at]
    kind = draw(st.sampled_from(["replace", "replace", "remove", "repeat", "move", "add"]))
    if parent is None:
        return draw(ANYTHING) if kind == "replace" else content
    if kind == "remove":
        del parent[at]
    elif kind == "repeat" and isinstance(parent, list):
        parent.insert(at, copy.deepcopy(node))
    elif kind == "move" and isinstance(parent, dict):
        parent[draw(st.sampled_from(KEYS))] = parent.pop(at)
    elif kind == "add" and isinstance(node, dict):
        node[draw(st.sampled_from(KEYS))] = draw(ANYTHING)
    else:
        parent[at] = draw(ANYTHING)
    return content


def damage_bytes(draw, raw):
    """Cut, insert or overwrite bytes."""
    kind = draw(st.sampled_from(["no", "no", "no", "cut", "insert", "nest", "digits", "twice"]))
    place = draw(st.integers(0, len(raw)))
    if kind == "cut":
        return raw[:place]
    if kind == "insert":
        return raw[:place] + draw(st.binary(max_size=3)) + raw[place:]
    if kind == "nest":
        return raw[:place] + b"[" * 100_000 + raw[place:]
    if kind == "digits":
        return raw.replace(b"9", b"9" * 5000)
    return raw + raw if kind == "twice" else raw


def use(file):
    """Check a file as a run does, load a training batch, and score its own boxes."""
    cfg = make_config((NAME, file))
    cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = (NAME,)
    cfg.SOLVER.IMS_PER_BATCH, cfg.DATALOADER.NUM_WORKERS = 2, 0
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.DATALOADER.ASPECT_RATIO_GROUPING = (32,), False
    register_coco_format(cfg)
    records = DatasetCatalog.get(NAME)
    in_file = json.loads(file.read_bytes()).get("annotations", [])
    assert sum(len(record["annotations"]) for record in records) == len(in_file)
    check_own_data({NAME: records}, (NAME,), (NAME,), 100, False)
    score(records, file.parent)

    loader = build_train_loader(cfg, records=records)
    cleaned, findings = inspect_boxes(records)
    left_out = len(findings["empty"]) + len(findings["outside"])
    assert sum(len(record["annotations"]) for record in cleaned) + left_out == len(in_file)
    for sample in next(iter(loader)):
        assert sample["instances"].gt_boxes.tensor.isfinite().all()


def score(records, folder):
    """Give COCO's evaluation each picture's boxes as its detections."""
    evaluator = build_evaluator(NAME, str(folder / "scores"))
    evaluator.reset()
    for record in records:
        boxes = [
            BoxMode.convert(a["bbox"], a["bbox_mode"], BoxMode.XYXY_ABS)
            for a in record["annotations"]
        ]
        found = Instances((record["height"], record["width"]))
        found.pred_boxes = Boxes(torch.tensor(boxes).reshape(-1, 4))
        found.scores = torch.ones(len(boxes))
        found.pred_classes = torch.tensor([a["category_id"] for a in record["annotations"]]).long()
        evaluator.process([record], [{"instances": found}])
    evaluator.evaluate()


@pytest.mark.soak
def test_any_damage_is_refused_or_accounted_for(make_coco, amount, figure, caplog):
    file, whole = make_coco(NAME)
    whole = json.loads(json.dumps(whole))
    tried = {"refused": 0, "used": 0}
    caplog.set_level(logging.CRITICAL)

    @settings(
        max_examples=amount(ci=50, soak=3000),
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def check(data):
        content = copy.deepcopy(whole)
        for _ in range(data.draw(st.integers(1, 4))):
            content = damage(data.draw, content)
        text = json.dumps(content, ensure_ascii=data.draw(st.booleans()))
        encoded = text.encode(data.draw(st.sampled_from(ENCODINGS)), "replace")
        file.write_bytes(damage_bytes(data.draw, encoded))
        DatasetCatalog.pop(NAME, None)
        MetadataCatalog.pop(NAME, None)
        try:
            use(file)
            tried["used"] += 1
        except UserError as error:
            assert "\n" not in str(error)
            tried["refused"] += 1

    check()
    figure("damaged annotation files", sum(tried.values()), sum(tried.values()))
    assert min(tried.values()) > 0
