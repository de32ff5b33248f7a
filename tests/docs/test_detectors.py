"""docs/detectors.md: names, losses and published numbers are those of the code."""

import re

import model_table
import pytest
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage

from tests.config_files import CONFIGS, load
from tests.engine.tiny import picture, tiny_config
from tests.engine.tiny_family import CONFIGS as TINY
from vfnet.config import detector_key

TINY_OF = {
    "VFNet": tiny_config,
    "ATSS": TINY["atss"],
    "GFL": TINY["gfl"],
    "RetinaNet": TINY["retinanet"],
    "FoveaBox": TINY["foveabox"],
    "RepPoints": TINY["reppoints"],
    "Libra R-CNN": TINY["libra"],
}


@pytest.fixture
def rows(repository):
    """Of each detector: the cells behind its name."""
    page = (repository / "docs" / "detectors.md").read_text(encoding="utf-8")
    table = page.split("<!-- family -->")[1].split("<!-- /family -->")[0]
    lines = [line for line in table.splitlines() if line.startswith("| [")]
    cells = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    return {re.match(r"\[(.+)\]", row[0])[1]: row[1:] for row in cells}


def test_the_numbers_are_those_of_the_table_of_models(rows):
    published = {}
    for line in model_table.detector_table().splitlines()[2:]:
        name, _, _, ap, *_ = (cell.strip() for cell in line.strip("|").split("|"))
        published[name] = ap
    assert {name: row[3] for name, row in rows.items()} == published


@pytest.mark.parametrize("name", TINY_OF)
def test_names_and_losses_are_those_of_the_code(rows, name, tmp_path):
    architecture, node, configs, _, losses = rows[name]
    cfg = TINY_OF[name](tmp_path)
    assert cfg.MODEL.META_ARCHITECTURE == architecture
    assert f"`{detector_key(cfg)}`" == node
    pattern = configs.strip("`")
    files = sorted(CONFIGS.glob(pattern if pattern.endswith("yaml") else f"{pattern}*_*.yaml"))
    assert files
    found = {load(file.relative_to(CONFIGS).as_posix()).MODEL.META_ARCHITECTURE for file in files}
    assert architecture in found
    model = build_model(cfg).train()
    with EventStorage():
        assert set(model([picture(1)])) == set(re.findall(r"`(\w+)`", losses))
