"""Small files that ask for hours or gigabytes end in a UserError, quickly and small."""

import pickle
import zipfile

import numpy as np
import pytest
import safetensors.torch
import torch

from tests.command import run_python

# Each way to read a file, with ten seconds of processor time for all of them together and 1 GiB of
# memory beyond what importing takes.
READ = """
import resource, sys
import torch
from vfnet.checkpoint import VFNetCheckpointer
from vfnet.errors import UserError
pages = int(open("/proc/self/statm").read().split()[0])
used = resource.getrusage(resource.RUSAGE_SELF)
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (1 << 30),) * 2)
resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + 10,) * 2)
for path in sys.argv[1:]:
    ways = {
        "load": lambda: VFNetCheckpointer(torch.nn.Linear(2, 2)).load(path),
        "check": lambda: VFNetCheckpointer(torch.nn.Linear(2, 2, device="meta")).check(path),
        "mmdet": lambda: VFNetCheckpointer(torch.nn.Linear(2, 2)).load(f"mmdet://{path}"),
    }
    for way, call in ways.items():
        try:
            call()
        except UserError as error:
            print("refused", way, path, error)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - used.ru_maxrss
print("MiB", peak >> 10)
"""


def all_refused(paths, monkeypatch):
    """Read files in every way in one process with limits; expect to have them refused by name."""
    monkeypatch.setenv("FVCORE_CACHE", str(paths[0].parent / "cache"))
    done = run_python("-c", READ, *paths)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [line for line in done.stdout.splitlines() if line.startswith("refused")]
    expected = [(way, path) for path in paths for way in ("load", "check", "mmdet")]
    assert [line.split(" ", 3)[1:3] for line in lines] == [[w, str(p)] for w, p in expected]
    assert all(path.name in line.split(" ", 3)[3] for line, (_, path) in zip(lines, expected))
    assert int(done.stdout.split()[-1]) < 200
    return lines


def bombs():
    """Pickles of a dict, by what they ask for."""
    # t = (), then forty times t = (t, t): each stays in the memo, the last one on the stack.
    twice = [b"h%ch%c\x86q%c" % (i, i, i + 1) for i in range(1, 41)]
    deep = b")q\x010" + b"0".join(twice)
    item = b"\x80\x02}X\x01\x00\x00\x00a"  # {"a": what follows
    three_billion = b"\x8a\x05\x00\x5e\xd0\xb2\x00\x85R"
    megabyte = b"X\x00\x00\x10\x00" + b"a" * (1 << 20) + b"q\x010"
    return {
        "key": b"\x80\x02}" + deep + b"K\x01s.",
        "set": item + b"c__builtin__\nset\n]" + deep + b"a\x85Rs.",
        "bytearray": item + b"c__builtin__\nbytearray\n" + three_billion + b"s.",
        "bytes": item + b"c__builtin__\nbytes\n" + three_billion + b"s.",
        "memo": b"\x80\x02}r\x00\x00\x00\x70.",
        "lists": item + megabyte + b"](" + b"c__builtin__\nlist\nh\x01\x85R" * 3000 + b"es.",
    }


def zipped(path, data):
    torch.save({}, path)
    with zipfile.ZipFile(path) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in records.items():
            archive.writestr(name, data if name.endswith("/data.pkl") else content)


def legacy(path, data):
    torch.save({}, path, _use_new_zipfile_serialization=False)
    with open(path, "rb") as stream:
        head = [pickle.load(stream) for _ in range(3)]
    parts = [pickle.dumps(part, protocol=2) for part in head]
    path.write_bytes(b"".join([*parts, data, pickle.dumps([], protocol=2)]))


def plain(path, data):
    path.write_bytes(data)


@pytest.mark.parametrize("write", [zipped, legacy, plain])
def test_a_pickle_that_asks_for_too_much_is_refused(tmp_path, monkeypatch, write):
    paths = []
    for name, data in bombs().items():
        paths.append(tmp_path / f"{name}.{'pkl' if write is plain else 'pth'}")
        write(paths[-1], data)
    all_refused(paths, monkeypatch)


def odd_tensors():
    return {
        "sparse": torch.eye(2).to_sparse(),
        "csr": torch.eye(2).to_sparse_csr(),
        "meta": torch.empty(2, 2, device="meta"),
        "expanded": torch.zeros(()).expand(2, 2),
        "huge": torch.zeros(()).expand(1 << 40),
        "quantized": torch.quantize_per_tensor(torch.zeros(2, 2), 1.0, 0, torch.quint8),
    }


@pytest.mark.filterwarnings("ignore:Sparse", "ignore:.*quantize_per_tensor")
@pytest.mark.parametrize("zip_format", [True, False], ids=["zip", "legacy"])
def test_tensors_that_are_no_plain_numbers_are_refused(tmp_path, monkeypatch, zip_format):
    paths = []
    for name, tensor in odd_tensors().items():
        paths.append(tmp_path / f"{name}.pth")
        content = {"model": {"weight": tensor, "bias": torch.zeros(2)}}
        content["state_dict"] = {"backbone.conv1.weight": tensor}
        torch.save(content, paths[-1], _use_new_zipfile_serialization=zip_format)
    all_refused(paths, monkeypatch)


def test_a_damaged_safetensors_is_refused(tmp_path, monkeypatch):
    data = safetensors.torch.save({"weight": torch.zeros(2, 2), "bias": torch.zeros(2)})
    damaged = {
        "empty": b"",
        "cut": data[:-5],
        "page": b"<html>404</html>",
        "no_header": (1 << 62).to_bytes(8, "little") + data[8:],
        "outside": data.replace(b"[8,24]", b"[8,99]"),
        "larger": data.replace(b"[2,2]", b"[9,9]"),
        "deep": b"%b%b" % ((1 << 20).to_bytes(8, "little"), b"[" * (1 << 20)),
    }
    for number, notes in enumerate(("[", "[]", '{"class_names": ' + "[" * 100_000)):
        content = safetensors.torch.save({"a": torch.zeros(1)}, metadata={"vfnet": notes})
        damaged[f"notes{number}"] = content
    assert len(set(damaged.values()) - {data}) == len(damaged)
    for name, content in damaged.items():
        (tmp_path / f"{name}.safetensors").write_bytes(content)
    all_refused([tmp_path / f"{name}.safetensors" for name in damaged], monkeypatch)


def test_what_is_shown_larger_than_it_is_is_refused(tmp_path, monkeypatch):
    torch.save({"model": {"weight": torch.zeros(64 << 20)}}, tmp_path / "x.pth")
    packed = zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(tmp_path / "x.pth") as archive, packed:
        for name in archive.namelist():
            packed.writestr(name, archive.read(name))
    content = {"model": {"weight": np.zeros((2, 2), "f4")}, "__author__": "x"}
    data = pickle.dumps(content, protocol=2)
    assert data.count(b"K\x02K\x02\x86") == 1
    (tmp_path / "x.pkl").write_bytes(data.replace(b"K\x02K\x02\x86", b"K\x02J\x00\x00\x00\x40\x86"))
    assert "compressed" in all_refused([tmp_path / "bomb.pth", tmp_path / "x.pkl"], monkeypatch)[0]
