"""Torch files are read whole, and never executed."""

import builtins
import os
import pickle
import sys
import tarfile
import zipfile
from collections import OrderedDict

import pytest
import torch

from vfnet.checkpoint import read_checkpoint
from vfnet.checkpoint.tensor_file import Placeholder
from vfnet.errors import UserError

FORMATS = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])


@FORMATS
def test_a_file_of_tensors_comes_back_equal(tmp_path, zipped):
    written = {"state_dict": OrderedDict(a=torch.arange(6).reshape(2, 3).t()), "epoch": 3}
    torch.save(written, tmp_path / "x.pth", _use_new_zipfile_serialization=zipped)
    read = read_checkpoint(tmp_path / "x.pth")
    assert read["epoch"] == 3
    assert torch.equal(read["state_dict"]["a"], written["state_dict"]["a"])


@FORMATS
def test_a_training_checkpoint_gives_its_tensors_and_placeholders(
    tmp_path, save_training_checkpoint, small_state_dict, zipped
):
    path = tmp_path / "epoch_12.pth"
    save_training_checkpoint(path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(pickle.UnpicklingError):  # else this tests nothing
        torch.load(path, weights_only=True)

    read = read_checkpoint(path)

    assert "mmengine_made_up" not in sys.modules
    assert list(read["state_dict"]) == list(small_state_dict)
    for name, tensor in small_state_dict.items():
        assert torch.equal(read["state_dict"][name], tensor)
        assert read["state_dict"][name].dtype == tensor.dtype
    assert isinstance(read["message_hub"], Placeholder)
    assert isinstance(read["meta"]["cfg"], Placeholder)
    assert isinstance(read["optimizer"]["param_groups"][0]["lr"], Placeholder)
    assert torch.equal(read["optimizer"]["state"][0]["momentum_buffer"], torch.ones(2))
    assert read["meta"]["dataset_meta"] == {"CLASSES": ("cat", "dog"), "PALETTE": [(1, 2, 3)]}
    assert read["seen"] == {1, 2} and read["hash"] == b"\xff\x00"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int64, torch.bool])
def test_dtypes_parameters_and_shared_storages_survive_beside_foreign_objects(
    tmp_path, calling, dtype
):
    base = torch.ones(4).to(dtype)
    parameter = torch.nn.Parameter(torch.arange(3.0))
    torch.save(
        {"a": base, "b": base[1:3], "p": parameter, "t": dtype, "x": calling(int, "1")},
        tmp_path / "x.pth",
    )
    read = read_checkpoint(tmp_path / "x.pth")
    assert torch.equal(read["a"], base) and read["a"].dtype == dtype and read["t"] is dtype
    assert read["b"].untyped_storage().data_ptr() == read["a"].untyped_storage().data_ptr()
    assert torch.equal(read["p"], parameter)
    assert isinstance(read["x"], Placeholder)


def attacks(marker):
    command = f"touch {marker}"
    return {
        "os.system": (os.system, command),
        "eval": (builtins.eval, f"open({str(marker)!r}, 'w')"),
        "exec": (builtins.exec, f"open({str(marker)!r}, 'w')"),
        "open": (builtins.open, str(marker), "w"),
        "import": (builtins.__import__, "antigravity"),
        "torch.save": (torch.save, [1], str(marker)),
        "load_from_bytes": (torch.storage._load_from_bytes, _bomb(command)),
        "getattr": (getattr, _Call(os.system, command), "x"),
    }


class _Call:
    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call[0], self.call[1:]


def _bomb(command):
    return pickle.dumps(_Call(os.system, command))


@FORMATS
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("kind", sorted(attacks("x")))
def test_a_malicious_file_does_nothing(tmp_path, calling, kind, protocol, zipped):
    marker = tmp_path / "executed"
    written = {
        "state_dict": {"a": torch.ones(2), "b": [calling(*attacks(marker)[kind])]},
        "meta": calling(*attacks(marker)[kind]),
    }
    path = tmp_path / "evil.pth"
    torch.save(written, path, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    before = set(sys.modules)

    read = read_checkpoint(path)

    assert not marker.exists()
    assert "antigravity" not in set(sys.modules) - before
    assert torch.equal(read["state_dict"]["a"], torch.ones(2))
    assert isinstance(read["state_dict"]["b"][0], Placeholder)
    assert isinstance(read["meta"], Placeholder)


def test_the_attacks_work_on_a_reader_that_executes(tmp_path, calling):
    marker = tmp_path / "executed"
    torch.save({"meta": calling(*attacks(marker)["os.system"])}, tmp_path / "evil.pth")
    torch.load(tmp_path / "evil.pth", weights_only=False)
    assert marker.exists()


def test_a_file_cannot_change_a_function_of_torch(tmp_path):
    # Protocol 2: name the function, then set its __defaults__ by the slot state.
    stream = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nN}X\x0c\x00\x00\x00__defaults__"
    stream += b"K\x01\x85s\x86b."
    path = tmp_path / "evil.pth"
    torch.save({}, path)
    _replace_pickle(path, b"\x80\x02}X\x01\x00\x00\x00a" + stream[2:-1] + b"s.")
    before = torch._utils._rebuild_tensor_v2.__defaults__

    read_checkpoint(path)

    assert torch._utils._rebuild_tensor_v2.__defaults__ == before


def _replace_pickle(path, data):
    with zipfile.ZipFile(path) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in records.items():
            archive.writestr(name, data if name.endswith("/data.pkl") else content)


def test_the_old_formats_module_records_pass_nothing_to_torch(tmp_path):
    class WithSource(pickle.Pickler):
        def persistent_id(self, obj):
            return ("module", dict, "file.py", "source") if obj is Ellipsis else None

    path = tmp_path / "old.pth"
    torch.save({"a": 1}, path, _use_new_zipfile_serialization=False)
    with open(path, "rb") as stream:
        head = [pickle.load(stream) for _ in range(3)]
    with open(path, "wb") as stream:
        for part in head:
            pickle.dump(part, stream, protocol=2)
        WithSource(stream, protocol=2).dump({"a": 1, "module": ..., "f": os.system})
        pickle.dump([], stream, protocol=2)
    read = read_checkpoint(path)
    assert read["a"] == 1 and isinstance(read["module"], Placeholder)


@FORMATS
@pytest.mark.parametrize("keep", [0.0, 0.3, 0.9])
def test_a_truncated_file_is_named(tmp_path, save_training_checkpoint, keep, zipped):
    path = tmp_path / "cut.pth"
    save_training_checkpoint(path, _use_new_zipfile_serialization=zipped)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(UserError, match="cut.pth.*truncated"):
        read_checkpoint(path)


def test_other_files_are_named(tmp_path):
    (tmp_path / "page.pth").write_text("<html>404</html>")
    with pytest.raises(UserError, match="page.pth"):
        read_checkpoint(tmp_path / "page.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(UserError, match="list.pth.*list"):
        read_checkpoint(tmp_path / "list.pth")
    with pytest.raises(UserError, match="absent.pth"):
        read_checkpoint(tmp_path / "absent.pth")


@pytest.mark.filterwarnings("ignore:.*TorchScript archive")
@pytest.mark.filterwarnings("ignore:.*deprecated")
def test_torchscript_and_tar_files_are_refused_unread(tmp_path):
    torch.jit.save(torch.jit.script(torch.nn.ReLU()), str(tmp_path / "script.pth"))
    with pytest.raises(UserError, match="script.pth"):
        read_checkpoint(tmp_path / "script.pth")
    with tarfile.open(tmp_path / "old.pth", "w") as archive:
        archive.add(tmp_path / "script.pth", "storages")
    with pytest.raises(UserError, match="old.pth.*tar"):
        read_checkpoint(tmp_path / "old.pth")
