"""The trainer in one process: precision, failures, continued and finished runs."""

from pathlib import Path

import pytest
import torch
from detectron2.engine import DefaultTrainer

from tests.train_net.runs import assert_equal
from vfnet.engine import NonFiniteLossError, Trainer

from .tiny import nan_picture, picture, tiny_config, train_on

LOSSES = ("loss_cls", "loss_box_init", "loss_box_refined")


def losses(trainer):
    latest = trainer.storage.latest()
    return [latest[name][0] for name in LOSSES]


def test_autocast_in_bfloat16_computes_the_losses_of_float32(tmp_path):
    batch = [picture(1), picture(2)]
    plain = train_on(tiny_config(tmp_path), batch)
    amp = ["SOLVER.AMP.ENABLED", "True", "SOLVER.AMP.PRECISION", "bfloat16"]
    mixed = train_on(tiny_config(tmp_path, *amp), batch)
    assert losses(mixed) == pytest.approx(losses(plain), rel=0.03)
    assert losses(mixed) != losses(plain)
    for parameter in mixed.model.parameters():
        assert torch.isfinite(parameter.grad).all()


def test_without_any_box_every_parameter_has_a_gradient(tmp_path):
    trainer = train_on(tiny_config(tmp_path), [picture(1, num_boxes=0)])
    missing = [name for name, p in trainer.model.named_parameters() if p.grad is None]
    assert not missing


@pytest.mark.parametrize("last", [True, False], ids=["last iteration", "before the last"])
def test_a_failure_leaves_the_last_good_checkpoint(tmp_path, monkeypatch, last):
    evaluated = []
    monkeypatch.setattr(Trainer, "test", lambda *args: evaluated.append(args))
    cfg = tiny_config(tmp_path, "SOLVER.CHECKPOINT_PERIOD", "1")
    good = [picture(1), picture(2)]
    with pytest.raises(NonFiniteLossError, match="iteration 1: loss_.*images: picture3.jpg"):
        train_on(cfg, good, [nan_picture()], *([] if last else [good]))
    assert not evaluated
    assert (tmp_path / "last_checkpoint").read_text() == "model_0000000.pth"
    assert [path.name for path in tmp_path.glob("*.pth")] == ["model_0000000.pth"]
    saved = torch.load(tmp_path / "model_0000000.pth", weights_only=True)["model"]
    assert all(torch.isfinite(value).all() for value in saved.values())


def test_a_finished_run_is_only_evaluated(tmp_path, monkeypatch):
    cfg = tiny_config(tmp_path)
    first = train_on(cfg, [picture(1)], [picture(2)])
    evaluated = []
    monkeypatch.setattr(Trainer, "test", lambda self, cfg, model: evaluated.append(model))
    again = Trainer(cfg)
    again.resume_or_load(resume=True)
    again.train()
    assert evaluated == [again.model]
    for ours, theirs in zip(again.model.state_dict().values(), first.model.state_dict().values()):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("left", [None, b"half a file"], ids=["before it", "damaged"])
def test_a_run_killed_before_its_final_checkpoint_writes_it(tmp_path, left):
    """Its last numbered checkpoint may be of the same iteration."""
    cfg = tiny_config(tmp_path, "SOLVER.CHECKPOINT_PERIOD", "1", "SOLVER.EMA.ENABLED", "True")
    train_on(cfg, [picture(1)], [picture(2)])
    final = tmp_path / "model_final.pth"
    whole = torch.load(final, weights_only=True)
    final.unlink()
    if left:
        final.write_bytes(left)
    else:
        (tmp_path / "last_checkpoint").write_text("model_0000001.pth")
    again = Trainer(cfg)
    again.resume_or_load(resume=True)
    again.train()
    assert (tmp_path / "last_checkpoint").read_text() == "model_final.pth"
    assert_equal(torch.load(final, weights_only=True), whole, "final")


def test_detectron2s_own_trainer_trains_it(tmp_path):
    cfg = tiny_config(tmp_path, "SOLVER.MAX_ITER", "2")
    Path(cfg.OUTPUT_DIR).mkdir(exist_ok=True)
    torch.manual_seed(0)
    trainer = DefaultTrainer(cfg)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.resume_or_load(resume=False)
    trainer.train()
    after = torch.load(tmp_path / "model_final.pth", weights_only=True)["model"]
    assert after.keys() >= {name for name, _ in trainer.model.named_parameters()}
    moved = [n for n, p in trainer.model.named_parameters() if not torch.equal(before[n], after[n])]
    assert len(moved) > 0.9 * len(list(trainer.model.parameters()))
