"""Packages of extras: there, or named with the command that installs them."""

import pytest

from vfnet.errors import UserError
from vfnet.utils.extras import import_extra


def test_a_missing_package_is_named_with_its_extra():
    assert import_extra("json.decoder", "export").__name__ == "json.decoder"
    with pytest.raises(
        UserError,
        match=r'needs the package absent_one .*"vfnet-detectron2\[export\]".*\.\[export\]',
    ):
        import_extra("absent_one.part", "export")
