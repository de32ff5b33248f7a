"""What the commands write to the terminal: no warning of a dependency among it."""

from pathlib import Path

import pytest

from tests.command import run_python
from tests.engine.tiny import CONFIG

ROOT = Path(__file__).resolve().parents[1]
TOOLS = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "tools").glob("*.py"))
# Each takes as long as what it imports, which is mostly the same.
OTHER_TOOLS = [pytest.param(tool, marks=pytest.mark.only_soak) for tool in TOOLS]


def warnings_of(done):
    """The lines with Python's warnings; the project's own are logged as WARNING."""
    assert done.returncode == 0, done.stdout + done.stderr
    return [line for line in (done.stdout + done.stderr).splitlines() if "Warning" in line]


@pytest.mark.parametrize("script", ["demo/demo.py", *OTHER_TOOLS])
def test_a_command_starts_without_a_warning(script):
    assert warnings_of(run_python(ROOT / script, "--help", fresh=True)) == []


@pytest.mark.only_soak
def test_two_processes_with_loader_workers_run_without_a_warning(tmp_path):
    done = run_python(
        *(ROOT / "train_net.py", "--config-file", CONFIG, "--num-gpus", 2),
        *("OUTPUT_DIR", tmp_path, "SOLVER.MAX_ITER", 1, "DATALOADER.NUM_WORKERS", 1),
        *("DATASETS.TEST", "('shapes_val',)", "INPUT.MIN_SIZE_TEST", 32),
        fresh=True,
    )
    assert warnings_of(done) == []
    assert "copypaste" in done.stdout  # it came to the evaluation


def test_importing_the_package_leaves_a_programs_own_filters():
    program = "import warnings; warnings.simplefilter('error'); before = warnings.filters[:]; "
    done = run_python("-c", program + "import vfnet; assert warnings.filters == before", fresh=True)
    assert warnings_of(done) == []
