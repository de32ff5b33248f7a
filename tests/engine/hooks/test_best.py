"""The best checkpoint: which weights it has, and that a run goes on from the newest."""

import shutil

import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.modeling import build_model
from safetensors.torch import load_file

from tests.engine.tiny import GivenBatches, picture, tiny_config, train_on
from vfnet.engine import Trainer

BATCHES = [[picture(seed)] for seed in range(1, 5)]
EACH = ("SOLVER.CHECKPOINT_PERIOD", "1", "TEST.EVAL_PERIOD", "1")
ONE_SET = ("DATASETS.TEST", "('shapes_val',)")


@pytest.fixture
def scored(monkeypatch):
    """A function: the evaluations to come give these results; a number is the AP."""

    def give(*results):
        left = [{"bbox": {"AP": r}} if isinstance(r, (int, float)) else r for r in results]
        monkeypatch.setattr(Trainer, "test", lambda *_: left.pop(0))
        return left

    return give


def weights(folder, name):
    return torch.load(folder / f"{name}.pth", weights_only=True)["model"]


def equal(one, other):
    return all(torch.equal(one[name], other[name]) for name in {*one, *other})


def continue_run(folder, *overrides):
    """Continue a run of four iterations from the checkpoint named last."""

    class Given(GivenBatches):
        batches = BATCHES

    cfg = tiny_config(folder, "SOLVER.MAX_ITER", "4", *overrides)
    trainer = Given(cfg)
    trainer.resume_or_load(resume=True)
    trainer.train()


def test_the_best_of_four_evaluations_is_kept_and_the_last_is_continued(tmp_path, scored):
    scored(10.0, 30.0, 20.0, 25.0)
    train_on(tiny_config(tmp_path, *EACH, *ONE_SET), *BATCHES)
    best = torch.load(tmp_path / "model_best.pth", weights_only=True)
    assert equal(best["model"], weights(tmp_path, "model_0000001"))
    assert not equal(best["model"], weights(tmp_path, "model_0000002"))
    assert (best["iteration"], best["best"]["score"]) == (2, 30.0)
    assert "trainer" not in best
    assert (tmp_path / "last_checkpoint").read_text() == "model_final.pth"


def test_the_last_evaluation_may_be_the_best(tmp_path, scored):
    scored(10.0, 30.0, 20.0, 35.0)
    train_on(tiny_config(tmp_path, *EACH, *ONE_SET), *BATCHES)
    assert equal(weights(tmp_path, "model_best"), weights(tmp_path, "model_final"))


def test_safetensors_are_written_beside_it_and_change_nothing(tmp_path, scored):
    settings = (*EACH, *ONE_SET, "SOLVER.EMA.ENABLED", "True", "SOLVER.SAFETENSORS")
    for name, value in (("with", "True"), ("without", "False")):
        (tmp_path / name).mkdir()
        scored(10.0, 30.0, 10.0, 30.0)  # after each iteration, and of the average
        train_on(tiny_config(tmp_path / name, *settings, value), *BATCHES[:2])
    written = sorted(path.stem for path in (tmp_path / "with").glob("*.safetensors"))
    assert written == ["model_best", "model_ema", "model_final"]
    for name in written:
        expected = weights(tmp_path / "without", name)
        assert equal(load_file(tmp_path / "with" / f"{name}.safetensors"), expected)
        assert equal(weights(tmp_path / "with", name), expected)
    assert not list((tmp_path / "without").glob("*.safetensors"))
    assert (tmp_path / "with" / "last_checkpoint").read_text() == "model_final.pth"


def test_detectron2s_checkpointer_loads_it(tmp_path, scored):
    scored(10.0)
    cfg = tiny_config(tmp_path, *EACH, *ONE_SET)
    train_on(cfg, *BATCHES[:1])
    model = build_model(cfg)
    DetectionCheckpointer(model).load(str(tmp_path / "model_best.pth"))
    assert equal(dict(model.state_dict()), weights(tmp_path, "model_final"))


def test_a_run_killed_after_an_evaluation_goes_on_with_its_best_score(tmp_path, scored):
    first, second = tmp_path / "first", tmp_path / "second"
    scored(10.0, 30.0, 20.0, 25.0)
    train_on(tiny_config(first, *EACH, *ONE_SET), *BATCHES)
    second.mkdir()
    # This checkpoint was written before the evaluation that gave 30.
    for name in ("model_0000001.pth", "model_best.pth"):
        shutil.copy(first / name, second / name)
    (second / "last_checkpoint").write_text("model_0000001.pth")
    before = (second / "model_best.pth").read_bytes()
    left = scored(30.0, 20.0, 25.0)
    continue_run(second, *EACH, *ONE_SET)
    assert not left
    assert (second / "model_best.pth").read_bytes() == before


def test_an_evaluation_that_a_kill_cut_short_is_made_up(tmp_path, scored):
    first, second = tmp_path / "first", tmp_path / "second"
    scored(10.0, 30.0, 20.0, 25.0)
    train_on(tiny_config(first, *EACH, *ONE_SET), *BATCHES)
    second.mkdir()
    # Killed before the evaluation that gives 30 had ended: the best file is of an earlier one.
    shutil.copy(first / "model_0000001.pth", second)
    (second / "last_checkpoint").write_text("model_0000001.pth")
    left = scored(30.0, 20.0, 25.0)
    continue_run(second, *EACH, *ONE_SET)
    assert not left
    assert equal(weights(second, "model_best"), weights(first, "model_best"))
    content = torch.load(second / "model_best.pth", weights_only=True)
    assert (content["iteration"], content["best"]["score"]) == (2, 30.0)


def test_between_evaluations_none_is_made_up(tmp_path, scored):
    every_second = ("SOLVER.CHECKPOINT_PERIOD", "1", "TEST.EVAL_PERIOD", "2", *ONE_SET)
    scored(10.0, 30.0)
    train_on(tiny_config(tmp_path, *every_second), *BATCHES)
    (tmp_path / "last_checkpoint").write_text("model_0000002.pth")
    left = scored(30.0)
    continue_run(tmp_path, *every_second)
    assert not left


def test_the_best_of_another_run_or_of_other_data_is_none_to_surpass(tmp_path, scored):
    cfg = tiny_config(tmp_path, *EACH, *ONE_SET)
    scored(90.0)
    train_on(cfg, *BATCHES[:1])
    scored(10.0, 5.0, 6.0, 4.0)
    train_on(cfg, *BATCHES)
    assert equal(weights(tmp_path, "model_best"), weights(tmp_path, "model_0000000"))
    (tmp_path / "last_checkpoint").write_text("model_0000002.pth")
    scored(6.0, 7.0)
    continue_run(tmp_path, *EACH, "DATASETS.TEST", "('shapes_train',)")
    assert equal(weights(tmp_path, "model_best"), weights(tmp_path, "model_final"))


@pytest.mark.parametrize("nothing", [{}, {"bbox": {}}, float("nan")])
def test_without_an_ap_nothing_is_kept(tmp_path, scored, nothing):
    scored(nothing, nothing)
    train_on(tiny_config(tmp_path, *EACH, *ONE_SET), *BATCHES[:2])
    assert not (tmp_path / "model_best.pth").exists()


def test_of_several_test_sets_the_first_decides(tmp_path, scored):
    def of_both(first, second):
        results = {"shapes_val": {"bbox": {"AP": first}}, "shapes_train": {"bbox": {"AP": second}}}
        results["shapes_val"]["vfnet"] = {"num_gt": 3.0}
        return results

    scored(of_both(20.0, 10.0), of_both(10.0, 90.0))
    two_sets = ("DATASETS.TEST", "('shapes_val', 'shapes_train')")
    train_on(tiny_config(tmp_path, *EACH, *two_sets), *BATCHES[:2])
    assert equal(weights(tmp_path, "model_best"), weights(tmp_path, "model_0000000"))


@pytest.mark.parametrize("settings", [(*ONE_SET, "TEST.EVAL_PERIOD", "0"), EACH])
def test_without_evaluations_nothing_is_kept(tmp_path, scored, settings):
    scored(10.0)
    train_on(tiny_config(tmp_path, *settings), *BATCHES[:1])
    assert not (tmp_path / "model_best.pth").exists()
