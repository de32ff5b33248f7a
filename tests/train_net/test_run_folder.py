"""The command `train_net.py` and its folder: one run at a time, full disks, moved runs."""

import shutil

import pytest

from tests.engine.tiny import CONFIG
from tests.full_disk import full_disk
from tests.train_net.runs import snapshot
from tests.utils.test_folder_lock import fork, hold
from vfnet.engine import check_not_moved
from vfnet.errors import UserError


def one_error(done):
    """The only line that a command that fails has to say."""
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr + done.stdout, done.stdout + done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    return line


def test_a_second_run_is_refused_and_an_evaluation_is_not(fails, six_iterations):
    results, end = fork.SimpleQueue(), fork.Event()
    holder = fork.Process(target=hold, args=(str(six_iterations), results, None, end))
    holder.start()
    assert results.get() == "had"
    try:
        for resume in ((), ("--resume",), ("--resume", "auto")):
            error = fails(*resume)
            assert f"another run trains into OUTPUT_DIR {six_iterations}: process " in error
        # Refused for what it is given, not for the run beside it.
        assert "DATASETS.TEST is empty" in fails("--eval-only")
    finally:
        end.set()
        holder.join()


@pytest.mark.only_soak
def test_a_full_disk_ends_two_processes_in_one_line(command, six_iterations, tmp_path):
    shutil.copy(six_iterations / "model_0000002.pth", tmp_path)
    (tmp_path / "last_checkpoint").write_text("model_0000002.pth")
    (tmp_path / ".model_0000001.pth.1.0123456789abcdef0123456789abcdef.tmp").write_text("half")
    before = snapshot(tmp_path)
    with full_disk(2_000_000):
        done = command("--resume", "auto", "--num-gpus", "2", "OUTPUT_DIR", tmp_path)
    last = tmp_path / "model_0000002.pth"
    assert one_error(done).startswith(
        f"error: {tmp_path / 'model_0000005.pth'} cannot be written: File too large; training "
        f"stopped at iteration 5. {last} is as it was, and --resume goes on with it"
    )
    # Another number of processes is another stream of pictures.
    assert "the number of processes was 1 and is 2: from iteration 3 on" in done.stdout
    assert "removed what a killed run had left half-written: .model_0000001.pth.1." in done.stdout
    for name in ("last_checkpoint", "model_0000002.pth"):
        assert (tmp_path / name).read_bytes() == before[name]
    assert not list(tmp_path.glob(".*"))


def test_a_moved_run_is_found_by_its_config(six_iterations, tmp_path):
    for name in ("last_checkpoint", "model_final.pth", "config.yaml"):
        shutil.copy(six_iterations / name, tmp_path)
    config, gone = tmp_path / "config.yaml", str(tmp_path / "before")
    with pytest.raises(UserError, match=f"give OUTPUT_DIR {tmp_path} to go on"):
        check_not_moved(str(config), gone)
    check_not_moved(str(config), str(tmp_path))
    check_not_moved(str(CONFIG), gone)
