"""The warning that boxes miss what they learn."""

import logging

import torch
from detectron2.utils.events import EventStorage

from tests.engine.tiny import tiny_config
from vfnet.engine import Trainer
from vfnet.engine.hooks.divergence import DivergenceWarning
from vfnet.modeling.divergence import divergence_signs

DIVERGED, FINE, EMPTY = [0.0, 1e-6], [0.5, 0.0], []


class Run:
    """What a hook sees of a trainer."""

    def __init__(self, *hooks):
        self.iter, self.hooks = 0, hooks
        for hook in hooks:
            hook.trainer = self

    def steps(self, *ious):
        with EventStorage(self.iter) as self.storage:
            for of_step in ious:
                signs = divergence_signs([torch.ones(1)], torch.tensor(of_step))
                mean = sum(of_step) / max(len(of_step), 1)
                scalars = {"vfnet/mean_iou_refined": mean, "vfnet/mean_iou_initial": 0.0}
                scalars |= {f"vfnet/{name}": float(value) for name, value in signs.items()}
                self.storage.put_scalars(cur_iter=self.iter, **scalars)
                for hook in self.hooks:
                    hook.after_step()
                self.iter += 1
                self.storage.iter = self.iter


def test_it_is_said_once_after_as_many_iterations_in_a_row(caplog):
    hook = DivergenceWarning(patience=4)
    run = Run(hook)
    with caplog.at_level(logging.WARNING):
        run.steps(DIVERGED, DIVERGED, DIVERGED, FINE, DIVERGED, EMPTY, DIVERGED, EMPTY, DIVERGED)
        assert not caplog.records  # one that is fine ends the row, one without a box does not
        run.steps(EMPTY, DIVERGED, DIVERGED, EMPTY, DIVERGED)
    (record,) = caplog.records
    assert "In 4 iterations in a row more than 90% of the positives" in record.message
    assert "SOLVER.BASE_LR" in record.message and "SOLVER.CLIP_GRADIENTS" in record.message
    assert hook.state_dict() == {"in_a_row": 6}


def test_a_continued_run_goes_on_counting(caplog):
    first = DivergenceWarning(patience=3)
    assert first.state_dict() == {}
    Run(first).steps(DIVERGED, DIVERGED)
    second = DivergenceWarning(patience=3)
    second.load_state_dict(first.state_dict())
    with caplog.at_level(logging.WARNING):
        Run(second).steps(DIVERGED)
    assert len(caplog.records) == 1


def test_a_trainer_has_it_and_its_count_is_in_the_checkpoint(tmp_path):
    trainer = Trainer(tiny_config(tmp_path))
    (hook,) = [hook for hook in trainer._hooks if isinstance(hook, DivergenceWarning)]
    hook.in_a_row = 7
    trainer.iter = 0
    state = trainer.state_dict()
    hook.in_a_row = 0
    trainer.load_state_dict(state)
    assert hook.in_a_row == 7
