"""The command `train_net.py` with SOLVER.SWA: killed in mid-cycle and continued, and bad input."""

import json
import re
import shutil

import pytest
import torch
from detectron2.modeling import build_model

from tests.engine.tiny import CONFIG
from tests.train_net.runs import EVERYTHING_RANDOM, weights
from vfnet.engine import check_run, load_config
from vfnet.errors import UserError

SWA = (
    *("SOLVER.SWA.ENABLED", "True", "SOLVER.SWA.CYCLES", "3", "SOLVER.CHECKPOINT_PERIOD", "3"),
    *("TEST.PRECISE_BN.NUM_ITER", "2"),
)


def config(folder, *overrides):
    return load_config(str(CONFIG), [str(word) for word in ("OUTPUT_DIR", folder, *overrides)])


@pytest.mark.only_soak
def test_a_run_killed_in_mid_cycle_ends_with_the_same_average(command, tmp_path):
    whole, killed, start = tmp_path / "whole", tmp_path / "killed", tmp_path / "start.pth"
    torch.save({"model": build_model(config(whole)).state_dict()}, start)
    done = command("OUTPUT_DIR", whole, "MODEL.WEIGHTS", start, *EVERYTHING_RANDOM, *SWA)
    assert done.returncode == 0, done.stdout + done.stderr
    killed.mkdir()
    # After three iterations; cycles end after two and four.
    shutil.copy(whole / "model_0000002.pth", killed)
    (killed / "last_checkpoint").write_text("model_0000002.pth")
    done = command(
        *("--resume", "OUTPUT_DIR", killed, "DATASETS.TEST", "('shapes_val',)"),
        *EVERYTHING_RANDOM,
        *SWA,
        fresh=True,  # other hashes, as after a real restart
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ("model_final.pth", "model_swa.pth"):
        expected, found = weights(whole / name), weights(killed / name)
        assert expected.keys() == found.keys()
        assert [n for n, value in expected.items() if not torch.equal(found[n], value)] == []
    assert (killed / "last_checkpoint").read_text() == "model_final.pth"
    assert "batch norms were estimated on 2 batches of training data" in done.stdout
    (line,) = re.findall(r"raw weights model_final.pth: .*", done.stdout)
    row = json.loads((killed / "metrics.json").read_text().splitlines()[-1])
    assert line == (
        f"raw weights model_final.pth: AP {row['bbox/AP']:.1f}; "
        f"average of 3 cycle ends model_swa.pth: AP {row['swa/bbox/AP']:.1f}"
    )


def check(cfg, file):
    return check_run(cfg, cfg.DATASETS.TRAIN, str(file), training=True)


def test_cycles_start_from_a_whole_detector_alone(tmp_path):
    cfg = config(tmp_path / "out", *SWA)
    whole = build_model(cfg).state_dict()
    files = {"whole": whole, "backbone": {n: v for n, v in whole.items() if "head" not in n}}
    for name, content in files.items():
        torch.save({"model": content}, tmp_path / f"{name}.pth")
    check(cfg, tmp_path / "whole.pth")
    with pytest.raises(UserError, match="expected a whole detector in .*backbone.pth"):
        check(cfg, tmp_path / "backbone.pth")
    with pytest.raises(UserError, match="MODEL.WEIGHTS is empty"):
        check(cfg, "")
    with pytest.raises(UserError, match="there is no checkpoint at .*gone.pth"):
        check(cfg, tmp_path / "gone.pth")
    with pytest.raises(UserError, match="MAX_ITER is 6 and SWA.CYCLES is 4"):
        check(config(tmp_path / "out", *SWA, "SOLVER.SWA.CYCLES", "4"), tmp_path / "whole.pth")
    with pytest.raises(UserError, match="would overwrite the run that it starts from: .*whole.pth"):
        check(config(tmp_path, *SWA), tmp_path / "whole.pth")


def test_a_bad_decay_is_found_before_the_start(tmp_path):
    cfg = config(tmp_path, "SOLVER.EMA.ENABLED", "True", "SOLVER.EMA.DECAY", "2.0")
    with pytest.raises(UserError, match="SOLVER.EMA.DECAY"):
        check(cfg, "")
