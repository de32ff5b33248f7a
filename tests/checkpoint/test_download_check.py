"""A download that is not what its name promises is removed and refused."""

import hashlib

import pytest

from vfnet.checkpoint.download_check import check_download
from vfnet.errors import UserError
from vfnet.utils.files import sha256

MMDET = "https://download.openmmlab.com/mmdetection/v2.0/vfnet/x"
TORCHVISION = "https://download.pytorch.org/models/resnet101"


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "cached.pth"
    path.write_bytes(b"abc")
    return path


def check(url, file):
    check_download(url, str(file), sha256(str(file)))


def test_the_hash_is_that_of_the_standard(file):
    # FIPS 180-2, appendix B.1.
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256(str(file)) == digest


def test_a_file_longer_than_one_read_is_hashed_as_a_whole(tmp_path):
    content = bytes(range(256)) * 5000
    (tmp_path / "long").write_bytes(content)
    assert sha256(str(tmp_path / "long")) == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("start", [MMDET, TORCHVISION, MMDET.replace("https", "http")])
def test_the_right_file_passes_and_stays(file, start):
    check(f"{start}-ba7816bf.pth", file)
    for name in ("20201027pth", "c3-c5_gn-neck%2Bhead_2x_coco_20200329", "coco_20200629_121244"):
        check(f"{start}_{name}-ba7816bf.pth", file)
    assert file.read_bytes() == b"abc"


@pytest.mark.parametrize("start", [MMDET, TORCHVISION])
def test_a_wrong_file_is_refused_and_removed(file, start):
    match = rf"{start}-38db6f58.pth: .*begins with 38db6f58, got .*ba7816bf .*{file}.*Try again"
    with pytest.raises(UserError, match=match):
        check(f"{start}-38db6f58.pth", file)
    assert not file.exists()


def test_a_wrong_file_that_another_process_removed_is_refused(tmp_path):
    with pytest.raises(UserError, match="38db6f58"):
        check_download(f"{MMDET}-38db6f58.pth", str(tmp_path / "gone.pth"), "0" * 64)


@pytest.mark.parametrize(
    "url",
    [
        "https://host/x-38db6f58.pth",  # hosts with no such convention
        "https://download.pytorch.org/other/x-38db6f58.pth",
        "https://host/download.openmmlab.com/x-38db6f58.pth",
        "https://download.openmmlab.com/pretrain/third_party/x-38db6f58.pth",
        f"{MMDET}.pth",  # no hash in the name
        f"{MMDET}-12345678.zip",
        f"{MMDET}-bricks.pth",
        "/data/download.openmmlab.com/x-38db6f58.pth",  # a user's own file
    ],
)
def test_what_promises_nothing_is_not_checked(file, url):
    check(url, file)
    assert file.exists()
