"""A published detector chosen in the page is downloaded and checked (random, from localhost)."""

import contextlib

import pytest

from tests.extras import needs

pytestmark = needs("web")

from tests.published_weights import served, write_published  # noqa: E402
from tests.web.running_app import running_app  # noqa: E402
from tests.web.tab import choose_detector, count, open_tab, upload, wait_for  # noqa: E402

OWN, PUBLISHED = "tiny: model.pth", "vfnet_R50_1x (COCO, AP 41.6)"
FOUND = "score of 0.30 or more"


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    return write_published(tmp_path_factory.mktemp("host"))


@contextlib.contextmanager
def page(browser, request, file, weights, folder):
    """A tab of the page for which `file` is the published one, downloaded to `folder`."""
    script = request.config.rootpath / "tests" / "localhost_weights.py"
    with (
        served(file) as server,
        running_app(
            *("--weights", weights),
            launcher=(script, server, file.name),
            terminal=folder / "terminal.txt",
            variables={"FVCORE_CACHE": str(folder)},
        ) as app,
        open_tab(browser, app.address) as tab,
    ):
        yield tab


def test_it_is_downloaded_when_it_is_chosen(
    browser, request, published, weights, pictures, tmp_path
):
    with page(browser, request, published, weights, tmp_path) as tab:
        upload(tab, pictures[0].path)
        assert "dog" not in wait_for(tab, FOUND)
        assert not list(tmp_path.rglob("*.pth"))
        choose_detector(tab, PUBLISHED)
        text = wait_for(tab, "dog")
        assert count(text) > 0 and FOUND in text
    assert published.name in {path.name for path in tmp_path.rglob("*.pth")}


def test_a_damaged_one_is_a_sentence_in_the_page(
    browser, request, published, weights, pictures, tmp_path
):
    damaged = published.with_name("vfnet_r50_fpn_1x_coco-00000000.pth")
    damaged.write_bytes(b"damaged")
    with page(browser, request, damaged, weights, tmp_path) as tab:
        upload(tab, pictures[0].path)
        wait_for(tab, FOUND)
        choose_detector(tab, PUBLISHED)
        wait_for(tab, "could not be loaded; the terminal of the page says why")
        choose_detector(tab, OWN)
        assert count(wait_for(tab, FOUND)) > 0
    said = (tmp_path / "terminal.txt").read_text()
    assert "sha256 begins with 00000000, got one with" in said
