"""The command `train_net.py`: yaml files that win over the config."""

import pytest
import yaml

FILES = ["over.yaml", "dir/more.yml"]
PAIRS = ["SOLVER.MAX_ITER", "1"]


@pytest.mark.parametrize(
    "words, files, overrides",
    [
        ([], [], []),
        (PAIRS, [], PAIRS),
        (["--override", *FILES], FILES, []),
        (["--override", *FILES, *PAIRS], FILES, PAIRS),
        (["--override", *FILES, "--num-gpus", "2", *PAIRS], FILES, PAIRS),
        (["--override", *FILES, *PAIRS, "--resume", "SEED", "-1"], FILES, [*PAIRS, "SEED", "-1"]),
        (["--override", FILES[0], "--override", FILES[1], *PAIRS], FILES, PAIRS),
        (
            ["--override=over.yaml", "MODEL.WEIGHTS", "a.yaml"],
            FILES[:1],
            ["MODEL.WEIGHTS", "a.yaml"],
        ),
    ],
)
def test_files_and_pairs_on_the_command_line(train_net, words, files, overrides):
    args = train_net.parse_args(["--config-file", "a.yaml", *words])
    assert (args.override, args.opts) == (files, overrides)


def test_an_override_that_is_no_yaml_is_refused(train_net, capsys):
    with pytest.raises(SystemExit):
        train_net.parse_args(["--config-file", "a.yaml", "--override", *PAIRS])
    assert "expects files that end in .yaml, got SOLVER.MAX_ITER" in capsys.readouterr().err


def test_an_override_wins_over_the_config_and_pairs_over_both(command, tmp_path):
    override = tmp_path / "over.yaml"
    override.write_text("VERSION: 2\nSOLVER: {MAX_ITER: 2, BASE_LR: 0.001, CHECKPOINT_PERIOD: 9}")
    done = command("--override", override, *PAIRS, "OUTPUT_DIR", tmp_path / "out")
    assert done.returncode == 0, done.stdout + done.stderr
    solver = yaml.safe_load((tmp_path / "out" / "config.yaml").read_text())["SOLVER"]
    # From the pair, the override and the config.
    assert (solver["MAX_ITER"], solver["BASE_LR"], solver["WARMUP_ITERS"]) == (1, 0.001, 2)
