"""Fixtures that all tests share."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from vfnet.utils.precision import avoid_amx

# Some tests train in bfloat16, and oneDNN asks once a process.
avoid_amx()

# What these properties of a test (`record_property`) say is printed at the end of `make soak`.
FIGURE = "figure"
REPOSITORY = Path(__file__).resolve().parents[1]
SHARED = REPOSITORY.parent / "shared"


def pytest_addoption(parser):
    parser.addoption("--soak", action="store_true", help="the large numbers of `make soak`")


@pytest.hookimpl(tryfirst=True)  # before `-m soak` chooses
def pytest_collection_modifyitems(config, items):
    """Leave what is marked `only_soak` to `make soak`."""
    for item in items:
        if item.get_closest_marker("only_soak"):
            item.add_marker("soak")
            if not config.getoption("--soak"):
                item.add_marker(
                    pytest.mark.skip(reason="too long for make test: make soak runs it")
                )


@pytest.fixture
def amount(request):
    """A function that chooses how often something is tried: (in CI, by `make soak`)."""
    return lambda ci, soak: soak if request.config.getoption("--soak") else ci


@pytest.fixture
def figure(record_property):
    """A function that records how much was tried, survived and lost, for docs/reliability.md."""

    def record(what, tried, survived, lost=0):
        record_property(FIGURE, f"{what}: {tried} tried, {survived} survived, {lost} lost")

    return record


def pytest_terminal_summary(terminalreporter):
    """Print the figures, those of xdist's workers too."""
    reports = [report for group in terminalreporter.stats.values() for report in group]
    figures = [
        text
        for report in reports
        if getattr(report, "when", "") == "call"
        for name, text in report.user_properties
        if name == FIGURE
    ]
    if figures:
        terminalreporter.section("reliability")
        terminalreporter.write_line("\n".join(sorted(figures)))


@pytest.fixture
def repository() -> Path:
    """The root of this repository."""
    return REPOSITORY


@pytest.fixture
def shared() -> Path:
    """The folder of reference numbers and real data beside the repository; skips without it."""
    if not SHARED.is_dir():
        pytest.skip("needs ../shared (reference numbers and the BCCD images), which is absent")
    return SHARED


@pytest.fixture(autouse=True)
def restore_catalogs():
    """Forget what a test registered."""
    before = dict(DatasetCatalog), dict(MetadataCatalog)
    yield
    for catalog, content in zip((DatasetCatalog, MetadataCatalog), before):
        catalog.clear()
        catalog.update(content)


@pytest.fixture(autouse=True)
def restore_propagation():
    """Let other tests capture what is logged, though Detectron2's `setup_logger` ends that."""
    loggers = [logging.getLogger(name) for name in ("vfnet", "detectron2")]
    before = [logger.propagate for logger in loggers]
    yield
    for logger, propagate in zip(loggers, before):
        logger.propagate = propagate


@pytest.fixture
def make_coco(tmp_path):
    """A function that writes pictures and a json file; it returns the file and its content."""

    def make(name="data", sizes=((64, 48),) * 4, categories=((3, "cell"), (7, "plate")), **changes):
        root = tmp_path / name
        root.mkdir()
        images, annotations = [], []
        rng = np.random.RandomState(0)
        for i, (width, height) in enumerate(sizes, start=1):
            pixels = rng.randint(0, 255, (height, width, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(root / f"{i}.png")
            images.append({"id": i, "file_name": f"{i}.png", "width": width, "height": height})
            annotations.append(
                {
                    "id": i,
                    "image_id": i,
                    "category_id": categories[i % len(categories)][0],
                    "bbox": [4.0, 6.0, 20.0, 16.0],
                    "area": 320.0,
                    "iscrowd": 0,
                }
            )
        content = {
            "images": images,
            "annotations": annotations,
            "categories": [{"id": id_, "name": name} for id_, name in categories],
        }
        content.update(changes)
        file = root / f"{name}.json"
        file.write_text(json.dumps(content))
        return file, content

    return make
