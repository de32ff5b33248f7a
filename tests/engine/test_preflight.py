"""What is checked and said before a run starts. The checks of whole runs: tests/train_net."""

import pytest
from detectron2.utils import comm

from vfnet import get_cfg
from vfnet.engine import agree, checkpoint_to_continue, config_warnings, datasets_of_run
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


@pytest.mark.parametrize(
    "enabled, iterations, said", [(True, 888, True), (True, 87960, False), (False, 888, False)]
)
def test_a_moving_average_too_slow_for_the_run_is_pointed_out(enabled, iterations, said):
    cfg = get_cfg()
    cfg.SOLVER.EMA.ENABLED, cfg.SOLVER.MAX_ITER = enabled, iterations
    lines = [line for line in config_warnings(cfg, training=True) if "EMA" in line]
    assert len(lines) == said
    # 0.9998^888 = 0.837, and 0.01^(1 / 888) = 0.99483.
    assert all("84%" in line and "0.9948 would" in line for line in lines)


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
    assert agree(lambda: 3) == 3


@pytest.fixture
def second_of_two(monkeypatch):
    """This process is the second of two on its machine; the first has nothing to complain of."""
    gathered = []
    monkeypatch.setattr(comm, "get_local_rank", lambda: 1)
    monkeypatch.setattr(comm, "all_gather", lambda own: gathered.append(own) or [None, own])
    return gathered


def test_a_check_of_each_machine_is_not_made_twice(second_of_two):
    assert agree(lambda: pytest.fail("called")) is None
    assert second_of_two == [None]


def test_what_every_process_has_to_do_fails_on_all(second_of_two):
    def check():
        raise UserError("own.json is not there")

    assert agree(lambda: 3, everywhere=True) == 3
    with pytest.raises(UserError, match="^own.json is not there$"):
        agree(check, everywhere=True)
    assert second_of_two == [None, "own.json is not there"]


def test_the_data_sets_of_a_run():
    cfg = get_cfg()
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = ("a",), ("b", "c")
    assert datasets_of_run(cfg, training=True) == ["a", "b", "c"]
    assert datasets_of_run(cfg, training=False) == ["b", "c"]
