"""What a wrong config or override is answered with."""

import pytest

from vfnet.config import load_config
from vfnet.errors import UserError


@pytest.fixture
def write(tmp_path):
    def write_yaml(text):
        path = tmp_path / "config.yaml"
        path.write_text(text)
        return str(path)

    return write_yaml


def test_overrides_win_over_the_file_and_the_file_over_the_defaults(write):
    cfg = load_config(
        write("VERSION: 2\nSOLVER: {BASE_LR: 0.5, MOMENTUM: 0.5}"), ["SOLVER.MOMENTUM", "0.25"]
    )
    assert (cfg.SOLVER.BASE_LR, cfg.SOLVER.MOMENTUM, cfg.SOLVER.GAMMA) == (0.5, 0.25, 0.1)


def test_a_file_takes_over_from_its_base(write, tmp_path):
    (tmp_path / "base.yaml").write_text("VERSION: 2\nSOLVER: {BASE_LR: 0.5, MOMENTUM: 0.5}")
    cfg = load_config(write("_BASE_: base.yaml\nSOLVER: {MOMENTUM: 0.25}"))
    assert (cfg.SOLVER.BASE_LR, cfg.SOLVER.MOMENTUM) == (0.5, 0.25)


@pytest.mark.parametrize(
    "text, pattern",
    [
        ("VERSION: 2\nMODEL: {VFNET: {NUM_KLASSES: 3}}", "MODEL.VFNET.NUM_KLASSES does not exist"),
        ("VERSION: 2\nMODEL: {VFNET: {NUM_KLASSES: 3}}", "did you mean MODEL.VFNET.NUM_CLASSES"),
        ("VERSION: 2\nSOLVER: {MAX_ITER: many}", "SOLVER.MAX_ITER"),
        ("VERSION: 2\nSOLVER: 3", "SOLVER"),
        ("VERSION: 2\nMODEL: [1", "not valid yaml"),
        ("only words", "config.yaml"),
        ("", "config.yaml"),
        ("_BASE_: absent.yaml\nVERSION: 2", "absent.yaml"),
        ("VERSION: 2\nSEED: !!python/name:os.mkdir ''", "tag !!python/name:os.mkdir is not"),
        (f"VERSION: 2\nMODEL: {{WEIGHTS: '{'-' * 9000}1'}}", "config.yaml"),
    ],
)
def test_a_wrong_file_is_named_with_what_is_wrong(write, text, pattern):
    with pytest.raises(UserError, match=pattern) as caught:
        load_config(write(text))
    assert "\n" not in str(caught.value) and "config.yaml" in str(caught.value)


@pytest.mark.parametrize(
    "overrides, pattern",
    [
        (["MODEL.VFNET.NMS_THRESH", "0.5"], "NMS_THRESH does not exist.*NMS_THRESH_TEST"),
        (["VFNET.ATSS_TOPK", "9"], "did you mean MODEL.VFNET.ATSS_TOPK"),
        (["SOLVER.EARLYSTOP.ENABLED", "True"], "did you mean SOLVER.EARLY_STOP.ENABLED"),
        (["MODEL.WEIGHTS.DEEPER", "x"], "MODEL.WEIGHTS.DEEPER"),
        (["SOLVER.MAX_ITER", "many"], "SOLVER.MAX_ITER"),
        (["SOLVER.MAX_ITER"], "odd length"),
        (["SOLVER.MAX_ITER", "3", "--resume"], "--resume stands behind"),
        (["MODEL.WEIGHTS", "+" * 9000 + "1"], "command line: "),
    ],
)
def test_wrong_overrides(write, overrides, pattern):
    with pytest.raises(UserError, match=pattern) as caught:
        load_config(write("VERSION: 2"), overrides)
    assert "\n" not in str(caught.value)


def test_a_value_that_no_reader_can_use_is_refused(write):
    with pytest.raises(UserError, match="INPUT.FORMAT has to be one of BGR, RGB, .*'GBR'"):
        load_config(write("VERSION: 2\nINPUT: {FORMAT: GBR}"))
    with pytest.raises(UserError, match="SOLVER.BASE_LR has to be a number from 0 .*; got inf"):
        load_config(write("VERSION: 2"), ["SOLVER.BASE_LR", "1e999"])


@pytest.mark.parametrize("path", ["", "/nowhere/vfnet.yaml"])
def test_a_missing_file(path):
    with pytest.raises(UserError, match="--config-file"):
        load_config(path)


@pytest.fixture
def override(tmp_path):
    def write_yaml(text, name="override.yaml"):
        path = tmp_path / name
        path.write_text(text)
        return str(path)

    return write_yaml


def test_override_files_win_over_the_file_in_turn_and_pairs_over_all(write, override):
    solver = load_config(
        write("VERSION: 2\nSOLVER: {BASE_LR: 0.5, MOMENTUM: 0.5, GAMMA: 0.5, MAX_ITER: 5}"),
        ["SOLVER.MAX_ITER", "8"],
        [
            override("VERSION: 2\nSOLVER: {MOMENTUM: 0.6, GAMMA: 0.6, MAX_ITER: 6}"),
            override("VERSION: 2\nSOLVER: {GAMMA: 0.7, MAX_ITER: 7}", "second.yaml"),
        ],
    ).SOLVER
    found = (solver.BASE_LR, solver.MOMENTUM, solver.GAMMA, solver.MAX_ITER)
    assert found == (0.5, 0.6, 0.7, 8)


@pytest.mark.parametrize(
    "text, pattern",
    [
        ("VERSION: 2\nMODEL: {VFNET: {NUM_KLASSES: 3}}", "did you mean MODEL.VFNET.NUM_CLASSES"),
        ("VERSION: 2\nSOLVER: {MAX_ITER: many}", "SOLVER.MAX_ITER"),
        ("VERSION: 2\nMODEL: [1", "not valid yaml"),
        ("", "override.yaml"),
    ],
)
def test_a_wrong_override_file_is_named_with_what_is_wrong(write, override, text, pattern):
    with pytest.raises(UserError, match=pattern) as caught:
        load_config(write("VERSION: 2"), override_files=[override(text)])
    assert "\n" not in str(caught.value) and "override.yaml" in str(caught.value)


@pytest.mark.parametrize("path", ["", "/nowhere/range.yaml"])
def test_a_missing_override_file(write, path):
    with pytest.raises(UserError, match=f"{path} does not exist; check --override"):
        load_config(write("VERSION: 2"), override_files=[path])
