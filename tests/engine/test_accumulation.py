"""Gradients in parts: those of the whole batch, for every detector that divides by sums over it."""

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage

from vfnet.engine import NonFiniteLossError, StepTrainer, Trainer, check_run
from vfnet.engine.accumulation import accumulation_warnings
from vfnet.errors import UserError
from vfnet.solver import build_optimizer

from .tiny import GivenBatches, nan_picture, picture, tiny_config, train_on
from .tiny_family import CONFIGS
from .tiny_libra import libra_config

DENSE = {"vfnet": tiny_config, **{name: c for name, c in CONFIGS.items() if name != "libra"}}
EMA = ("MODEL.RETINANET.LOSS_NORMALIZER", "ema")  # has a state
MOVING = ("MODEL.RESNETS.NORM_EVAL", "False")
# The first is not the largest, and one has no box.
BATCH = [
    picture(1, size=(80, 112)),
    picture(2, num_boxes=1, size=(128, 96)),
    picture(3, num_boxes=0, size=(96, 128)),
    picture(4, num_boxes=5, size=(96, 96)),
]


def build_trainer(cfg, accum_steps, batch=BATCH, **options):
    torch.manual_seed(0)
    model = build_model(cfg)
    optimizer = build_optimizer(cfg, model)
    return StepTrainer(model, [batch], optimizer, accum_steps=accum_steps, **options)


def step(trainer):
    """Take the first step; return what it writes."""
    trainer.iter = 0
    with EventStorage() as storage:
        trainer.run_step()
    return {name: value for name, (value, _) in storage.latest().items()}


def gradients(trainer):
    return {name: p.grad for name, p in trainer.model.named_parameters() if p.requires_grad}


def check_same_gradients(parts, whole):
    largest = max(gradient.abs().max() for gradient in gradients(whole).values())
    for name, gradient in gradients(whole).items():
        difference = (gradients(parts)[name] - gradient).abs().max()
        assert difference <= 1e-5 * largest, name


@pytest.mark.parametrize("name, steps", [*((name, 2) for name in DENSE), ("vfnet", 4)])
def test_a_step_in_parts_is_that_of_the_whole_batch(name, steps, tmp_path):
    cfg = DENSE[name](tmp_path, *EMA)
    whole, parts = build_trainer(cfg, 1), build_trainer(cfg, steps)
    expected, found = step(whole), step(parts)
    assert found.keys() == expected.keys()
    for scalar in expected.keys() - {"data_time", "rank_data_time"}:
        assert found[scalar] == pytest.approx(expected[scalar], rel=1e-5), scalar
    check_same_gradients(parts, whole)
    for ours, theirs in zip(parts.model.buffers(), whole.model.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=0)


def test_both_passes_draw_the_same_and_no_statistic_moves_in_the_first(tmp_path):
    trainer = build_trainer(tiny_config(tmp_path, *MOVING), 2)
    norm, seen = trainer.model.backbone.bottom_up.stem.conv1.norm, []

    def note(*_):
        seen.append((torch.is_grad_enabled(), torch.rand(()).item(), norm.running_mean.sum()))

    trainer.model.backbone.register_forward_pre_hook(note)
    step(trainer)
    with_gradient, drawn, means = zip(*seen)
    assert with_gradient == (False, False, True, True)
    assert drawn[:2] == drawn[2:] and drawn[0] != drawn[1]
    assert means[0] == means[2] != means[3]
    assert norm.num_batches_tracked == 2


def test_autocast_keeps_nothing_of_the_first_pass(tmp_path):
    # A weight that was cast without gradient, and used again with one, would get none.
    cfg, batch = tiny_config(tmp_path), [picture(seed, size=(64, 64)) for seed in (1, 2)]
    whole, parts = (build_trainer(cfg, n, batch, precision=torch.bfloat16) for n in (1, 2))
    step(whole), step(parts)
    for name, gradient in gradients(whole).items():
        if gradient.abs().max() > 0:
            assert gradients(parts)[name].abs().max() > 0, name


def test_a_loss_that_is_not_finite_names_the_pictures_and_changes_no_weight(tmp_path):
    trainer = build_trainer(tiny_config(tmp_path), 2, [picture(1), nan_picture()])
    before = [p.clone() for p in trainer.model.parameters()]
    with pytest.raises(NonFiniteLossError, match=r"images: picture1.jpg, picture3.jpg"):
        step(trainer)
    assert all(torch.equal(p, old) for p, old in zip(trainer.model.parameters(), before))


def test_losses_of_an_r_cnn_are_the_mean_over_the_parts(tmp_path):
    cfg = libra_config(tmp_path)
    alone = [step(build_trainer(cfg, 1, [record]))["loss_rpn_cls"] for record in BATCH[::3]]
    trainer = build_trainer(cfg, 2, BATCH[::3])
    # The sampler of the second picture draws on, so that its loss is near, not the same.
    assert step(trainer)["loss_rpn_cls"] == pytest.approx(sum(alone) / 2, rel=0.02)
    (line,) = accumulation_warnings(trainer.model, 2)
    assert "losses of GeneralizedRCNN are the mean" in line


@pytest.mark.parametrize("overrides, lines", [((), 0), (MOVING, 1)])
def test_norms_that_learn_statistics_are_warned_of(tmp_path, overrides, lines):
    cfg = tiny_config(tmp_path, "SOLVER.ACCUM_STEPS", "2", *overrides)
    found = [line for line in check_run(cfg, [], "", training=True) if "ACCUM_STEPS" in line]
    assert len(found) == lines
    assert all("batch norms that learn their statistics see one part" in line for line in found)


@pytest.mark.parametrize("steps", [0, 3])
def test_parts_that_do_not_divide_the_batch_are_refused(tmp_path, steps):
    cfg = tiny_config(tmp_path, "SOLVER.ACCUM_STEPS", str(steps))
    pattern = f"SOLVER.ACCUM_STEPS is {steps}: it has to divide the 2 images"
    with pytest.raises(UserError, match=pattern):
        check_run(cfg, [], "", training=True)
    with pytest.raises(UserError, match=pattern):
        Trainer(cfg)


def test_a_continued_run_is_the_uninterrupted_one_bit_for_bit(tmp_path):
    more = ("SOLVER.ACCUM_STEPS", "2", "SEED", "1", *EMA)
    batches = [[picture(seed), picture(seed + 10)] for seed in (1, 2, 3)]
    train_on(CONFIGS["retinanet"](tmp_path / "whole", *more), *batches)
    train_on(CONFIGS["retinanet"](tmp_path / "parts", *more), *batches[:2])

    class Given(GivenBatches):
        pass

    Given.batches = batches
    trainer = Given(CONFIGS["retinanet"](tmp_path / "parts", *more, "SOLVER.MAX_ITER", "3"))
    trainer.resume_or_load(resume=True)
    trainer.train()
    whole, parts = (
        torch.load(tmp_path / run / "model_final.pth", weights_only=True)["model"]
        for run in ("whole", "parts")
    )
    assert all(torch.equal(parts[name], value) for name, value in whole.items())
