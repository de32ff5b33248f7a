"""The configs by name: found with and without .yaml, whole, and an unknown name lists them."""

from pathlib import Path

import pytest

from vfnet import model_zoo
from vfnet.errors import UserError


def test_a_config_is_found_with_and_without_its_ending(repository):
    expected = repository / "configs" / "vfnet_R50_1x.yaml"
    assert Path(model_zoo.get_config_file("vfnet_R50_1x.yaml")) == expected
    assert Path(model_zoo.get_config_file("vfnet_R50_1x")) == expected


def test_every_config_of_the_repository_is_found_by_its_path(repository):
    configs = repository / "configs"
    paths = list(configs.rglob("*.yaml"))
    assert len(paths) > 5
    for path in paths:
        name = path.relative_to(configs).as_posix()
        assert Path(model_zoo.get_config_file(name)) == path


@pytest.mark.parametrize("name", ["vfnet_R51_1x", "../configs/vfnet_R50_1x.yaml", ""])
def test_an_unknown_name_lists_those_there_are(name):
    with pytest.raises(UserError, match=r"vfnet_R50_1x\.yaml"):
        model_zoo.get_config_file(name)


def test_get_config_holds_the_file_its_base_and_the_defaults():
    cfg = model_zoo.get_config("ablation/vfnet_R50_1x_raw")
    assert not cfg.MODEL.VFNET.STAR_FEATURES  # the file
    assert cfg.MODEL.META_ARCHITECTURE == "VFNet"  # its base
    assert cfg.SOLVER.AMP.PRECISION == "float16"  # a default
