"""Which files a run can be continued from: whole ones, to the bit."""

import zipfile

import pytest
import torch

from vfnet.checkpoint.continuable import check_continuable, fingerprint
from vfnet.checkpoint.tensor_file import read_checkpoint
from vfnet.errors import UserError


def content_of_a_run():
    generator = torch.Generator().manual_seed(0)
    weights = {"a": torch.rand(300, generator=generator), "b": torch.rand(3, generator=generator)}
    optimizer = {
        "state": {0: {"momentum_buffer": torch.rand(300, generator=generator)}},
        "param_groups": [{"lr": 0.1, "params": [0]}],
    }
    trainer = {
        "iteration": 7,
        "hooks": {"LRScheduler": {"last_epoch": 8}},
        "_trainer": {"iteration": 7, "optimizer": optimizer, "seed": 3},
    }
    return {"model": weights, "trainer": trainer, "iteration": 7}


@pytest.fixture
def saved(tmp_path):
    """Write a content as a checkpoint."""

    def save(content, **options):
        torch.save(content, tmp_path / "model_0000007.pth", **options)
        return str(tmp_path / "model_0000007.pth")

    return save


def test_a_whole_checkpoint_says_its_iteration(saved):
    assert check_continuable(saved(content_of_a_run())) == 7
    # The format before torch 1.6 has no checksums.
    old = saved(content_of_a_run(), _use_new_zipfile_serialization=False)
    assert check_continuable(old) == 7 and fingerprint(old) is None


@pytest.mark.soak
def test_a_flipped_bit_is_found_or_changes_nothing(saved, tmp_path, amount, figure):
    """Nothing is said of the dates in a zip file, of its padding, and the like."""
    path = saved(content_of_a_run())
    with open(path, "rb") as file:
        whole = file.read()
    with zipfile.ZipFile(path) as archive:
        records = {info.filename: info for info in archive.infolist()}
    data = next(info for name, info in records.items() if name.endswith("data/0"))
    kinds = {
        "data": (data.header_offset + 500, data.header_offset + 1500),
        "pickle": (100, 500),
        "directory": (len(whole) - 700, len(whole)),
        "anywhere": (0, len(whole)),
    }
    expected = torch.load(path, weights_only=True)
    generator = torch.Generator().manual_seed(1)
    number = amount(ci=15, soak=250)
    found = 0
    for begin, end in kinds.values():
        for bit in torch.randint(8 * begin, 8 * end, (number,), generator=generator).tolist():
            damaged = bytearray(whole)
            damaged[bit // 8] ^= 1 << bit % 8
            (tmp_path / "flipped.pth").write_bytes(damaged)
            try:
                assert check_continuable(str(tmp_path / "flipped.pth")) == 7
            except UserError:
                found += 1
                continue
            content = read_checkpoint(tmp_path / "flipped.pth")
            assert_equal(content, expected)
    assert found > 2 * number
    figure("flipped bits of a checkpoint", 4 * number, 4 * number)


def assert_equal(content, expected):
    if isinstance(expected, dict):
        assert content.keys() == expected.keys()
        for key, value in expected.items():
            assert_equal(content[key], value)
    elif isinstance(expected, torch.Tensor):
        assert torch.equal(content, expected)
    else:
        assert content == expected


def test_a_flipped_bit_of_a_weight_is_found_wherever_it_is_loaded(saved):
    path = saved(content_of_a_run())
    with open(path, "r+b") as file:
        content = bytearray(file.read())
        with zipfile.ZipFile(path) as archive:
            start = archive.getinfo("model_0000007/data/0").header_offset
        content[start + 600] ^= 1
        file.seek(0)
        file.write(content)
    for mmap in (True, False):
        with pytest.raises(UserError, match="checksum of model_0000007/data/0 differs"):
            read_checkpoint(path, mmap=mmap)


def test_a_file_that_was_written_without_checksums_is_read(saved, monkeypatch):
    monkeypatch.setattr(torch.utils.serialization.config.save, "compute_crc32", False)
    assert check_continuable(saved(content_of_a_run())) == 7


def changed(path, value):
    """The content of a run with another value at a path of keys; None: without the last key."""
    content = part = content_of_a_run()
    *before, last = path.split(".")
    for key in before:
        part = part[int(key) if key.isdecimal() else key]
    if value is None:
        del part[last]
    else:
        part[last] = value
    return content


@pytest.mark.parametrize(
    "path, value, reason",
    [
        ("trainer", None, "weights alone"),
        ("model", None, "no weights"),
        ("model", {}, "no weights"),
        ("trainer._trainer.optimizer", None, "no optimizer"),
        ("trainer._trainer.optimizer.state", None, "no optimizer"),
        ("trainer._trainer", 3, "no optimizer"),
        ("trainer.hooks", None, "no schedule"),
        ("trainer.iteration", float("nan"), "at which iteration it was written: nan"),
        ("trainer.iteration", -3, "at which iteration"),
        ("trainer.iteration", "7", "at which iteration"),
        ("trainer._trainer.iteration", 8, "at which iteration"),
        ("model.b", torch.tensor([1.0, float("nan")]), "not finite or not real, in model.b$"),
        ("model.b", torch.ones(3) * 1j, "not real, in model.b$"),
        (
            "trainer._trainer.optimizer.state.0.momentum_buffer",
            torch.tensor([float("inf")]),
            "in trainer._trainer.optimizer.state.0.momentum_buffer$",
        ),
    ],
)
def test_what_a_run_cannot_go_on_with_is_said(saved, path, value, reason):
    with pytest.raises(UserError, match=f"model_0000007.pth .*{reason}"):
        check_continuable(saved(changed(path, value)))


def test_large_finite_numbers_are_finite(saved):
    """Though their sum is not."""
    content = changed("model.b", torch.full((4,), 3e38))
    assert check_continuable(saved(content)) == 7


def test_fingerprints_are_of_the_content(saved):
    first = fingerprint(saved(content_of_a_run()))
    assert first == fingerprint(saved(content_of_a_run())) is not None
    assert first != fingerprint(saved(changed("model.b", torch.ones(3))))
