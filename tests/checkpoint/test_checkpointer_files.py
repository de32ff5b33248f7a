"""Which kinds of files the checkpointer reads, and that it executes none."""

import os
import pickle

import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer

from vfnet.checkpoint import VFNetCheckpointer

from .loading import refused, same, snapshot


def loads_as_in_detectron2(make_model, path, loaded):
    """Load into two models, expect the same, and that it is more than what they started with."""
    model, reference = make_model(), make_model()
    before = snapshot(model)
    VFNetCheckpointer(model).load(str(path))
    DetectionCheckpointer(reference).load(str(path))
    assert same(model, snapshot(reference))
    assert not torch.equal(model.state_dict()[loaded], before[loaded])


def test_a_zoo_file_loads_as_in_detectron2(tmp_path, make_model):
    names = make_model(seed=1).backbone.bottom_up.state_dict()
    weights = {name: value.numpy() for name, value in names.items() if "num_batches" not in name}
    content = {"model": weights, "__author__": "torchvision", "matching_heuristics": True}
    path = tmp_path / "R-50.pkl"
    for protocol in (2, pickle.HIGHEST_PROTOCOL):
        path.write_bytes(pickle.dumps(content, protocol=protocol))
        loads_as_in_detectron2(make_model, path, "backbone.bottom_up.res4.0.conv2.weight")


@pytest.mark.parametrize("nested", [True, False])
def test_a_caffe2_file_loads_as_in_detectron2(tmp_path, make_model, nested):
    shape = make_model().backbone.bottom_up.res2[0].conv1.weight.shape
    blobs = {"res2_0_branch2a_w": torch.randn(shape).numpy()}
    blobs["res2_0_branch2a_w_momentum"] = blobs["res2_0_branch2a_w"] + 1
    content = {"blobs": blobs, "cfg": "text"} if nested else blobs
    (tmp_path / "R-50.pkl").write_bytes(pickle.dumps(content, protocol=2))
    loads_as_in_detectron2(
        make_model, tmp_path / "R-50.pkl", "backbone.bottom_up.res2.0.conv1.weight"
    )


def test_a_pycls_file_loads_as_in_detectron2(tmp_path, make_model):
    weights = make_model(seed=1).backbone.bottom_up.state_dict()
    torch.save({"model_state": weights}, tmp_path / "x.pyth")
    loads_as_in_detectron2(
        make_model, tmp_path / "x.pyth", "backbone.bottom_up.res4.0.conv2.weight"
    )
    torch.save({"weights": weights}, tmp_path / "other.pyth")
    refused(make_model(), str(tmp_path / "other.pyth"), "other.pyth")


def test_a_zoo_file_without_any_name_that_fits_is_refused(tmp_path, make_model):
    with open(tmp_path / "vgg.pkl", "wb") as stream:
        content = {"model": {"classifier.9.gain": torch.ones(3).numpy()}, "__author__": "x"}
        pickle.dump({**content, "matching_heuristics": True}, stream)
    refused(make_model(), str(tmp_path / "vgg.pkl"), "vgg.pkl does not fit")


@pytest.mark.parametrize("suffix", ["pth", "pkl"])
def test_truncated_files_are_named(tmp_path, make_model, suffix):
    path = tmp_path / f"cut.{suffix}"
    if suffix == "pth":
        torch.save({"model": snapshot(make_model())}, path)
    else:
        path.write_bytes(pickle.dumps({"model": {"a": torch.ones(9).numpy()}, "__author__": "x"}))
    path.write_bytes(path.read_bytes()[:-30])
    refused(make_model(), str(path), f"cut.{suffix} cannot be read")


@pytest.mark.parametrize("suffix", ["pth", "pyth"])
def test_a_file_that_would_execute_is_refused(tmp_path, make_model, calling, suffix):
    model = make_model()
    key = "model_state" if suffix == "pyth" else "model"
    content = {key: snapshot(model), "extra": calling(os.mkdir, str(tmp_path / "executed"))}
    torch.save(content, tmp_path / f"evil.{suffix}")
    refused(model, str(tmp_path / f"evil.{suffix}"), f"evil.{suffix}")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("whole", [True, False])
def test_a_pickle_is_not_executed(tmp_path, make_model, calling, whole):
    model = make_model()
    weights = {name: value.numpy() for name, value in snapshot(make_model(seed=1)).items()}
    evil = calling(os.mkdir, str(tmp_path / "executed"))
    path = tmp_path / "evil.pkl"
    path.write_bytes(pickle.dumps({"model": {**weights, "a": evil}, "__author__": "x"}))
    refused(model, str(path), "evil.pkl", whole_detector=whole)
    path.write_bytes(pickle.dumps({"model": weights, "__author__": evil}))
    VFNetCheckpointer(model, whole_detector=whole).load(str(path))
    assert same(model, snapshot(make_model(seed=1)))
    assert not (tmp_path / "executed").exists()


def test_other_content_is_named(tmp_path, make_model, small_state_dict):
    model = make_model()
    for content in ([1], {}, {"model": {"a": 1}}, {"model": [1]}, {"model": {}}):
        torch.save(content, tmp_path / "odd.pth")
        refused(model, str(tmp_path / "odd.pth"), "odd.pth")


def test_a_bare_mmdet_file_is_pointed_to_its_prefix(tmp_path, make_model, small_state_dict):
    torch.save({"meta": {}, "state_dict": small_state_dict}, tmp_path / "mm.pth")
    refused(make_model(), str(tmp_path / "mm.pth"), "mmdet://.*mm.pth")
