"""`train_net.py --eval-only` with an exported file in place of weights."""

import pytest

from tests.export.detectors import saved_detector, write_own_detections, write_pictures
from tests.extras import needs
from vfnet.errors import UserError
from vfnet.export.write import ExportOptions, export_detector

pytestmark = needs("export")

SIZE = (96, 128)


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """A config, and words that score an ONNX file on what its detector finds."""
    folder = tmp_path_factory.mktemp("exported")
    cfg, detector = saved_detector("vfnet", folder, two_levels=True, TOPK_CANDIDATES_TEST=50)
    json_file = write_own_detections(folder, detector, write_pictures(folder, *[SIZE] * 5))
    file = export_detector(cfg, "vfnet", folder / "file", ExportOptions("onnx", size=SIZE)).path
    cfg.DATASETS.COCO_FORMAT = [["own", str(json_file), str(folder)]]
    cfg.DATASETS.TEST = ("own",)
    config = folder / "config.yaml"
    config.write_text(cfg.dump())
    return config, ["--eval-only", "MODEL.WEIGHTS", str(file)]


def test_a_file_is_scored_as_its_weights_are_on_several_processes(command, case, tmp_path):
    """Ground truth is what the weights detect, of which AP is 100."""
    config, words = case
    expected = ["TEST.EXPECTED_RESULTS", [["bbox", "AP", 100.0, 0.01]]]
    folder = ["OUTPUT_DIR", tmp_path]
    done = command("--num-gpus", "2", *words, *expected, *folder, config=config)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Evaluation results for own" in done.stdout
    assert "Results verification passed" in done.stdout


@pytest.mark.parametrize(
    "pairs, message",
    [
        (("DATASETS.TEST", "('shapes_val',)"), "shapes_val has .* as class 0, the file 'a'"),
        (("TEST.AUG.ENABLED", "True"), "with a detector in torch, not with an exported"),
        (("MODEL.WEIGHTS", "nowhere.onnx"), "there is no file nowhere.onnx"),
    ],
)
def test_what_does_not_fit_is_said_before_anything_is_written(
    train_net, case, tmp_path, pairs, message
):
    config, words = case
    folder = ["OUTPUT_DIR", str(tmp_path / "out")]
    args = train_net.parse_args(["--config-file", str(config), *words, *pairs, *folder])
    with pytest.raises(UserError, match=message):
        train_net.setup(args)
    assert not (tmp_path / "out").exists()


def test_a_file_cannot_be_trained(train_net, case):
    config, (_, *weights) = case
    pairs = ["DATASETS.TRAIN", "('own',)", *weights]
    args = train_net.parse_args(["--config-file", str(config), *pairs])
    with pytest.raises(UserError, match="onnx is a file for another runtime.*cannot be trained"):
        train_net.setup(args)
