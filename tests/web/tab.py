"""The page in a tab of the browser, as its user handles it."""

import contextlib
import re

from playwright.sync_api import expect

TIMEOUT = 60_000  # milliseconds


@contextlib.contextmanager
def open_tab(browser, address):
    tab = browser.new_page()
    try:
        tab.set_default_timeout(TIMEOUT)
        tab.goto(address, wait_until="domcontentloaded")
        wait_for(tab, "Upload a picture")
        yield tab
    finally:
        tab.close()


def wait_for(tab, text):
    """Wait until the page says a text; return all that it says."""
    field = tab.locator("#found textarea")
    expect(field).to_have_value(re.compile(re.escape(text)), timeout=TIMEOUT)
    return field.input_value()


def upload(tab, path):
    tab.locator("#picture input[type=file]").set_input_files(path)


def choose_detector(tab, label):
    tab.get_by_label("Detector").click()
    tab.get_by_role("option", name=label).click()


def move_threshold(tab, score):
    number = tab.locator("#threshold input[type=number]")
    number.fill(str(score))
    number.press("Enter")
    return wait_for(tab, f"score of {score:.2f} or more")


def count(text):
    return int(text.split()[0])
