"""The command `train_net.py`: arguments, runs that continue, processes, and bad input."""

import importlib.util
import json
import sys

import pytest
import torch
from PIL import Image

from vfnet.engine import check_run, load_config

from .engine.command import run_python
from .engine.tiny import CONFIG

# Flips, sizes, and batch norms whose statistics move: all that a continued run has to repeat.
EVERYTHING_RANDOM = (
    "INPUT.RANDOM_FLIP",
    "horizontal",
    "INPUT.MIN_SIZE_TRAIN_SAMPLING",
    "range",
    "MODEL.VFNET.BACKBONE_NORM_EVAL",
    "False",
)


@pytest.fixture(scope="module")
def train_net(request):
    """The script's module, for what needs no process of its own."""
    path = request.config.rootpath / "train_net.py"
    spec = importlib.util.spec_from_file_location("train_net_under_test", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def command(request):
    """Run the real command with these arguments."""

    def run(*arguments, launcher=(), config=CONFIG):
        script = request.config.rootpath / "train_net.py"
        return run_python(*launcher, script, "--config-file", config, *arguments)

    return run


@pytest.fixture(scope="module")
def six_iterations(command, tmp_path_factory):
    """The folder of a run of six iterations without interruption."""
    folder = tmp_path_factory.mktemp("six")
    done = command("OUTPUT_DIR", folder, *EVERYTHING_RANDOM)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def weights(path):
    return torch.load(path, weights_only=True)["model"]


def snapshot(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


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


def test_a_run_writes_its_config_its_metrics_and_its_checkpoints(six_iterations):
    names = {path.name for path in six_iterations.iterdir()}
    assert names >= {"config.yaml", "log.txt", "metrics.json", "last_checkpoint"}
    assert names >= {"model_0000002.pth", "model_0000005.pth", "model_final.pth"}
    assert any(name.startswith("events.out.tfevents") for name in names)
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
        *("OUTPUT_DIR", tmp_path, "SOLVER.BASE_LR", "1e30", "SOLVER.CHECKPOINT_PERIOD", "1"),
        *("SOLVER.WARMUP_FACTOR", "1.0"),
    )
    assert done.returncode == 1
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and "loss not finite at iteration 1: loss_" in errors[0]
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


def test_bad_input_to_the_real_command(command, six_iterations):
    before = snapshot(six_iterations)
    done = command("--resume", "OUTPUT_DIR", six_iterations, "SOLVER.MAX_ITERS", "9")
    assert done.returncode == 1
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "SOLVER.MAX_ITERS does not exist; did you mean SOLVER.MAX_ITER" in errors[0]
    assert "Traceback" not in done.stderr + done.stdout
    assert snapshot(six_iterations) == before


@pytest.fixture
def fails(train_net, six_iterations, monkeypatch, capsys):
    """Run the command in this process in the folder of the finished run; return its error.

    Nothing in the folder may have changed.
    """

    def run(*arguments, config=CONFIG):
        before = snapshot(six_iterations)
        words = ["--config-file", config, *arguments]
        if "OUTPUT_DIR" not in arguments:
            words += ["OUTPUT_DIR", six_iterations]
        monkeypatch.setattr(sys, "argv", ["train_net.py", *map(str, words)])
        with pytest.raises(SystemExit) as caught:
            train_net.invoke_main()
        assert caught.value.code == 1
        assert snapshot(six_iterations) == before
        lines = capsys.readouterr().err.splitlines()
        errors = [line for line in lines if line.startswith("error: ")]
        assert len(errors) == 1
        return errors[0]

    return run


def test_more_gpus_than_present(fails):
    asked = torch.cuda.device_count() + 2
    error = fails("--num-gpus", asked, "MODEL.DEVICE", "cuda")
    assert f"--num-gpus {asked}" in error and "MODEL.DEVICE cpu" in error


def test_coco_is_not_there(fails, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert "DETECTRON2_DATASETS" in fails("DATASETS.TRAIN", "('coco_2017_train',)")


def test_nothing_to_resume(fails, tmp_path):
    error = fails("--resume", "OUTPUT_DIR", tmp_path)
    assert str(tmp_path) in error and "--resume auto" in error
    assert not list(tmp_path.iterdir())


def test_the_checkpoint_to_resume_is_gone(fails, tmp_path):
    (tmp_path / "last_checkpoint").write_text("model_0000009.pth")
    assert "model_0000009.pth, which does not exist" in fails("--resume", "OUTPUT_DIR", tmp_path)


def test_a_config_that_is_no_yaml(fails, tmp_path):
    path = tmp_path / "broken.yaml"
    path.write_text("MODEL: [")
    error = fails(config=path)
    assert "broken.yaml is not valid yaml" in error


def test_a_truncated_checkpoint(fails, six_iterations, tmp_path):
    whole = (six_iterations / "model_final.pth").read_bytes()
    (tmp_path / "half.pth").write_bytes(whole[: len(whole) // 2])
    assert "half.pth" in fails("MODEL.WEIGHTS", tmp_path / "half.pth")


def test_a_checkpoint_of_another_model(fails, tmp_path):
    torch.save({"model": {"layer.weight": torch.zeros(2, 2)}}, tmp_path / "other.pth")
    assert "other.pth" in fails("MODEL.WEIGHTS", tmp_path / "other.pth")


def test_fewer_classes_than_the_data_has(fails):
    assert "shapes_train has 3 classes" in fails("MODEL.VFNET.NUM_CLASSES", "2")


def test_an_output_folder_that_cannot_be(fails, tmp_path):
    (tmp_path / "file").write_text("")
    assert "OUTPUT_DIR" in fails("OUTPUT_DIR", tmp_path / "file" / "out")


def test_float16_without_a_gpu(fails):
    assert "SOLVER.AMP.PRECISION bfloat16" in fails("SOLVER.AMP.ENABLED", "True")


def test_a_batch_that_processes_cannot_share(fails):
    assert "SOLVER.IMS_PER_BATCH" in fails("SOLVER.IMS_PER_BATCH", "0")


def test_nothing_to_train_on(fails):
    assert "DATASETS.TRAIN is empty" in fails("DATASETS.TRAIN", "()")


def test_nothing_to_evaluate_on(fails):
    assert "DATASETS.TEST is empty" in fails("--eval-only", "DATASETS.TEST", "()")


@pytest.mark.parametrize(
    "key", ["MODEL.META_ARCHITECTURE", "MODEL.BACKBONE.NAME", "SOLVER.LR_SCHEDULER_NAME"]
)
def test_a_part_that_does_not_exist(fails, tmp_path, key):
    error = fails(key, "Vfnett", "OUTPUT_DIR", tmp_path / "out")
    assert "Vfnett" in error and key.rpartition(".")[2] in error
    assert not list((tmp_path / "out").glob("*"))


def test_a_schedule_that_cannot_be(fails):
    assert "nothing can be built from SOLVER" in fails("SOLVER.STEPS", "(5, 3)")


def test_a_continued_run_keeps_its_classes(fails):
    assert "model_final.pth" in fails("--resume", "MODEL.VFNET.NUM_CLASSES", "4")


def test_evaluation_takes_no_weights_of_a_backbone(fails, six_iterations, tmp_path):
    backbone = {
        k: v for k, v in weights(six_iterations / "model_final.pth").items() if "head" not in k
    }
    torch.save({"model": backbone}, tmp_path / "backbone.pth")
    found = ("MODEL.WEIGHTS", tmp_path / "backbone.pth", "DATASETS.TEST", "('shapes_val',)")
    assert "backbone.pth" in fails("--eval-only", *found)


@pytest.fixture
def own_data(tmp_path):
    """A function that writes own data of one picture and one box; it returns the config's entry."""

    def make(name, picture=True, **changes):
        annotation = {"id": 1, "image_id": 7, "category_id": 1, "bbox": [1, 1, 9, 9], "area": 81}
        annotation = {**annotation, "iscrowd": 0, **changes}
        data = {
            "images": [{"id": 7, "file_name": "a.png", "width": 40, "height": 30}],
            "annotations": [{k: v for k, v in annotation.items() if v is not None}],
            "categories": [{"id": 1 + i, "name": f"{i}"} for i in range(3)],
        }
        if picture:
            Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
        (tmp_path / f"{name}.json").write_text(json.dumps(data))
        return [name, str(tmp_path / f"{name}.json"), str(tmp_path)]

    return make


def test_own_data_with_a_missing_picture(fails, own_data):
    entry = own_data("own_with_a_missing_picture", picture=False)
    use = ("DATASETS.COCO_FORMAT", [entry], "DATASETS.TRAIN", f"('{entry[0]}',)")
    assert "a.png" in fails(*use)


@pytest.mark.parametrize("changes", [{"area": None}, {"id": 0}])
def test_own_data_that_cannot_be_evaluated(fails, own_data, changes):
    entry = own_data(f"own_{next(iter(changes))}", **changes)
    sets = [word for key in ("TRAIN", "TEST") for word in (f"DATASETS.{key}", f"('{entry[0]}',)")]
    error = fails("DATASETS.COCO_FORMAT", [entry], *sets)
    assert f"{entry[0]}: 1 annotations lack" in error and "a.png" in error


def test_own_data_to_evaluate_on_is_strict_too(fails, own_data):
    entry = own_data("own_strict", bbox=[30, 1, 20, 9])
    error = fails(
        *("--eval-only", "DATASETS.COCO_FORMAT", [entry], "DATASETS.STRICT", "True"),
        *("DATASETS.TEST", f"('{entry[0]}',)"),
    )
    assert "DATASETS.STRICT: 1 boxes stick out" in error


def test_evaluation_of_own_data_says_what_is_odd_and_needs_no_training_file(
    command, six_iterations, own_data, tmp_path
):
    entry = own_data("own_odd", bbox=[30, 1, 20, 9], segmentation=[[1, 2]])
    gone = ["own_gone", str(tmp_path / "gone.json"), str(tmp_path)]
    done = command(
        *("--eval-only", "OUTPUT_DIR", tmp_path / "out"),
        *("MODEL.WEIGHTS", six_iterations / "model_final.pth"),
        *("DATASETS.COCO_FORMAT", [entry, gone], "DATASETS.TRAIN", "('own_gone',)"),
        *("DATASETS.TEST", "('own_odd',)", "MODEL.VFNET.SCORE_THRESH_TEST", "0.0"),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Evaluation results for own_odd" in done.stdout and "AP50" in done.stdout
    log = (tmp_path / "out" / "log.txt").read_text()
    assert log.count("own_odd: 1 boxes stick out of their image") == 1
    assert log.count("own_gone is left out") == 1
    assert "own_gone" in (tmp_path / "out" / "config.yaml").read_text()
