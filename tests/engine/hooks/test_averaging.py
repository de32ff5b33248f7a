"""The averages of SOLVER.SWA and SOLVER.EMA: what they are of, on resume and after a failure."""

import json
import shutil

import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.engine import DefaultPredictor
from detectron2.modeling import build_model

from tests.engine.tiny import GivenBatches, nan_picture, picture, tiny_config, train_on
from vfnet.engine import NonFiniteLossError, Trainer
from vfnet.engine.hooks import averaging, publishing
from vfnet.errors import UserError

BATCHES = [[picture(seed)] for seed in range(1, 5)]
CYCLES = ("SOLVER.SWA.ENABLED", "True", "SOLVER.SWA.CYCLES", "2")
SWA = (*CYCLES, "SOLVER.CHECKPOINT_PERIOD", "1", "TEST.PRECISE_BN.NUM_ITER", "3")
EMA = ("SOLVER.EMA.ENABLED", "True", "SOLVER.EMA.DECAY", "0.75", "SOLVER.CHECKPOINT_PERIOD", "1")
MOVING = ("MODEL.VFNET.BACKBONE_NORM_EVAL", "False")
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def weights(folder, name):
    return torch.load(folder / f"{name}.pth", weights_only=True)["model"]


def assert_same(one, other):
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


def assert_mean(found, parts, factors):
    """`found` is the sum of weights times factors, statistics of batch norms apart."""
    for name, value in found.items():
        if not name.endswith(STATISTICS):
            expected = sum(f * part[name].double() for f, part in zip(factors, parts))
            torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-7)


def start(folder, *overrides, max_iter=4):
    class Given(GivenBatches):
        batches = BATCHES

    trainer = Given(tiny_config(folder, "SOLVER.MAX_ITER", str(max_iter), *overrides))
    trainer.resume_or_load(resume=True)
    return trainer


def test_swa_is_the_mean_of_the_ends_of_cycles(tmp_path):
    train_on(tiny_config(tmp_path, *SWA), *BATCHES)
    first, last = weights(tmp_path, "model_0000001"), weights(tmp_path, "model_final")
    assert_mean(weights(tmp_path, "model_swa"), [first, last], [0.5, 0.5])
    moved = max((first[name] - last[name]).abs().max() for name in first if "weight" in name)
    assert moved > 1e-4
    assert (tmp_path / "last_checkpoint").read_text() == "model_final.pth"
    assert torch.load(tmp_path / "model_swa.pth", weights_only=True).keys() == {"model"}


def test_the_rates_of_a_run_are_those_of_its_cycles(tmp_path):
    train_on(tiny_config(tmp_path, *SWA, "SOLVER.BASE_LR", "0.01"), *BATCHES)
    lines = (tmp_path / "metrics.json").read_text().splitlines()
    # (1 + cos(pi / 2)) / 2 = 0.5, of the last of four iterations
    assert json.loads(lines[-1])["lr"] == pytest.approx(0.0001 + 0.5 * 0.0099)


def test_fixed_statistics_stay_what_they_were(tmp_path):
    trainer = train_on(tiny_config(tmp_path, *SWA), *BATCHES)
    raw, average = trainer.model.state_dict(), weights(tmp_path, "model_swa")
    names = [name for name in raw if name.endswith(STATISTICS)]
    assert names and all(torch.equal(raw[name], average[name]) for name in names)


def test_moving_statistics_are_those_of_the_average_on_training_data(tmp_path):
    trainer = train_on(tiny_config(tmp_path, *SWA, *MOVING), *BATCHES)
    average = weights(tmp_path, "model_swa")
    model = trainer.model
    mode = [module.training for module in model.modules()]
    # The first batch norm sees what no other has changed: the stem's convolution.
    stem = "backbone.bottom_up.stem.conv1"
    seen = []
    for batch in BATCHES[:3]:  # TEST.PRECISE_BN.NUM_ITER
        image = model.preprocess_image(batch).tensor
        out = torch.nn.functional.conv2d(image, average[f"{stem}.weight"], stride=2, padding=3)
        seen.append(out.transpose(0, 1).flatten(1))
    seen = torch.cat(seen, dim=1).double()
    mean, variance = average[f"{stem}.norm.running_mean"], average[f"{stem}.norm.running_var"]
    torch.testing.assert_close(mean.double(), seen.mean(1), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(variance.double(), seen.var(1, unbiased=False), rtol=1e-3, atol=1e-4)
    # The trained model keeps its own, and the metrics are those of training.
    assert_same(dict(model.state_dict()), weights(tmp_path, "model_final"))
    assert [module.training for module in model.modules()] == mode
    lines = (tmp_path / "metrics.json").read_text().splitlines()
    assert [json.loads(line)["iteration"] for line in lines] == [3]


def test_ema_follows_its_formula_from_the_first_iteration(tmp_path):
    train_on(tiny_config(tmp_path, *EMA, *MOVING), *BATCHES[:3])
    names = ("model_0000000", "model_0000001", "model_final")
    parts = [weights(tmp_path, name) for name in names]
    factors = [0.75**2, 0.75 * 0.25, 0.25]
    found = weights(tmp_path, "model_ema")
    assert_mean(found, parts, factors)
    name = "backbone.bottom_up.stem.conv1.norm.running_mean"
    expected = sum(f * part[name] for f, part in zip(factors, parts))
    torch.testing.assert_close(found[name], expected, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(found[name], parts[-1][name], rtol=1e-3)


def test_averages_are_off_by_default(tmp_path):
    train_on(tiny_config(tmp_path), *BATCHES[:1])
    assert [path.name for path in tmp_path.glob("*.pth")] == ["model_final.pth"]
    state = torch.load(tmp_path / "model_final.pth", weights_only=True)["trainer"]
    assert not {"SWA", "EMA"} & state["hooks"].keys()


@pytest.mark.parametrize("after", [1, 3, 4], ids=["first cycle", "second cycle", "the end"])
def test_a_continued_run_ends_with_the_same_averages(tmp_path, after):
    whole, continued = tmp_path / "whole", tmp_path / "continued"
    overrides = (*SWA, *EMA, *MOVING)
    train_on(tiny_config(whole, *overrides), *BATCHES)
    continued.mkdir()
    name = "model_final" if after == 4 else f"model_{after - 1:07d}"
    shutil.copy(whole / f"{name}.pth", continued)
    (continued / "last_checkpoint").write_text(f"{name}.pth")
    trainer = start(continued, *overrides)
    assert trainer.start_iter == after
    trainer.train()
    for name in ("model_final", "model_swa", "model_ema"):
        assert_same(weights(continued, name), weights(whole, name))


def test_cycles_cannot_change_on_the_way(tmp_path):
    train_on(tiny_config(tmp_path, *SWA), *BATCHES)
    (tmp_path / "last_checkpoint").write_text("model_0000002.pth")
    trainer = start(tmp_path, *SWA, "SOLVER.SWA.CYCLES", "4")
    with pytest.raises(UserError, match="after 3 iterations averages 1 cycle ends.*there were 3"):
        trainer.train()


def test_a_finished_run_without_an_average_gets_none(tmp_path):
    train_on(tiny_config(tmp_path), *BATCHES[:1])
    start(tmp_path, *EMA, max_iter=1).train()
    assert [path.name for path in tmp_path.glob("*.pth")] == ["model_final.pth"]


@pytest.mark.parametrize("names", ["('shapes_val',)", "('shapes_val', 'shapes_train')"])
def test_raw_and_averaged_weights_are_scored_and_told_apart(tmp_path, monkeypatch, names):
    def score(self, cfg, model):
        raw = model is self.model
        assert cfg.OUTPUT_DIR == str(tmp_path if raw else tmp_path / "swa")
        results = {"bbox": {"AP": 51.46 if raw else 52.34}, "vfnet": {"num_gt": 7.0}}
        sets = cfg.DATASETS.TEST
        return results if len(sets) == 1 else {sets[0]: results, sets[1]: {"bbox": {"AP": 1.0}}}

    lines = []
    monkeypatch.setattr(Trainer, "test", score)
    monkeypatch.setattr(publishing.logger, "info", lines.append)
    expected = ("TEST.EXPECTED_RESULTS", "[['bbox', 'AP', 51.4, 0.1]]") if "," not in names else ()
    train_on(tiny_config(tmp_path, *SWA, *expected, "DATASETS.TEST", names), *BATCHES)
    one = names.endswith(",)")
    ap = "AP" if one else "shapes_val/bbox/AP"
    assert lines == [
        f"raw weights model_final.pth: {ap} 51.5; average of 2 cycle ends model_swa.pth: {ap} 52.3"
    ]
    row = json.loads((tmp_path / "metrics.json").read_text().splitlines()[-1])
    metric = "bbox/AP" if one else ap
    assert (row[metric], row[f"swa/{metric}"]) == (51.46, 52.34)
    assert row[f"swa/{metric}".replace("bbox/AP", "vfnet/num_gt")] == 7


def test_without_test_data_the_files_are_told_apart_too(tmp_path, monkeypatch):
    lines = []
    monkeypatch.setattr(publishing.logger, "info", lines.append)
    train_on(tiny_config(tmp_path, *EMA), *BATCHES[:1])
    assert lines == [
        "raw weights model_final.pth: not scored; "
        "moving average (decay 0.75) model_ema.pth: not scored"
    ]


@pytest.mark.parametrize("bad", [2, 3], ids=["in mid-run", "in the last iteration"])
def test_after_a_failure_nothing_is_averaged_or_scored(tmp_path, monkeypatch, bad):
    scored = []
    monkeypatch.setattr(Trainer, "test", lambda *args: scored.append(args))
    batches = [*BATCHES]
    batches[bad] = [nan_picture()]
    settings = (*SWA, *EMA, "DATASETS.TEST", "('shapes_val',)", "TEST.EVAL_PERIOD", "4")
    with pytest.raises(NonFiniteLossError):
        train_on(tiny_config(tmp_path, *settings), *batches)
    assert not scored
    assert not {"model_swa.pth", "model_ema.pth", "model_best.pth"} & {
        path.name for path in tmp_path.iterdir()
    }


def test_detectron2_alone_loads_and_predicts_with_an_average(tmp_path):
    cfg = tiny_config(tmp_path, *CYCLES)
    train_on(cfg, *BATCHES[:2])
    model = build_model(cfg)
    path = str(tmp_path / "model_swa.pth")
    DetectionCheckpointer(model).load(path)
    assert_same(dict(model.state_dict()), weights(tmp_path, "model_swa"))
    cfg.MODEL.WEIGHTS, cfg.MODEL.VFNET.SCORE_THRESH_TEST = path, 0.0
    image = picture(1)["image"].permute(1, 2, 0).byte().numpy()
    assert len(DefaultPredictor(cfg)(image)["instances"]) > 0


@pytest.mark.parametrize(
    "overrides, file, words",
    [
        ([*EMA, "SOLVER.EMA.DECAY", "1.0"], "", "SOLVER.EMA.DECAY .* between 0 and 1, got 1.0"),
        ([*EMA, "SOLVER.EMA.DECAY", "-0.5"], "", "got -0.5"),
        (SWA, "", "MODEL.WEIGHTS is empty"),
        ([*SWA, "MODEL.VFNET.NORM", "BN"], "model.pth", "MODEL.VFNET.NORM 'BN'.*SOLVER.EMA"),
        ([*SWA, "TEST.PRECISE_BN.NUM_ITER", "0"], "model.pth", "NUM_ITER .* got 0"),
    ],
)
def test_what_cannot_be_averaged_is_refused(tmp_path, overrides, file, words):
    cfg = tiny_config(tmp_path)
    cfg.merge_from_list(list(overrides))
    with pytest.raises(UserError, match=words):
        averaging.check_averaging(cfg, build_model(cfg), file)


@pytest.mark.parametrize("overrides", [EMA, [*EMA, "MODEL.VFNET.NORM", "BN"], [*SWA, *MOVING]])
def test_what_can_be_averaged_is_not_refused(tmp_path, overrides):
    cfg = tiny_config(tmp_path, *overrides)
    averaging.check_averaging(cfg, build_model(cfg), "model.pth")
