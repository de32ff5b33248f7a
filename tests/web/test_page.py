"""The page in a real browser: headless Chromium, driven by Playwright."""

import io
import json
import os
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from tests.extras import needs

pytestmark = needs("web")

from playwright.sync_api import expect  # noqa: E402

from tests.web.tab import TIMEOUT, count, move_threshold, open_tab, upload, wait_for  # noqa: E402
from vfnet.web.detectors import LOWEST_SCORE, Detectors, Source  # noqa: E402
from vfnet.web.page import build_page, launch  # noqa: E402


class Site(NamedTuple):
    """A page that is served."""

    address: str
    folder: object
    forwards: object


@pytest.fixture(scope="module")
def site(weights, count_forwards, tmp_path_factory):
    folder = tmp_path_factory.mktemp("gradio")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(folder))
        patch.setattr("vfnet.web.page.MOST_MEGABYTES", 1)
        detectors = Detectors([Source(str(weights))])
        forwards = count_forwards(detectors.load(detectors.labels[0]))
        page = build_page(detectors, folder)
        yield Site(launch(page), folder, forwards)
        page.close()


@pytest.fixture
def tab(site, browser):
    """The page, opened anew."""
    with open_tab(browser, site.address) as tab:
        yield tab


def shown(tab):
    """Return the pixels of the result."""
    image = tab.locator("#result img")
    content = tab.request.get(image.get_attribute("src")).body()
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)


def download(tab, button):
    with tab.expect_download() as event:
        tab.get_by_text(button).click()
    return event.value


def test_boxes_appear_and_the_threshold_moves_without_the_detector(tab, site, pictures, tmp_path):
    before = site.forwards.number
    upload(tab, pictures[0].path)
    text = wait_for(tab, "score of 0.30 or more")
    low = shown(tab)
    given = Image.open(pictures[0].path).resize(low.shape[1::-1], Image.Resampling.LANCZOS)
    assert count(text) > 0 and (np.abs(low - np.asarray(given)) > 30).any(axis=2).mean() > 0.02

    fewer = move_threshold(tab, 0.6)
    assert 0 < count(fewer) < count(text)
    expect(tab.locator("#result img")).to_be_visible()
    assert not np.array_equal(shown(tab), low)
    record = json.loads(download(tab, "Download json").path().read_text(encoding="utf-8"))
    assert len(record["detections"]) == count(fewer)
    assert min(d["score"] for d in record["detections"]) >= 0.6
    assert (record["file"], record["width"], record["height"]) == ("a.png", 128, 96)

    more = move_threshold(tab, LOWEST_SCORE)
    assert count(more) > count(text)
    assert site.forwards.number == before + 1


def test_the_downloaded_picture_is_the_one_shown(tab, pictures):
    upload(tab, pictures[1].path)
    wait_for(tab, "score of 0.30 or more")
    file = download(tab, "Download picture")
    assert file.suggested_filename == "b_detections.png"
    np.testing.assert_array_equal(np.asarray(Image.open(file.path())), shown(tab))


def test_star_points_are_drawn_and_taken_away(tab, pictures):
    upload(tab, pictures[0].path)
    wait_for(tab, "score of 0.30 or more")
    plain, image = shown(tab), tab.locator("#result img")
    for differs in (True, False):
        address = image.get_attribute("src")
        tab.locator("#stars input").click()
        expect(image).not_to_have_attribute("src", address, timeout=TIMEOUT)
        assert np.array_equal(shown(tab), plain) != differs


COPY = """async (address) => {
    const blob = await (await fetch(address)).blob();
    await navigator.clipboard.write([new ClipboardItem({"image/png": blob})]);
}"""


def test_a_picture_is_pasted(tab, pictures):
    upload(tab, pictures[0].path)
    uploaded = wait_for(tab, "score of 0.30 or more")
    tab.context.grant_permissions(["clipboard-read", "clipboard-write"])
    tab.evaluate(COPY, tab.locator("#picture img").get_attribute("src"))
    tab.get_by_label("Remove Image").click()
    wait_for(tab, "Upload a picture")
    tab.get_by_label("Paste from clipboard").click()
    assert count(wait_for(tab, "score of 0.30 or more")) == count(uploaded)


WRONG = {
    "text": (b"not a picture", "wrong.png is none, or is damaged"),
    "bomb": (None, "at most 50 million pixels; this one has 13000 x 13000"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_file_gets_a_sentence_and_the_old_result_goes(tab, pictures, tmp_path, kind):
    content, message = WRONG[kind]
    if content is None:
        Image.new("1", (13000, 13000)).save(tmp_path / "wrong.png")
    else:
        (tmp_path / "wrong.png").write_bytes(content)
    upload(tab, pictures[0].path)
    wait_for(tab, "score of 0.30 or more")
    tab.get_by_label("Remove Image").click()
    wait_for(tab, "Upload a picture")
    upload(tab, tmp_path / "wrong.png")
    wait_for(tab, message)
    expect(tab.locator("#result img")).to_have_count(0)
    expect(tab.get_by_text("Download json")).to_be_disabled()


def test_names_of_classes_are_text(tab, pictures):
    upload(tab, pictures[0].path)
    assert "<b>bolt</b>" in wait_for(tab, "score of 0.30 or more")


def test_the_page_asks_nobody_else_and_tells_no_path(site, browser, weights, pictures):
    tab, hosts, texts = browser.new_page(), set(), []
    tab.on("request", lambda request: hosts.add(request.url.split("/")[2]))
    tab.goto(site.address, wait_until="domcontentloaded")
    upload(tab, pictures[0].path)
    wait_for(tab, "score of 0.30 or more")
    texts += [tab.content(), tab.request.get(f"{site.address}config").text()]
    tab.close()
    own = site.address.split("/")[2]
    assert own.startswith("127.0.0.1:")
    # "": pictures that the page makes itself, blob: and data:.
    assert hosts - {""} <= {own} | {host for host in hosts if host.startswith("data:")}
    for text in texts:
        assert str(weights.parent) not in text and os.getcwd() not in text


def test_no_other_file_is_served(tab, site, weights):
    for path in (weights, "/etc/hostname", os.path.abspath("README.md")):
        assert tab.request.get(f"{site.address}gradio_api/file={path}").status == 403


@pytest.mark.parametrize("field", range(1, 5))
def test_no_address_that_a_request_names_is_loaded(tab, site, monkeypatch, field):
    loaded = []

    async def load(url, cache_dir):
        loaded.append(url)

    monkeypatch.setattr("gradio.processing_utils.async_ssrf_protected_download", load)
    file = {"path": "https://example.org/a.png", "meta": {"_type": "gradio.FileData"}}
    (number,) = (
        d["id"]
        for d in tab.request.get(f"{site.address}config").json()["dependencies"]
        if len(d["inputs"]) == 5
    )
    values = [None, None, "tiny: model.pth", 0, False]
    values[field] = file
    ours = {"fn_index": number, "session_hash": f"address{field}"}
    tab.request.post(f"{site.address}gradio_api/queue/join", data={**ours, "data": values})
    reply = tab.request.get(f"{site.address}gradio_api/queue/data?session_hash=address{field}")
    assert "process_completed" in reply.text() and loaded == []


def test_a_larger_file_is_not_taken(tab, site):
    file = {"name": "a.png", "mimeType": "image/png", "buffer": bytes(2**20 + 1)}
    reply = tab.request.post(f"{site.address}gradio_api/upload", multipart={"files": file})
    assert reply.status == 413
