"""tools/run_page.py: the real command on a folder that a run left, and on none."""

from tests.tools.inspected import run_tool
from tests.tools.test_plot_run import write_evaluation, write_run


def test_the_command_writes_the_page_into_the_runs_folder(tmp_path):
    write_run(tmp_path)
    write_evaluation(tmp_path)
    result = run_tool("run_page", tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == f"{tmp_path}: {tmp_path / 'run.html'}"
    text = (tmp_path / "run.html").read_text(encoding="utf-8")
    assert text.count("<svg") == 6 and text.count("<img") == 12  # six pictures, in pairs
    assert text.endswith("</html>")


def test_a_folder_without_a_run_is_one_line(tmp_path):
    result = run_tool("run_page", tmp_path)
    assert result.returncode == 1
    assert result.stderr.startswith("error: ") and "config.yaml does not exist" in result.stderr
    assert not list(tmp_path.iterdir())
