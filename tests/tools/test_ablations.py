"""tools/ablations.py: what a row changes, which runs are repeated, and the table."""

import importlib.util
import json
import subprocess

import pytest

from vfnet.config import get_cfg
from vfnet.errors import UserError
from vfnet.model_zoo import get_config


@pytest.fixture
def tool(repository):
    spec = importlib.util.spec_from_file_location("ablations", repository / "tools/ablations.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


CONFIG = "configs/demo/shapes_R18_short.yaml"  # 400 iterations


def write_metrics(folder, ap, iteration=400):
    folder.mkdir(parents=True, exist_ok=True)
    row = {"iteration": iteration, "bbox/AP": ap, "bbox/AP50": 2 * ap, "bbox/AP75": ap / 2}
    (folder / "metrics.json").write_text(json.dumps({"iteration": 19}) + "\n" + json.dumps(row))


def test_overrides_of_a_row_make_the_head_and_losses_of_its_config(tool):
    for row in tool.ROWS[:3] + tool.ROWS[4:]:
        cfg = get_cfg()
        cfg.merge_from_list(tool.overrides(row))
        expected = get_config(f"ablation/vfnet_R50_1x_{row}").MODEL.VFNET
        assert cfg.MODEL.VFNET == expected, row
    assert tool.overrides("full") == []


def test_a_run_that_has_scores_is_not_repeated(tool, tmp_path, monkeypatch, repository):
    monkeypatch.chdir(repository)
    write_metrics(tmp_path / "raw" / "seed1", 40.0)
    monkeypatch.setattr(subprocess, "run", lambda command: pytest.fail("trained again"))
    scores = tool.train(CONFIG, "raw", 1, tmp_path / "raw" / "seed1", dry_run=False)
    assert scores == {"AP": 40.0, "AP50": 80.0, "AP75": 20.0}


def test_a_run_that_was_stopped_is_continued(tool, tmp_path, monkeypatch, repository):
    monkeypatch.chdir(repository)
    write_metrics(tmp_path, 30.0, iteration=219)

    def finish(command):
        assert "--resume" in command
        write_metrics(tmp_path, 40.0)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", finish)
    assert tool.train(CONFIG, "raw", 1, tmp_path, dry_run=False)["AP"] == 40.0


def test_a_failed_run_is_an_error_that_names_it(tool, tmp_path, monkeypatch, repository):
    monkeypatch.chdir(repository)
    monkeypatch.setattr(subprocess, "run", lambda command: subprocess.CompletedProcess(command, 1))
    with pytest.raises(UserError, match="raw, seed 2, failed"):
        tool.train(CONFIG, "raw", 2, tmp_path / "raw" / "seed2", dry_run=False)


def test_table_gives_mean_and_sample_standard_deviation(tool):
    # 40, 42, 47: mean 43, deviations -3, -1, 4, so the variance is (9 + 1 + 16) / 2 = 13.
    runs = [{"AP": ap, "AP50": 60.0, "AP75": 30.0} for ap in (40.0, 42.0, 47.0)]
    row = tool.table({"raw": runs}).splitlines()[-1]
    assert row == "| raw | 43.0 ± 3.6 | 40.0, 42.0, 47.0 | 60.0 ± 0.0 | 30.0 ± 0.0 |"


def test_a_single_seed_has_no_spread(tool):
    assert tool.mean_and_spread([41.25]) == "41.2"
