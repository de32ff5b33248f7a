"""What is checked and said before a run starts. The checks of whole runs: test_train_net.py."""

import pytest

from vfnet import get_cfg
from vfnet.engine import agree, checkpoint_to_continue, config_warnings
from vfnet.errors import UserError


@pytest.mark.parametrize(
    "batch, rate, training, said",
    [
        (8, 0.01, True, True),
        (16, 0.01, True, False),
        (8, 0.005, True, False),
        (8, 0.01, False, False),
    ],
)
def test_the_published_rate_with_another_batch_is_pointed_out(batch, rate, training, said):
    cfg = get_cfg()
    cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.BASE_LR = batch, rate
    lines = config_warnings(cfg, training)
    assert len(lines) == said
    assert all("IMS_PER_BATCH 8" in line and "BASE_LR 0.005" in line for line in lines)


def test_weights_that_do_not_fit_the_input_are_pointed_out():
    cfg = get_cfg()
    cfg.MODEL.WEIGHTS = "detectron2://ImageNetPretrained/torchvision/R-50.pkl"
    assert any("INPUT.FORMAT" in line for line in config_warnings(cfg, training=False))


def test_the_checkpoint_named_last_is_continued(tmp_path):
    (tmp_path / "last_checkpoint").write_text("model_0000002.pth\n")
    (tmp_path / "model_0000002.pth").touch()
    path = checkpoint_to_continue(str(tmp_path), required=True)
    assert path == str(tmp_path / "model_0000002.pth")


def test_nothing_to_continue(tmp_path):
    assert checkpoint_to_continue(str(tmp_path), required=False) == ""
    with pytest.raises(UserError, match="--resume auto"):
        checkpoint_to_continue(str(tmp_path), required=True)


def test_a_failed_check_fails_with_its_message():
    def check():
        raise UserError("picture 3 is not there")

    with pytest.raises(UserError, match="^picture 3 is not there$"):
        agree(check)
    agree(lambda: None)
