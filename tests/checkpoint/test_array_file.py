"""Pickles of arrays are read whole, and never executed."""

import os
import pickle

import numpy as np
import pytest

from vfnet.checkpoint.array_file import read_arrays
from vfnet.checkpoint.safe_pickle import Placeholder
from vfnet.errors import UserError

PROTOCOLS = pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))


def write(path, content, protocol=2):
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


@PROTOCOLS
@pytest.mark.parametrize("dtype", ["f4", "f2", "f8", "i8", "u1", "?", ">f4", ">i2"])
def test_arrays_come_back_as_pickle_reads_them(tmp_path, dtype, protocol):
    array = (np.arange(300) % 251).astype(dtype).reshape(3, 4, 25)
    written = {"c": array, "fortran": np.asfortranarray(array), "strided": array[:, ::2]}
    written |= {"empty": array[:0], "scalar": array[1, 1, 1], "point": np.array(7).astype(dtype)}
    path = write(tmp_path / "x.pkl", written, protocol)
    read = read_arrays(path)
    assert list(read) == list(written)
    for name, expected in pickle.loads(path.read_bytes()).items():
        assert (read[name].dtype, read[name].shape) == (expected.dtype, expected.shape)
        np.testing.assert_array_equal(read[name], expected)


@PROTOCOLS
def test_plain_content_comes_back(tmp_path, protocol):
    written = {"model": {}, "text": "é", "list": [1, (2.5, None)], "set": {3}, "bytes": b"\xff\x00"}
    assert read_arrays(write(tmp_path / "x.pkl", written, protocol)) == written


def test_a_file_of_python_2_comes_back(tmp_path):
    # {"a": numpy.array([1, -128], "<i2")} as Python 2 writes it: texts and data are one type.
    data = b"\x80\x02}U\x01acnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b"
    data += b"\x87R(K\x01K\x02\x85cnumpy\ndtype\nU\x02i2K\x00K\x01\x87R"
    data += b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x04\x01\x00\x80\xfftbs."
    (tmp_path / "py2.pkl").write_bytes(data)
    expected = pickle.loads(data, encoding="latin1")["a"]
    assert expected.tolist() == [1, -128]
    read = read_arrays(tmp_path / "py2.pkl")["a"]
    assert read.dtype == expected.dtype and read.tolist() == [1, -128]


@PROTOCOLS
def test_a_malicious_file_does_nothing(tmp_path, calling, protocol):
    marker = tmp_path / "executed"
    content = {"a": np.ones(2), "evil": [calling(os.mkdir, str(marker))]}
    path = write(tmp_path / "evil.pkl", content, protocol)

    read = read_arrays(path)

    assert not marker.exists()
    assert isinstance(read["evil"][0], Placeholder)
    assert read["a"].tolist() == [1, 1]
    pickle.loads(path.read_bytes())
    assert marker.exists()  # else this tests nothing


def test_bytes_never_pass_for_addresses_of_objects(tmp_path, calling):
    class Forged:
        """An array of one object, whose data type's flags say that its bytes are plain."""

        def __init__(self, make, arguments, state):
            self.parts = (make, arguments, state)

        def __reduce__(self):
            return self.parts

    dtype = Forged(np.dtype, ("O", False, True), (3, "|", None, None, None, -1, -1, 0))
    make, arguments, _ = np.zeros(1).__reduce__()
    array = Forged(make, arguments, (1, (1,), dtype, False, b"\x00" * 8))
    path = write(tmp_path / "forged.pkl", {"a": array})
    assert pickle.loads(path.read_bytes())["a"].dtype == object  # numpy takes it
    with pytest.raises(UserError, match="forged.pkl.*numbers"):
        read_arrays(path)


@pytest.mark.parametrize("array", [np.array([{}, 1]), np.array(["text"]), np.zeros(2, "f4,i4")])
def test_arrays_of_anything_but_numbers_are_refused(tmp_path, array):
    with pytest.raises(UserError, match="odd.pkl cannot be read"):
        read_arrays(write(tmp_path / "odd.pkl", {"a": array}))


@pytest.mark.parametrize(
    "content", [b"", b"<html>404</html>", pickle.dumps({"a": np.ones(9)})[:-9]]
)
def test_files_that_are_no_pickles_are_named(tmp_path, content):
    (tmp_path / "cut.pkl").write_bytes(content)
    with pytest.raises(UserError, match="cut.pkl cannot be read"):
        read_arrays(tmp_path / "cut.pkl")


def test_a_pipe_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe.pkl")
    with pytest.raises(UserError, match="no checkpoint at .*pipe.pkl"):
        read_arrays(tmp_path / "pipe.pkl")


def test_a_pickle_of_something_else_is_named(tmp_path):
    with pytest.raises(UserError, match="expected a dict in .*list.pkl, found list"):
        read_arrays(write(tmp_path / "list.pkl", [1]))
