"""The real command on a GPU: repeated and continued to the last bit. Skipped without one."""

import shutil

import pytest
import torch

from tests.command import run_python
from tests.engine.tiny import tiny_config
from tests.engine.tiny_family import CONFIGS
from tests.train_net.runs import assert_equal

RANDOM = ("INPUT.RANDOM_FLIP", "horizontal", "INPUT.MIN_SIZE_TRAIN_SAMPLING", "range")
ON_A_GPU = ("MODEL.DEVICE", "cuda", "SOLVER.DETERMINISTIC", "True", "SOLVER.EMA.ENABLED", "True")
HALF = ("SOLVER.AMP.ENABLED", "True")
DETECTORS = {"vfnet": tiny_config, **CONFIGS}
# Its backbone has a gradient that adds in any order: docs/training.md.
del DETECTORS["libra"]

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


def run(repository, config, folder, *words):
    script = repository / "train_net.py"
    done = run_python(script, "--config-file", config, *words, "OUTPUT_DIR", folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return torch.load(folder / "model_final.pth", weights_only=True), done.stdout


@pytest.mark.parametrize("name", DETECTORS)
@pytest.mark.parametrize("more", [(), HALF], ids=["float32", "float16"])
def test_a_deterministic_run_is_repeated_and_continued(name, more, repository, tmp_path):
    cfg = DETECTORS[name](tmp_path, *RANDOM, *ON_A_GPU, *more)
    config = tmp_path / "config.yaml"
    config.write_text(cfg.dump())
    whole, again, continued = (tmp_path / name for name in ("whole", "again", "continued"))
    expected, _ = run(repository, config, whole)
    assert_equal(run(repository, config, again)[0], expected, name)

    shutil.copytree(whole, continued)
    for file in ("model_final.pth", "model_0000005.pth"):
        (continued / file).unlink()
    (continued / "last_checkpoint").write_text("model_0000002.pth")
    found, log = run(repository, config, continued, "--resume")
    assert "Starting training from iteration 3" in log
    assert_equal(found, expected, name)
