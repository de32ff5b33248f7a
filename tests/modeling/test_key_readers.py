"""A key that the named class does not read is an error before a run starts."""

import pytest
from detectron2.modeling import ROI_HEADS_REGISTRY

from tests.engine.tiny_libra import libra_config
from vfnet import get_cfg
from vfnet.engine import check_run
from vfnet.errors import UserError
from vfnet.modeling.key_readers import check_key_readers
from vfnet.modeling.roi_heads import LibraROIHeads

PLAIN = ("MODEL.ROI_HEADS.NAME", "StandardROIHeads")
L1 = ("MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE", "smooth_l1")


@pytest.mark.parametrize(
    "overrides, message",
    [
        ((*PLAIN, *L1), "MODEL.ROI_HEADS.SAMPLER 'libra' needs .*NAME LibraROIHeads, got Standard"),
        (
            (*PLAIN, "MODEL.ROI_HEADS.SAMPLER", "random"),
            "MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE 'balanced_l1' needs .*LibraROIHeads",
        ),
        (
            ("MODEL.PROPOSAL_GENERATOR.NAME", "RPN"),
            "MODEL.RPN.NEGATIVES_PER_POSITIVE 5 needs MODEL.PROPOSAL_GENERATOR.NAME BoundedRPN",
        ),
        (
            ("MODEL.META_ARCHITECTURE", "VFNet", "MODEL.ROI_HEADS.NAME", "Res5ROIHeads"),
            "MODEL.ROI_HEADS.SAMPLER 'libra' needs",
        ),
    ],
)
def test_a_run_with_a_key_that_nothing_reads_does_not_start(tmp_path, overrides, message):
    with pytest.raises(UserError, match=message):
        check_run(libra_config(tmp_path / "run", *overrides), [], "", training=True)
    assert not (tmp_path / "run").exists()


def test_a_subclass_reads_what_its_base_does():
    @ROI_HEADS_REGISTRY.register()
    class OwnROIHeads(LibraROIHeads):
        pass

    check_key_readers(libra_config("", "MODEL.ROI_HEADS.NAME", "OwnROIHeads"))


def test_detectron2s_parts_with_their_own_keys_are_fine():
    random = ("MODEL.ROI_HEADS.SAMPLER", "random", "MODEL.RPN.NEGATIVES_PER_POSITIVE", "0")
    plain = (*PLAIN, *L1, *random, "MODEL.PROPOSAL_GENERATOR.NAME", "RPN")
    check_key_readers(libra_config("", *plain))


@pytest.mark.parametrize(
    "key, value",
    [
        ("CLS_LOSS", "varifocal"),
        ("CLS_LOSS_WEIGHT", 2.0),
        ("LOSS_NORMALIZER", "positives"),
        ("BBOX_REG_LOSS_TYPE", "balanced_l1"),
    ],
)
def test_detectron2s_retinanet_does_not_read_the_added_keys(key, value):
    cfg = get_cfg()
    cfg.MODEL.META_ARCHITECTURE = "RetinaNet"
    check_key_readers(cfg)
    cfg.MODEL.RETINANET[key] = value
    message = f"MODEL.RETINANET.{key} '?{value}'? needs MODEL.META_ARCHITECTURE QualityRetinaNet"
    with pytest.raises(UserError, match=message):
        check_key_readers(cfg)
    cfg.MODEL.META_ARCHITECTURE = "QualityRetinaNet"
    check_key_readers(cfg)
