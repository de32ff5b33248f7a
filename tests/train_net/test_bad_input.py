"""The command `train_net.py`: bad input is one line, and overwrites nothing."""

import json

import pytest
import torch
from PIL import Image

from tests.train_net.runs import snapshot, weights


def test_bad_input_to_the_real_command(command, six_iterations):
    before = snapshot(six_iterations)
    done = command("--resume", "OUTPUT_DIR", six_iterations, "SOLVER.MAX_ITERS", "9")
    assert done.returncode == 1
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "SOLVER.MAX_ITERS does not exist; did you mean SOLVER.MAX_ITER" in errors[0]
    assert "Traceback" not in done.stderr + done.stdout
    assert snapshot(six_iterations) == before


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


def test_an_override_that_would_run_code(fails, tmp_path):
    path = tmp_path / "hostile.yaml"
    path.write_text(f"SEED: !!python/object/apply:os.mkdir ['{tmp_path / 'made'}']")
    assert "hostile.yaml, line 1: the tag !!python/object/apply" in fails("--override", path)
    assert not (tmp_path / "made").exists()


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
    assert "nothing can be built from SOLVER" in fails("SOLVER.STEPS", "(6,)")


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


def test_the_name_of_a_file_forges_no_error(fails, own_data):
    entry = own_data("own_forged")
    with open(entry[1], encoding="utf-8") as file:
        content = json.load(file)
    content["images"][0]["file_name"] = "a.png\nerror: b\x1b[2J"
    with open(entry[1], "w", encoding="utf-8") as file:
        json.dump(content, file)
    error = fails("DATASETS.COCO_FORMAT", [entry], "DATASETS.TRAIN", f"('{entry[0]}',)")
    assert "1 images whose file_name holds control characters" in error
    assert "\x1b" not in error and "\nerror: b" not in error


def test_own_data_to_evaluate_on_is_strict_too(fails, own_data):
    entry = own_data("own_strict", bbox=[30, 1, 20, 9])
    error = fails(
        *("--eval-only", "DATASETS.COCO_FORMAT", [entry], "DATASETS.STRICT", "True"),
        *("DATASETS.TEST", f"('{entry[0]}',)"),
    )
    assert "DATASETS.STRICT: 1 boxes stick out" in error


def test_own_data_in_shares_of_the_picture_is_an_error_where_strict(fails, own_data):
    entry = own_data("own_shares", bbox=[0.1, 0.2, 0.3, 0.4])
    error = fails(
        *("DATASETS.COCO_FORMAT", [entry], "DATASETS.STRICT", "True"),
        *("DATASETS.TRAIN", f"('{entry[0]}',)", "DATASETS.TEST", f"('{entry[0]}',)"),
    )
    assert "own_shares: 1 of 1 boxes are at most a pixel wide and high" in error
    assert "own_shares: 1 of 1 pictures are trained on as well" in error


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
