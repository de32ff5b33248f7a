"""train_net.py with weights of mmdet: its resizing, and what it says of that."""

import pytest
import torch
from detectron2.modeling import build_model

from tests.engine.tiny import CONFIG, tiny_config
from vfnet.checkpoint import to_mmdet_state_dict


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """MODEL.WEIGHTS of the tiny detector as mmdet would have written it."""
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path / "cache"))
    state_dict = build_model(tiny_config(tmp_path)).state_dict()
    torch.save({"state_dict": to_mmdet_state_dict(state_dict)}, tmp_path / "tiny.pth")
    return f"mmdet://{tmp_path / 'tiny.pth'}"


@pytest.fixture
def setup(train_net, weights, tmp_path):
    """Set up a run; return INPUT.RESIZE of its config and what it said of it."""

    def run(*words):
        options = [word for word in words if str(word).startswith("--")]
        output = tmp_path / "out"
        args = ["--config-file", CONFIG, *words, "DATASETS.TEST", "('shapes_val',)"]
        args += ["MODEL.WEIGHTS", weights] if "--resume" not in options else []
        cfg = train_net.setup(
            train_net.parse_args([str(word) for word in [*args, "OUTPUT_DIR", output]])
        )
        # Every set-up of this process has added a handler that writes there.
        log = set((output / "log.txt").read_text().splitlines())
        said = [line.split("WARNING: ")[1] for line in log if "WARNING: INPUT.RESIZE" in line]
        assert f"RESIZE: {cfg.INPUT.RESIZE}" in (output / "config.yaml").read_text()
        return cfg.INPUT.RESIZE, said

    return run


def test_an_evaluation_takes_cv2_says_so_and_dumps_it(setup, weights):
    assert setup("--eval-only") == (
        "cv2",
        [f"INPUT.RESIZE is cv2, with which {weights} was trained"],
    )


@pytest.mark.parametrize("by_file", [False, True])
def test_the_command_line_and_an_override_keep_their_own(setup, weights, tmp_path, by_file):
    file = tmp_path / "override.yaml"
    file.write_text("INPUT: {RESIZE: pil}")
    words = ("--override", file) if by_file else ("INPUT.RESIZE", "pil")
    kept = ("pil", [f"INPUT.RESIZE stays pil, but {weights} was trained with cv2"])
    assert setup("--eval-only", *words) == kept


def test_a_training_run_that_starts_from_a_detector_keeps_its_own_and_says_so(setup, weights):
    kept = ("pil", [f"INPUT.RESIZE stays pil, but {weights} was trained with cv2"])
    assert setup() == kept


def test_a_checkpoint_of_the_run_itself_is_evaluated_as_it_was_trained(
    setup, weights, six_iterations, tmp_path
):
    (tmp_path / "out").mkdir()
    for name in ("model_final.pth", "last_checkpoint"):
        (tmp_path / "out" / name).write_bytes((six_iterations / name).read_bytes())
    assert setup("--eval-only", "--resume", "MODEL.WEIGHTS", weights) == ("pil", [])
