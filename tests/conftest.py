"""Fixtures that all tests share."""

import logging
from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED = REPOSITORY.parent / "shared"


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
