"""A published detector chosen in the page is downloaded and checked (random, from localhost)."""

import contextlib
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.extras import needs

pytestmark = needs("web")

from tests.published_weights import served, write_published  # noqa: E402
from tests.web.tab import choose_detector, count, open_tab, upload, wait_for  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 150
TERMINAL = "terminal.txt"  # what the command says on stderr


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    return write_published(tmp_path_factory.mktemp("host"))


@contextlib.contextmanager
def page(published, file, weights, folder):
    """The address of demo/app.py's page, for which `file` is the published one."""
    with served(published.parents[3]) as server, open(folder / TERMINAL, "w") as terminal:
        words = (ROOT / "tests" / "localhost_weights.py", server, file, ROOT / "demo" / "app.py")
        process = subprocess.Popen(
            [sys.executable, *map(str, words), "--weights", str(weights)],
            env={**os.environ, "FVCORE_CACHE": str(folder), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=terminal,
            text=True,
        )
        watchdog = threading.Timer(SECONDS, process.kill)  # a hang becomes a failure
        watchdog.start()
        try:
            line = next(line for line in process.stdout if "The page is at" in line)
            yield line.split()[4]
        finally:
            process.terminate()
            process.communicate()
            watchdog.cancel()


def test_it_is_downloaded_when_it_is_chosen(browser, published, weights, pictures, tmp_path):
    with page(published, published.name, weights, tmp_path) as address:
        tab = open_tab(browser, address)
        choose_detector(tab, "vfnet_R50_1x (COCO, AP 41.6)")
        assert not list(tmp_path.rglob("*.pth"))
        upload(tab, pictures[0].path)
        text = wait_for(tab, "score of 0.30 or more")
        assert count(text) > 0 and "dog" in text
        tab.close()
    assert published.name in {path.name for path in tmp_path.rglob("*.pth")}


def test_a_damaged_one_is_a_sentence_in_the_page(browser, published, weights, pictures, tmp_path):
    other = published.with_name("vfnet_r50_fpn_1x_coco-00000000.pth")
    other.write_bytes(b"damaged")
    with page(published, other.name, weights, tmp_path) as address:
        tab = open_tab(browser, address)
        upload(tab, pictures[0].path)
        wait_for(tab, "score of 0.30 or more")
        choose_detector(tab, "vfnet_R50_1x (COCO, AP 41.6)")
        wait_for(tab, "could not be loaded; the terminal of the page says why")
        choose_detector(tab, "tiny: model.pth")
        assert count(wait_for(tab, "score of 0.30 or more")) > 0
        tab.close()
    assert "sha256 begins with 00000000, got one with" in (tmp_path / TERMINAL).read_text()
