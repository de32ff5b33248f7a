"""What a pickle may name, and how an unreadable file is reported."""

import io
import os
import pickle
from collections import OrderedDict

import pytest

from vfnet.checkpoint.safe_pickle import Placeholder, SafeUnpickler, unreadable


def read(content, protocol=2):
    return SafeUnpickler(io.BytesIO(pickle.dumps(content, protocol=protocol))).load()


def test_plain_containers_pass():
    content = OrderedDict(a=[1, 2.5, None], b={"c": {3}}, d=(b"\xff", "x", 1j))
    assert read(content) == content and isinstance(read(content), OrderedDict)


def test_the_unknown_is_named_and_called_without_effect(tmp_path, calling):
    marker = str(tmp_path / "executed")
    functions, called = read([os.mkdir, io.StringIO]), read([calling(os.mkdir, marker)])
    assert functions == [Placeholder, Placeholder] and isinstance(called[0], Placeholder)
    assert not os.path.exists(marker)


def test_bytes_have_one_encoding():
    stream = io.BytesIO(b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00rot13\x86R.")
    with pytest.raises(pickle.UnpicklingError, match="rot13"):
        SafeUnpickler(stream).load()


def test_an_unreadable_file_is_reported_with_the_first_line_of_the_reason():
    message = str(unreadable("x.pth", ValueError("bad magic\nmore\nlines"), "; or so"))
    assert "x.pth cannot be read" in message and message.endswith("download it again; or so")
    assert "(ValueError: bad magic)" in message
    assert "(EOFError: no message)" in str(unreadable("x.pth", EOFError()))
