"""Detectors beside VFNet in all that a run does: they learn, go on, are averaged, are scored."""

from collections.abc import Callable
from typing import NamedTuple

import cv2
import pytest
import torch

from tests.evaluation.coco_files import IMAGE_IDS, annotation, write_coco
from vfnet.checkpoint import VFNetCheckpointer
from vfnet.data import register_coco_format
from vfnet.engine import Trainer, check_run
from vfnet.errors import UserError
from vfnet.predictor import build_predictor, class_names

from .tiny import GivenBatches, picture, train_on
from .tiny_family import CONFIGS
from .tiny_libra import libra_config
from .tiny_retinanet import retinanet_config

BATCHES = [[picture(seed), picture(seed + 10)] for seed in (1, 2, 3)]
QUICK = ("SOLVER.WARMUP_ITERS", "0", "SEED", "1")
EMA = ("MODEL.RETINANET.LOSS_NORMALIZER", "ema")  # has a state, of which others know nothing


class Detector(NamedTuple):
    """What tests have to know of a detector: its config, and names."""

    config: Callable
    node: str
    class_layer: str
    parts: set[str]
    losses: tuple[str, ...]
    state: str = ""  # in checkpoints, beside what learns


BOX_LOSSES = {
    "atss": ("loss_box", "loss_centerness"),
    "gfl": ("loss_box", "loss_dfl"),
    "gflv2": ("loss_box", "loss_dfl"),
    "foveabox": ("loss_box",),
    "reppoints": ("loss_points_init", "loss_points_refined"),
}
DETECTORS = {
    name: Detector(
        CONFIGS[name],
        "GFL" if name == "gflv2" else name.upper(),
        "head.cls_pred.weight",
        {"backbone", "head"},
        ("loss_cls", *losses),
    )
    for name, losses in BOX_LOSSES.items()
}
DETECTORS["retinanet"] = Detector(
    retinanet_config,
    "RETINANET",
    "head.cls_score.weight",
    {"backbone", "head", "normaliser"},
    ("loss_cls", "loss_box_reg"),
    "normaliser.average",
)
DETECTORS["libra"] = Detector(
    libra_config,
    "ROI_HEADS",
    "roi_heads.box_predictor.cls_score.weight",
    {"backbone", "proposal_generator", "roi_heads"},
    ("loss_cls", "loss_box_reg", "loss_rpn_cls", "loss_rpn_loc"),
    "roi_heads.floor_at_zero",
)


@pytest.fixture(params=DETECTORS)
def detector(request):
    return DETECTORS[request.param]


def weights_of(folder, name="model_final.pth"):
    return torch.load(folder / name, weights_only=True)["model"]


def continued(cfg):
    class Given(GivenBatches):
        batches = BATCHES

    trainer = Given(cfg)
    trainer.resume_or_load(resume=True)
    trainer.train()


def test_a_continued_run_is_the_uninterrupted_one_bit_for_bit(detector, tmp_path):
    train_on(detector.config(tmp_path / "whole", *QUICK, *EMA), *BATCHES)
    train_on(detector.config(tmp_path / "parts", *QUICK, *EMA), *BATCHES[:2])
    before = weights_of(tmp_path / "parts")
    continued(detector.config(tmp_path / "parts", "SOLVER.MAX_ITER", "3", *QUICK, *EMA))
    whole, parts = weights_of(tmp_path / "whole"), weights_of(tmp_path / "parts")
    assert whole.keys() == parts.keys()
    assert all(torch.equal(parts[name], value) for name, value in whole.items())
    if detector.state:
        assert whole[detector.state] not in (0, 100)  # what states begin with
    # All that is not frozen has moved.
    moved = [n for n, value in before.items() if not torch.equal(value, whole[n])]
    assert {name.split(".")[0] for name in moved} == detector.parts


def test_losses_are_recorded(detector, tmp_path):
    trainer = train_on(detector.config(tmp_path, *QUICK), *BATCHES)
    latest = {name: value for name, (value, _) in trainer.storage.latest().items()}
    expected = sum(latest[name] for name in detector.losses)
    assert latest["total_loss"] == pytest.approx(expected, rel=1e-4)


def test_samples_are_recorded(tmp_path):
    trainer = train_on(libra_config(tmp_path, *QUICK), *BATCHES)
    latest = {name: value for name, (value, _) in trainer.storage.latest().items()}
    assert latest["roi_head/num_fg_samples"] + latest["roi_head/num_bg_samples"] == 32


@pytest.mark.parametrize("average", ["SWA", "EMA"])
def test_weights_are_averaged(detector, tmp_path, average):
    name = average.lower()
    weights = tmp_path / "first.pth"
    cycles = ("SOLVER.SWA.CYCLES", "3") if average == "SWA" else ("SOLVER.EMA.DECAY", "0.5")
    more = (f"SOLVER.{average}.ENABLED", "True", *cycles)
    train_on(detector.config(tmp_path, *QUICK, *EMA, *more), *BATCHES)
    final, averaged = weights_of(tmp_path), weights_of(tmp_path, f"model_{name}.pth")
    assert averaged.keys() == final.keys()
    if detector.state:
        assert averaged[detector.state].dtype == final[detector.state].dtype
    assert not torch.equal(averaged[detector.class_layer], final[detector.class_layer])
    # A run that begins with the average passes all checks.
    torch.save({"model": averaged}, weights)
    swa = detector.config(
        tmp_path / "next", *QUICK, "SOLVER.SWA.ENABLED", "True", "SOLVER.SWA.CYCLES", "3"
    )
    check_run(swa, [], str(weights), training=True)


def test_own_data_is_learnt_scored_and_predicted_with_its_names(detector, tmp_path):
    boxes = [annotation(i, id_, 3, (20, 20, 40, 40)) for i, id_ in enumerate(IMAGE_IDS, 1)]
    file = write_coco(tmp_path / "data", boxes)
    own = str([["own", str(file), str(file.parent)]])
    folder, key = tmp_path / "run", f"MODEL.{detector.node}"
    cfg = detector.config(
        *(folder, "DATASETS.COCO_FORMAT", own, "DATASETS.TRAIN", "('own',)"),
        *("DATASETS.TEST", "('own',)", "SOLVER.MAX_ITER", "2", *QUICK),
        *(f"{key}.NUM_CLASSES", "80", f"{key}.SCORE_THRESH_TEST", "0.0"),
    )
    register_coco_format(cfg)
    node = cfg.MODEL[detector.node]
    assert node.NUM_CLASSES == 3
    assert node.CLASS_NAMES == ["cell", "plate", "tray"]
    check_run(cfg, ["own"], "", training=True)
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    assert {"AP", "AP50", "AP-cell"} <= set(Trainer.test(cfg, trainer.model)["bbox"])

    cfg.MODEL.WEIGHTS = str(folder / "model_final.pth")
    assert class_names(cfg) == ["cell", "plate", "tray"]
    found = build_predictor(cfg)(cv2.imread(str(file.parent / f"{IMAGE_IDS[0]}.png")))["instances"]
    assert len(found) > 0 and found.image_size == (96, 128)


def test_batch_norms_of_the_head_are_refused_by_swa_under_the_detectors_key(tmp_path):
    weights = tmp_path / "model.pth"
    cfg = retinanet_config(tmp_path / "run", "SOLVER.SWA.ENABLED", "True", "SOLVER.SWA.CYCLES", "3")
    cfg.MODEL.RETINANET.NORM = "BN"
    torch.save({"model": Trainer.build_model(cfg).state_dict()}, weights)
    with pytest.raises(UserError, match="SOLVER.SWA does not go with MODEL.RETINANET.NORM 'BN'"):
        check_run(cfg, [], str(weights), training=True)


def test_another_number_of_classes_re_initialises_retinanets_class_layer(tmp_path):
    weights = tmp_path / "model.pth"
    torch.save({"model": Trainer.build_model(retinanet_config("")).state_dict()}, weights)
    cfg = retinanet_config("", "MODEL.RETINANET.NUM_CLASSES", "2")
    model = Trainer.build_model(cfg)
    before = model.head.cls_score.weight.clone()
    VFNetCheckpointer(model).load(str(weights))
    assert torch.equal(model.head.cls_score.weight, before)
    stored = torch.load(weights, weights_only=True)["model"]
    assert torch.equal(model.head.bbox_pred.weight, stored["head.bbox_pred.weight"])
