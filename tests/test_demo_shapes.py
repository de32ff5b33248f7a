"""demo/shapes.py: trains, draws and plots, or ends where a part fails."""

from pathlib import Path

from PIL import Image

from tests.command import run_python

ROOT = Path(__file__).resolve().parents[1]


def test_the_demo_of_the_shapes_ends_with_weights_and_two_pictures(tmp_path):
    output = tmp_path / "shapes"
    overrides = "SOLVER.MAX_ITER 2 SOLVER.STEPS () SOLVER.IMS_PER_BATCH 2 DATALOADER.NUM_WORKERS 0"
    command = ("demo/shapes.py", "--output", output, *overrides.split())
    result = run_python(*command, cwd=ROOT, timeout=300)
    assert result.returncode == 0, result.stderr
    for name in ("shapes.png", "training.png", "model_final.pth", "config.yaml"):
        assert (output / name).is_file()
        assert str(output / name) in result.stdout
    # Eight pairs of pictures, two in a row.
    width, height = Image.open(output / "shapes.png").size
    assert (width, height // 4) == (4 * 480, 611)


def test_the_demo_of_the_shapes_ends_where_its_training_fails(tmp_path):
    result = run_python("demo/shapes.py", "--output", tmp_path, "SOLVER.NO_SUCH", 1, cwd=ROOT)
    assert result.returncode == 1
    assert "NO_SUCH does not exist" in result.stderr
    assert not (tmp_path / "shapes.png").exists()
