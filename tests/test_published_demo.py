"""README's one command: the demo with published weights, here random ones served from localhost."""

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.command import run_python
from tests.published_weights import served, write_published

ROOT = Path(__file__).resolve().parents[1]
COMMAND = "demo/demo.py --weights vfnet://vfnet_R50_1x --input picture.jpg --output predictions"


def test_the_readme_has_this_command():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert shlex.split(COMMAND) == shlex.split(
        readme[readme.index("demo/demo.py --weights") :].split("\n\n")[0].replace("\\\n", "")
    )


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    return write_published(tmp_path_factory.mktemp("host"))


@pytest.fixture(scope="module")
def server(published):
    with served(published) as address:
        yield address


@pytest.fixture
def run(server, tmp_path):
    """Run the command on a picture, with more words at its end; return how it ended."""
    pixels = np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "picture.jpg")
    configs = tmp_path / "configs"
    if not configs.exists():
        configs.symlink_to(ROOT / "configs")

    def command(file, *more):
        script, *arguments = shlex.split(COMMAND)
        words = (ROOT / "tests" / "localhost_weights.py", server, file, ROOT / script)
        variables = {"FVCORE_CACHE": str(tmp_path / "cache")}
        return run_python(*words, *arguments, *more, cwd=tmp_path, variables=variables)

    return command


def test_one_command_predicts_with_published_names_and_cv2(run, published, tmp_path):
    done = run(published.name)
    assert done.returncode == 0, done.stderr
    assert "INPUT.RESIZE is cv2, with which vfnet://vfnet_R50_1x was trained" in done.stdout
    assert "Warning" not in done.stdout + done.stderr
    (record,) = json.loads((tmp_path / "predictions" / "predictions.json").read_text())
    assert record["detections"]
    assert {d["class"] for d in record["detections"]} == {"dog"}
    drawn = np.asarray(Image.open(tmp_path / "predictions" / "picture.jpg")).astype(int)
    assert np.abs(drawn - np.asarray(Image.open(tmp_path / "picture.jpg"))).max() > 100

    kept = run(published.name, "--opts", "INPUT.RESIZE", "pil", "INPUT.MIN_SIZE_TEST", "64")
    assert kept.returncode == 0, kept.stderr
    assert "INPUT.RESIZE stays pil" in kept.stdout


def test_a_file_of_another_hash_is_refused_in_one_line(run, published, tmp_path):
    other = published.with_name("vfnet_r50_fpn_1x_coco-00000000.pth")
    other.write_bytes(b"damaged")
    done = run(other.name)
    assert done.returncode == 1
    assert "sha256 begins with 00000000, got one with" in done.stderr.splitlines()[-1]
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert not (tmp_path / "predictions").exists()
