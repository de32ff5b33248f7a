"""A tiny detector and pictures for the page, and a browser: Chromium, driven by Playwright."""

import os
import shutil

import numpy as np
import pytest
from PIL import Image

from tests.web.tiny_detector import write_tiny_detector
from vfnet.web.detectors import Detectors, Source
from vfnet.web.uploads import Upload


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("web") / "tiny"
    folder.mkdir()
    write_tiny_detector(folder / "model.pth")
    return folder / "model.pth"


@pytest.fixture
def detectors(weights):
    return Detectors([Source(str(weights))], zoo=False)


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """Two random pictures."""
    folder = tmp_path_factory.mktemp("pictures")
    pixels = np.random.default_rng(0).integers(0, 256, (2, 96, 128, 3), dtype=np.uint8)
    for name, values in zip("ab", pixels):
        Image.fromarray(values).save(folder / f"{name}.png")
    return [Upload(str(folder / f"{name}.png"), f"{name}.png") for name in "ab"]


class Counter:
    """Counts the pictures that a predictor's model is given."""

    def __init__(self, predictor):
        self.number = 0
        predictor.model.backbone.register_forward_pre_hook(self._count)

    def _count(self, *_):
        self.number += 1


@pytest.fixture(scope="session")
def count_forwards():
    return Counter


@pytest.fixture(scope="module")
def browser():
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if chromium is None:
        pytest.skip("needs Chromium: on the PATH, or CHROMIUM=/path/to/it")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # No sandbox: Chromium has none for root, whom tests in containers run as.
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()
