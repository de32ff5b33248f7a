"""What a run refuses and warns of where regions are ignored."""

import pytest

from tests.engine.tiny import tiny_config
from tests.engine.tiny_libra import libra_config
from tests.engine.tiny_retinanet import retinanet_config
from vfnet.data import build_train_loader
from vfnet.engine import check_run, config_warnings
from vfnet.engine.preflight.ignored_regions import check_ignored_regions
from vfnet.errors import UserError

KEEP = ("INPUT.KEEP_CROWD", "True")
IGNORE = ("MODEL.VFNET.IGNORE_IOF_THRESH", "0.5")


def test_ignoring_needs_what_is_kept(tmp_path):
    with pytest.raises(UserError, match=r"IGNORE_IOF_THRESH 0.5 needs INPUT.KEEP_CROWD True"):
        check_run(tiny_config(tmp_path, *IGNORE), ["shapes_train"], "", training=True)
    check_run(tiny_config(tmp_path, *IGNORE, *KEEP), ["shapes_train"], "", training=True)


@pytest.mark.parametrize("value", ["1.0", "2.5", "float('nan')"])
def test_a_share_is_below_1(tmp_path, value):
    cfg = tiny_config(tmp_path, *KEEP)
    cfg.MODEL.VFNET.IGNORE_IOF_THRESH = eval(value)
    with pytest.raises(UserError, match="has to be a share of an anchor, from 0 to below 1"):
        check_ignored_regions(cfg)


def test_crowds_kept_for_nothing_are_a_warning(tmp_path):
    def said(cfg):
        return [line for line in config_warnings(cfg, training=True) if "KEEP_CROWD" in line]

    (line,) = said(tiny_config(tmp_path, *KEEP))
    assert "no effect while MODEL.VFNET.IGNORE_IOF_THRESH is below 0" in line
    (line,) = said(libra_config(tmp_path, *KEEP))
    assert "no effect on GeneralizedRCNN" in line
    assert not said(tiny_config(tmp_path, *KEEP, *IGNORE))
    assert not said(tiny_config(tmp_path))
    check_ignored_regions(libra_config(tmp_path, *KEEP))


def test_detectron2s_own_retinanet_does_not_read_it(tmp_path):
    words = ("MODEL.META_ARCHITECTURE", "RetinaNet", "MODEL.RETINANET.CLS_LOSS", "focal")
    words += ("MODEL.RETINANET.LOSS_NORMALIZER", "ema")
    words += ("MODEL.RETINANET.IGNORE_IOF_THRESH", "0.5")
    with pytest.raises(UserError, match="IGNORE_IOF_THRESH 0.5 needs .* QualityRetinaNet"):
        check_run(retinanet_config(tmp_path, *words, *KEEP), ["shapes_train"], "", training=True)


def test_a_set_of_crowds_alone_is_still_nothing_to_learn_from(tmp_path):
    cfg = tiny_config(tmp_path, *KEEP, *IGNORE)
    crowd = {"bbox": [1, 1, 9, 9], "bbox_mode": 1, "category_id": 0, "iscrowd": 1}
    size = {"width": 64, "height": 48, "file_name": "a.png"}
    with pytest.raises(UserError, match="of 1 boxes 1 are crowds"):
        build_train_loader(cfg, records=[{**size, "annotations": [crowd]}])
