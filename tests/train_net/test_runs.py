"""The command `train_net.py`: arguments, runs that continue, processes, evaluation."""

import json
import logging
import os

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog

from tests.engine.tiny import CONFIG
from tests.train_net.runs import EVERYTHING_RANDOM, weights
from vfnet.data.datasets.shapes import load_shapes
from vfnet.engine import check_run, load_config


@pytest.mark.parametrize(
    "words, resume, required, overrides",
    [
        ([], False, False, []),
        (["--resume"], True, True, []),
        (["--resume", "OUTPUT_DIR", "out"], True, True, ["OUTPUT_DIR", "out"]),
        (["--resume", "auto", "OUTPUT_DIR", "out"], True, False, ["OUTPUT_DIR", "out"]),
        (["--resume=auto"], True, False, []),
        (["--resume-auto", "--num-gpus", "2"], True, False, []),
        (["OUTPUT_DIR", "auto"], False, False, ["OUTPUT_DIR", "auto"]),
    ],
)
def test_resume_on_the_command_line(train_net, words, resume, required, overrides):
    args = train_net.parse_args(["--config-file", "a.yaml", *words])
    assert (args.resume, args.resume_required, args.opts) == (resume, required, overrides)


def test_a_run_publishes_its_class_names(train_net, monkeypatch, tmp_path):
    """For data that was registered without names."""
    DatasetCatalog.register("bare", lambda: load_shapes("val")[:2])
    monkeypatch.setattr(train_net, "default_setup", lambda cfg, args: None)
    monkeypatch.setattr(train_net, "setup_logger", lambda *args, **more: logging.getLogger())
    words = ["DATASETS.TRAIN", "('far_away',)", "DATASETS.TEST", "('bare',)"]
    words += ["OUTPUT_DIR", str(tmp_path), "MODEL.VFNET.CLASS_NAMES", "['a', 'b', 'c']"]
    train_net.setup(train_net.parse_args(["--config-file", str(CONFIG), "--eval-only", *words]))
    for name in ("bare", "far_away"):
        assert MetadataCatalog.get(name).thing_classes == ["a", "b", "c"]


@pytest.mark.parametrize("enabled", [True, False])
def test_training_in_mixed_precision_avoids_amx(train_net, monkeypatch, tmp_path, enabled):
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA")  # set for all tests
    words = ["SOLVER.AMP.ENABLED", str(enabled), "SOLVER.AMP.PRECISION", "bfloat16"]
    words += ["OUTPUT_DIR", str(tmp_path)]
    monkeypatch.setattr(train_net, "default_setup", lambda cfg, args: None)
    monkeypatch.setattr(train_net, "setup_logger", lambda *args, **more: logging.getLogger())
    train_net.setup(train_net.parse_args(["--config-file", str(CONFIG), *words]))
    assert os.environ.get("ONEDNN_MAX_CPU_ISA") == ("AVX512_CORE_BF16" if enabled else None)


def test_a_run_writes_its_config_its_metrics_and_its_checkpoints(six_iterations):
    names = {path.name for path in six_iterations.iterdir()}
    assert names >= {"config.yaml", "log.txt", "metrics.json", "last_checkpoint"}
    assert names >= {"model_0000002.pth", "model_0000005.pth", "model_final.pth"}
    assert any(name.startswith("events.out.tfevents") for name in names)
    page = (six_iterations / "run.html").read_text(encoding="utf-8")
    assert "finished after 6 iterations" in page and page.count("<svg") == 3
    # How to go on with it, from where it was started.
    assert f"train_net.py --config-file {six_iterations}/config.yaml --resume" in page
    metrics = json.loads((six_iterations / "metrics.json").read_text().splitlines()[-1])
    assert metrics["iteration"] == 5
    assert metrics.keys() >= {"loss_cls", "loss_box_init", "loss_box_refined", "vfnet/num_pos"}


def test_the_batch_size_is_said_to_be_literal_only_at_the_published_rate(six_iterations):
    assert "taken literally" not in (six_iterations / "log.txt").read_text()


def test_a_continued_run_ends_with_the_same_bits(six_iterations, command, tmp_path):
    stopped = (six_iterations / "model_0000002.pth").read_bytes()
    (tmp_path / "model_0000002.pth").write_bytes(stopped)
    (tmp_path / "last_checkpoint").write_text("model_0000002.pth")
    # Workers change who loads a batch and when, not what is in it.
    done = command(
        *("--resume", "OUTPUT_DIR", tmp_path, "DATALOADER.NUM_WORKERS", "2"),
        *EVERYTHING_RANDOM,
        fresh=True,  # other hashes, as after a real restart
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Starting training from iteration 3" in done.stdout
    expected = weights(six_iterations / "model_final.pth")
    continued = weights(tmp_path / "model_final.pth")
    halfway = weights(tmp_path / "model_0000002.pth")
    assert continued.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(continued[name], value), name
    assert any(not torch.equal(continued[name], value) for name, value in halfway.items())


def test_two_cpu_processes_and_own_score(command, tmp_path):
    done = command(
        *("--num-gpus", "2", "--dist-url", "auto", "OUTPUT_DIR", tmp_path),
        *("SOLVER.MAX_ITER", "2", "SOLVER.BASE_LR", "0.01", "SOLVER.STEPS", "()"),
        *("DATASETS.TEST", "('shapes_val',)"),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("SOLVER.IMS_PER_BATCH 2 is taken literally") == 1
    assert "linear scaling gives BASE_LR 0.00125" in done.stdout
    assert "World size: 2" in done.stdout
    assert (tmp_path / "model_final.pth").is_file()
    last = json.loads((tmp_path / "metrics.json").read_text().splitlines()[-1])
    assert "bbox/AP" in last


def test_torchrun(command, tmp_path):
    done = command(
        *("OUTPUT_DIR", tmp_path, "SOLVER.MAX_ITER", "2"),
        launcher=("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "World size: 2" in done.stdout
    assert (tmp_path / "model_final.pth").is_file()


def test_evaluation_alone(command, six_iterations, tmp_path):
    done = command(
        *("--eval-only", "OUTPUT_DIR", tmp_path, "DATASETS.TEST", "('shapes_val',)"),
        *("MODEL.WEIGHTS", six_iterations / "model_final.pth"),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Evaluation results for shapes_val" in done.stdout
    assert "random weights" not in done.stdout
    assert not list(tmp_path.glob("*.pth"))


def test_a_diverged_run_ends_with_one_line(command, tmp_path):
    done = command(
        *("OUTPUT_DIR", tmp_path, "SOLVER.BASE_LR", "1e9", "SOLVER.CHECKPOINT_PERIOD", "1"),
        *("SOLVER.WARMUP_FACTOR", "1.0"),
    )
    assert done.returncode == 1
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and "loss not finite at iteration 1: loss_" in errors[0]
    page = (tmp_path / "run.html").read_text(encoding="utf-8")
    assert "it ended with: vfnet.engine.step.NonFiniteLossError: loss" in page
    assert "Traceback" not in done.stderr + done.stdout
    assert "NonFiniteLossError" in (tmp_path / "log.txt").read_text()
    assert (tmp_path / "last_checkpoint").read_text() == "model_0000000.pth"


def test_a_fresh_run_in_a_used_folder_is_warned_of(six_iterations, tmp_path):
    def lines(folder, resuming):
        cfg = load_config(str(CONFIG), ["OUTPUT_DIR", str(folder)])
        return check_run(cfg, cfg.DATASETS.TRAIN, "", training=True, resuming=resuming)

    (line,) = lines(six_iterations, resuming=False)
    assert f"{six_iterations} holds checkpoints of an earlier run" in line
    assert lines(six_iterations, resuming=True) == lines(tmp_path, resuming=False) == []
