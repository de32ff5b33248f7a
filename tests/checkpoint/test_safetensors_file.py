"""Weights as safetensors, written and read."""

import pytest
import torch
from safetensors.torch import load_file

from vfnet.checkpoint import VFNetCheckpointer, read_checkpoint, write_safetensors
from vfnet.errors import UserError

from .loading import refused, same, snapshot


def test_weights_are_written_beside_the_checkpoint_and_come_back(tmp_path, make_model):
    model, other = make_model().to(memory_format=torch.channels_last), make_model(seed=1)
    VFNetCheckpointer(model, str(tmp_path), safetensors=True).save("model_final", iteration=3)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["last_checkpoint", "model_final.pth", "model_final.safetensors"]
    assert (tmp_path / "last_checkpoint").read_text() == "model_final.pth"
    path = str(tmp_path / "model_final.safetensors")
    VFNetCheckpointer(other, whole_detector=True).check(path)
    assert not same(other, snapshot(model))
    VFNetCheckpointer(other, whole_detector=True).load(path)
    assert same(other, snapshot(model))
    assert load_file(path).keys() == model.state_dict().keys()


def test_numbered_checkpoints_are_for_going_on_only(tmp_path, make_model):
    VFNetCheckpointer(make_model(), str(tmp_path), safetensors=True).save("model_0000004")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["last_checkpoint", "model_0000004.pth"]


def test_views_and_tensors_of_one_storage_are_written_each_for_itself(tmp_path):
    base = torch.arange(6.0)
    weights = {"a": base, "b": base[2:4], "c": base.reshape(2, 3).t(), "n": torch.tensor(3)}
    write_safetensors(tmp_path / "x.safetensors", weights, class_names=["é"])
    read = read_checkpoint(tmp_path / "x.safetensors")
    assert read["class_names"] == ["é"] and read["model"].keys() == weights.keys()
    assert all(torch.equal(read["model"][name], value) for name, value in weights.items())


def test_what_does_not_fit_is_refused(tmp_path, make_model):
    path = tmp_path / "x.safetensors"
    weights = snapshot(make_model())
    del weights["head.box_pred.bias"]
    write_safetensors(path, weights)
    message = refused(make_model(), str(path), "Missing in the file: head.box_pred.bias")
    with pytest.raises(UserError) as caught:
        VFNetCheckpointer(make_model().to("meta")).check(str(path))
    assert str(caught.value) == message
