"""mmdet checkpoints through Detectron2's own, unmodified checkpointer."""

import http.server
import logging
import multiprocessing
import os
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.engine import DefaultPredictor
from detectron2.utils.file_io import PathManager

from vfnet.checkpoint import convert_state_dict, register_mmdet_handler
from vfnet.checkpoint.mmdet.handler import CONVERTER_VERSION
from vfnet.errors import UserError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("FVCORE_CACHE", str(folder))
    return folder / "vfnet_mmdet"


@pytest.fixture
def work(tmp_path, monkeypatch, small_state_dict):
    """The current folder, with an mmdet checkpoint in its subfolder `rel`."""
    folder = tmp_path / "work"
    (folder / "rel").mkdir(parents=True)
    torch.save({"meta": {}, "state_dict": small_state_dict}, folder / "rel" / "x.pth")
    monkeypatch.chdir(folder)
    return folder


class OneParameter(torch.nn.Module):
    """A model of one parameter with a VFNet's name."""

    def __init__(self):
        super().__init__()
        self.head = torch.nn.Module()
        self.head.box_pred = torch.nn.Linear(1, 4)


def load_bias(weights):
    model = OneParameter()
    DetectionCheckpointer(model).load(weights)
    return model.head.box_pred.bias.tolist()


@pytest.mark.parametrize("prefix", ["mmdet:", "mmdet:/", "mmdet://"])
@pytest.mark.parametrize("kind", ["relative", "dotted", "absolute"])
def test_every_form_of_a_path_reaches_the_file(work, prefix, kind):
    path = {"relative": "rel/x.pth", "dotted": "./rel/x.pth", "absolute": f"{work}/rel/x.pth"}[kind]
    assert load_bias(prefix + path) == [2.0, 3.0, 4.0, 5.0]


@pytest.mark.parametrize("prefix", ["mmdet:", "mmdet:/", "mmdet://", "mmdet:///"])
def test_every_form_of_a_url_reaches_the_file(work, prefix):
    handler = lambda *args: Quiet(*args, directory=str(work))  # noqa: E731
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        assert load_bias(f"{prefix}{url}/rel/x.pth") == [2.0, 3.0, 4.0, 5.0]
        with pytest.raises(UserError, match="absent.pth.*404"):
            PathManager.get_local_path(f"{prefix}{url}/rel/absent.pth")
        server.shutdown()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


def test_the_file_can_be_opened_through_the_path_manager(work):
    with PathManager.open("mmdet://rel/x.pth", "rb") as stream:
        assert "model" in torch.load(stream, weights_only=True)
    with pytest.raises(UserError, match="only be read"):
        PathManager.open("mmdet://rel/x.pth", "wb")


def test_the_converted_file_says_where_it_comes_from(work, save_training_checkpoint):
    save_training_checkpoint("rel/epoch_12.pth")
    local = PathManager.get_local_path("mmdet://rel/epoch_12.pth")
    converted = torch.load(local, weights_only=True)
    assert sorted(converted) == ["__author__", "class_names", "mmdet_source", "model"]
    assert converted["__author__"] == "mmdet"
    assert converted["mmdet_source"].endswith("rel/epoch_12.pth")
    assert converted["class_names"] == ["cat", "dog"]
    names = ["backbone.bottom_up.stem.conv1.weight", "head.box_scales.0", "head.box_pred.bias"]
    assert list(converted["model"]) == names


def test_class_names_of_mmdet_2_are_found(work, small_state_dict):
    torch.save({"meta": {"CLASSES": ("a", "b")}, "state_dict": small_state_dict}, "v2.pth")
    local = PathManager.get_local_path("mmdet:v2.pth")
    assert torch.load(local, weights_only=True)["class_names"] == ["a", "b"]


def test_a_bare_state_dict_is_taken(work, small_state_dict):
    torch.save(small_state_dict, "bare.pth")
    assert load_bias("mmdet://bare.pth") == [2.0, 3.0, 4.0, 5.0]


def test_the_cache_is_named_by_content_and_converter(work, cache, small_state_dict):
    first = Path(PathManager.get_local_path("mmdet://rel/x.pth"))
    assert first.parent == cache
    assert first.name.endswith(f"_v{CONVERTER_VERSION}.pth")
    before = first.stat().st_mtime_ns
    os.rename("rel/x.pth", "same.pth")
    assert PathManager.get_local_path("mmdet://same.pth") == str(first)
    assert first.stat().st_mtime_ns == before  # not converted again

    small_state_dict["bbox_head.vfnet_reg.bias"] += 1
    torch.save({"state_dict": small_state_dict}, "same.pth")
    assert load_bias("mmdet://same.pth") == [3.0, 4.0, 5.0, 6.0]


def test_a_read_only_cache_gives_way_to_the_temporary_folder(work, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path / "file" / "cache"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    local = Path(PathManager.get_local_path("mmdet://rel/x.pth"))
    assert tmp_path / "temporary" in local.parents
    assert local.is_file()


def ask(barrier, answers):
    barrier.wait()
    answers.put(PathManager.get_local_path("mmdet://rel/x.pth"))


@pytest.mark.filterwarnings("ignore:.*fork")
def test_eight_processes_that_ask_at_once_get_one_whole_file(work, cache):
    context = multiprocessing.get_context("fork")  # importing Detectron2 anew takes seconds each
    barrier, queue = context.Barrier(8), context.Queue()
    processes = [context.Process(target=ask, args=(barrier, queue)) for _ in range(8)]
    for process in processes:
        process.start()
    answers = [queue.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()

    assert len(set(answers)) == 1
    assert [str(path) for path in cache.iterdir()] == answers[:1]
    assert len(torch.load(answers[0], weights_only=True)["model"]) == 3


def test_names_without_a_rule_stop_it_and_leave_nothing(work, cache, small_state_dict):
    small_state_dict["bbox_head.tood_cls.weight"] = torch.ones(1)
    torch.save({"state_dict": small_state_dict}, "tood.pth")
    with pytest.raises(ValueError, match="tood.pth.*bbox_head.tood_cls.weight"):
        DetectionCheckpointer(OneParameter()).load("mmdet://tood.pth")
    assert not cache.exists()


@pytest.mark.parametrize("content", [{}, {"state_dict": []}, {"state_dict": {}}])
def test_a_file_without_weights_is_an_error(work, content):
    torch.save(content, "empty.pth")
    with pytest.raises(UserError, match="empty.pth"):
        PathManager.get_local_path("mmdet://empty.pth")


@pytest.mark.parametrize("form", ["mmdet:absent.pth", "mmdet:/absent.pth", "mmdet:///absent.pth"])
def test_a_missing_file_is_named(work, form):
    with pytest.raises(UserError, match="no file at.*absent.pth"):
        PathManager.get_local_path(form)


def test_registering_again_changes_nothing(work):
    register_mmdet_handler()
    assert load_bias("mmdet://rel/x.pth") == [2.0, 3.0, 4.0, 5.0]


@pytest.mark.parametrize("norm", ["BN", "FrozenBN"])
def test_a_whole_detector_loads_but_for_counters_of_batches(shared, make_model, caplog, norm):
    path = shared.resolve() / "reference" / "mini_r50.pth"
    model = make_model("MODEL.RESNETS.NORM", norm)
    with caplog.at_level(logging.WARNING):
        extra = DetectionCheckpointer(model).load(f"mmdet://{path}")
    names = [
        line
        for record in caplog.records
        for line in record.getMessage().splitlines()
        if "." in line
    ]
    assert [name for name in names if "num_batches_tracked" not in name] == []
    assert extra["__author__"] == "mmdet"

    source = torch.load(path, weights_only=True)["state_dict"]
    loaded = model.state_dict()
    for name, value in convert_state_dict(source).items():
        assert torch.equal(loaded[name], value), name


def test_the_default_predictor_takes_the_path(shared, mini_config):
    path = shared.resolve() / "reference" / "mini_r50.pth"
    cfg = mini_config
    cfg.MODEL.WEIGHTS = f"mmdet://{path}"
    cfg.INPUT.MIN_SIZE_TEST = 64
    predictor = DefaultPredictor(cfg)
    source = torch.load(path, weights_only=True)["state_dict"]
    assert torch.equal(predictor.model.head.cls_pred.weight, source["bbox_head.vfnet_cls.weight"])
    assert "instances" in predictor(np.zeros((64, 64, 3), np.uint8))
