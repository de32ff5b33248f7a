"""`check` tells what `load` would, and loads nothing."""

import copy
import pickle

import pytest
import torch

from tests.command import run_python
from vfnet.checkpoint import VFNetCheckpointer, write_safetensors
from vfnet.errors import UserError

from .loading import refused, same, save, snapshot


@pytest.fixture
def meta_model(make_model):
    return lambda *settings: copy.deepcopy(make_model(*settings)).to("meta")


def raised(function):
    try:
        function()
    except UserError as error:
        return str(error)
    return None


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_file_that_fits_passes_and_the_model_stays_as_it_was(
    tmp_path, make_model, meta_model, zipped
):
    content = {"model": snapshot(make_model(seed=1)), "iteration": 3}
    torch.save(content, tmp_path / "x.pth", _use_new_zipfile_serialization=zipped)
    VFNetCheckpointer(meta_model(), whole_detector=True).check(str(tmp_path / "x.pth"))
    model = make_model()
    before = snapshot(model)
    checkpointer = VFNetCheckpointer(model)
    checkpointer.check(str(tmp_path / "x.pth"))
    assert same(model, before)
    checkpointer.load(str(tmp_path / "x.pth"))  # which loads after a check as before it
    assert same(model, content["model"])


@pytest.mark.parametrize("whole", [True, False])
def test_what_load_refuses_is_refused_in_the_same_words(tmp_path, make_model, meta_model, whole):
    path = save(make_model(), tmp_path)
    content = torch.load(path, weights_only=True)
    (tmp_path / "cut.pth").write_bytes((tmp_path / "model.pth").read_bytes()[:-40])
    del content["model"]["head.box_pred.bias"]
    torch.save(content, tmp_path / "less.pth")
    for weights in (str(tmp_path / "cut.pth"), str(tmp_path / "less.pth"), "absent.pth"):
        message = refused(make_model(), weights, "pth", whole_detector=whole)
        checkpointer = VFNetCheckpointer(meta_model(), whole_detector=whole)
        assert raised(lambda: checkpointer.check(weights)) == message  # noqa: B023


def test_another_number_of_classes_passes_where_it_may(tmp_path, make_model, meta_model):
    path = save(make_model(), tmp_path)
    model = meta_model("MODEL.VFNET.NUM_CLASSES", 3)
    VFNetCheckpointer(model).check(path)
    with pytest.raises(UserError, match="head.cls_pred.weight"):
        VFNetCheckpointer(model, whole_detector=True).check(path)


def test_a_backbone_with_guessed_names_fits_or_does_not(tmp_path, make_model, meta_model):
    names = make_model(seed=1).backbone.bottom_up.state_dict()
    content = {"model": {n: v.numpy() for n, v in names.items()}, "__author__": "torchvision"}
    content["matching_heuristics"] = True
    (tmp_path / "R-50.pkl").write_bytes(pickle.dumps(content))
    VFNetCheckpointer(meta_model()).check(str(tmp_path / "R-50.pkl"))
    content["model"] = {"classifier.9.gain": torch.ones(3).numpy()}
    (tmp_path / "vgg.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(UserError, match="vgg.pkl does not fit"):
        VFNetCheckpointer(meta_model()).check(str(tmp_path / "vgg.pkl"))


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_tensors_stay_on_the_disk(tmp_path, suffix):
    weights = {"head.weight": torch.zeros(100 << 20)}
    if suffix == "pth":
        torch.save({"model": weights}, tmp_path / "large.pth")
    else:
        write_safetensors(tmp_path / "large.safetensors", weights)
    code = r"""
import re, sys, threading, torch
from vfnet.checkpoint import VFNetCheckpointer
model = torch.nn.Module()
model.head = torch.nn.Linear(1, 1, bias=False, device="meta")
model.head.weight = torch.nn.Parameter(torch.empty(100 << 20, device="meta"))
def own():  # KiB that are in no file, mapped or not
    return int(re.search(r"RssAnon:\s+(\d+)", open("/proc/self/status").read())[1])
seen = [own()]
def watch():
    while True:
        seen.append(max(seen[-1], own()))
threading.Thread(target=watch, daemon=True).start()
VFNetCheckpointer(model).check(sys.argv[1])
print(seen[-1] - seen[0], len(seen))
"""
    done = run_python("-c", code, tmp_path / f"large.{suffix}")
    assert done.returncode == 0, done.stderr
    most, looks = map(int, done.stdout.split())
    assert most < 100 << 10 and looks > 10  # KiB; the tensor has 400 MiB
