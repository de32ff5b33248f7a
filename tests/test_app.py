"""demo/app.py as a command: what it refuses, and that nothing is left when it ends."""

import importlib.util
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.extras import needs
from tests.web.running_app import running_app
from tests.web.tiny_detector import write_tiny_detector

pytestmark = needs("web")

from vfnet.errors import UserError  # noqa: E402
from vfnet.processes.signals import Stopped  # noqa: E402
from vfnet.web.detectors import Source  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def trained(tmp_path):
    """A folder in which `make demo` might have run."""
    folder = tmp_path / "output" / "shapes"
    folder.mkdir(parents=True)
    write_tiny_detector(folder / "model_final.pth")
    return tmp_path


@pytest.fixture(scope="module")
def app():
    spec = importlib.util.spec_from_file_location("vfnet_app", ROOT / "demo" / "app.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_without_what_make_demo_trains_it_says_so(app, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="`make demo` trains it"):
        app.run(app.parse_arguments([]))


def test_the_detector_of_make_demo_is_the_default(app, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = Path("output/shapes/model_final.pth")
    file.parent.mkdir(parents=True)
    file.touch()
    assert app.find_sources([], []) == [Source(str(file))]


def test_configs_belong_to_weights_in_their_order(app):
    pairs = app.find_sources(["a.pth", "b.pth"], ["a.yaml", "b.yaml"])
    assert pairs == [Source("a.pth", "a.yaml"), Source("b.pth", "b.yaml")]
    with pytest.raises(UserError, match="got 1 for 2"):
        app.find_sources(["a.pth", "b.pth"], ["a.yaml"])


def test_without_gradio_it_names_the_extra(app, monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(UserError, match=r'pip install -e "\.\[web\]"'):
        app.run(app.parse_arguments(["--weights", "a.pth"]))


def test_the_command_serves_this_machine_and_leaves_nothing_behind(trained, tmp_path):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    variables, terminal = {"TMPDIR": str(temporary)}, tmp_path / "terminal.txt"
    with running_app(cwd=trained, terminal=terminal, variables=variables) as app:
        assert app.address.startswith("http://127.0.0.1:")
        assert b"VFNet" in urllib.request.urlopen(app.address, timeout=30).read()
        assert list(temporary.glob("vfnet_page_*"))
    assert app.process.returncode == Stopped.STATUS
    assert not list(temporary.glob("vfnet_page_*"))
    assert terminal.read_text().splitlines()[-1].startswith("error: stopped by SIGTERM")
