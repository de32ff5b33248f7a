import hashlib
import json

import pytest

from vfnet.data.datasets.to_coco import LabelledImage, split_by_hash, to_coco, write_json
from vfnet.errors import UserError


def test_the_split_follows_the_hash_of_the_names():
    content = to_coco([LabelledImage(f"{i}.jpg", 9, 9, []) for i in range(10)], classes=["cat"])
    train, val = split_by_hash(content, 0.8)
    order = sorted(range(10), key=lambda i: hashlib.sha1(f"{i}.jpg".encode()).hexdigest())
    assert {i["file_name"] for i in val["images"]} == {f"{i}.jpg" for i in order[8:]}
    assert len(train["images"]) == 8 and train["categories"] == content["categories"]
    assert [i["id"] for i in train["images"]] == sorted(i["id"] for i in train["images"])


@pytest.mark.parametrize("share", [0.0, 0.01, 1.0, 7.0])
def test_a_split_needs_both_sides(share):
    content = to_coco([LabelledImage(f"{i}.jpg", 9, 9, []) for i in range(10)], classes=["cat"])
    with pytest.raises(UserError, match="both sides need at least one"):
        split_by_hash(content, share)


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path):
    file = tmp_path / "new" / "a.json"
    write_json({"a": 1}, file)
    with pytest.raises(TypeError):
        write_json({"a": object()}, file)
    assert json.loads(file.read_text()) == {"a": 1}
    assert [path.name for path in file.parent.iterdir()] == ["a.json"]
