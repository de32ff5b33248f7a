"""What the checkpointer takes, what it refuses, and what a failure leaves behind."""

import logging
import os
import pickle

import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.engine import SimpleTrainer, hooks
from detectron2.solver import build_lr_scheduler, build_optimizer

from vfnet.checkpoint import VFNetCheckpointer
from vfnet.errors import UserError

from .loading import refused, same, save, snapshot


def test_what_was_saved_comes_back(tmp_path, make_model, caplog):
    model, other = make_model(), make_model(seed=1)
    with caplog.at_level(logging.WARNING):
        VFNetCheckpointer(other).load(save(model, tmp_path))
    assert same(other, snapshot(model))
    assert caplog.records == []


def test_an_unmodified_checkpointer_reads_our_files_and_the_other_way_round(tmp_path, make_model):
    model, other, third = make_model(), make_model(seed=1), make_model(seed=2)
    DetectionCheckpointer(other).load(save(model, tmp_path))
    assert same(other, snapshot(model))
    DetectionCheckpointer(model, str(tmp_path)).save("theirs")
    VFNetCheckpointer(third).load(str(tmp_path / "theirs.pth"))
    assert same(third, snapshot(model))


def make_trainer(cfg, model, folder):
    optimizer = build_optimizer(cfg, model)
    trainer = SimpleTrainer(model, range(9), optimizer)
    trainer.register_hooks([hooks.LRScheduler(optimizer, build_lr_scheduler(cfg, optimizer))])
    return trainer, VFNetCheckpointer(model, str(folder), trainer=trainer)


def test_a_trainers_state_survives_reading_with_weights_only(tmp_path, mini_config, make_model):
    model = make_model()
    trainer, checkpointer = make_trainer(mini_config, model, tmp_path)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    trainer.optimizer.step()
    trainer._hooks[0].scheduler.step()
    trainer.iter = 4
    checkpointer.save("model_0000004", iteration=4)

    other = make_model(seed=1)
    resumed, checkpointer = make_trainer(mini_config, other, tmp_path)
    extra = checkpointer.resume_or_load("absent.pth", resume=True)

    assert extra["iteration"] == 4 and resumed.iter == 4
    assert same(other, snapshot(model))
    assert resumed._hooks[0].scheduler.last_epoch == trainer._hooks[0].scheduler.last_epoch
    assert resumed.optimizer.param_groups[0]["lr"] == trainer.optimizer.param_groups[0]["lr"]
    for ours, theirs in zip(other.parameters(), model.parameters()):
        if theirs.requires_grad:
            momentum = trainer.optimizer.state[theirs]["momentum_buffer"]
            assert torch.equal(resumed.optimizer.state[ours]["momentum_buffer"], momentum)


def test_a_save_that_fails_leaves_the_previous_files(tmp_path, make_model, monkeypatch):
    checkpointer = VFNetCheckpointer(make_model(), str(tmp_path))
    checkpointer.save("model_final")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert sorted(before) == ["last_checkpoint", "model_final.pth"]

    def fail(data, stream):
        stream.write(b"half of it")
        raise OSError("no space left on device")

    monkeypatch.setattr(torch, "save", fail)
    for name in ("model_final", "model_0000009"):
        with pytest.raises(OSError, match="no space"):
            checkpointer.save(name)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_last_checkpoint_changes_at_once_or_not(tmp_path, make_model, monkeypatch):
    checkpointer = VFNetCheckpointer(make_model(), str(tmp_path))
    checkpointer.tag_last_checkpoint("old.pth")

    def fail(*args):
        raise OSError("killed")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="killed"):
        checkpointer.tag_last_checkpoint("new.pth")
    assert checkpointer.get_checkpoint_file() == str(tmp_path / "old.pth")
    assert os.listdir(tmp_path) == ["last_checkpoint"]


def test_only_the_main_process_writes(tmp_path, make_model):
    VFNetCheckpointer(make_model(), str(tmp_path), save_to_disk=False).save("model")
    assert os.listdir(tmp_path) == []


def test_another_number_of_classes_starts_the_class_layer_anew(tmp_path, make_model, caplog):
    trained, model = make_model(), make_model("MODEL.VFNET.NUM_CLASSES", 3, seed=1)
    before = snapshot(model)
    with caplog.at_level(logging.INFO):
        VFNetCheckpointer(model).load(save(trained, tmp_path))

    messages = [r.getMessage() for r in caplog.records if "class layer" in r.getMessage()]
    assert messages == ["class layer re-initialised (5 -> 3 classes), all else loaded"]
    assert max(record.levelno for record in caplog.records) == logging.INFO
    expected = snapshot(trained)
    for name, value in model.state_dict().items():
        source = before if name.startswith("head.cls_pred.") else expected
        assert torch.equal(value, source[name]), name


def test_a_whole_detector_loads_where_one_is_asked_for(tmp_path, make_model):
    model, other, third = make_model(), make_model(seed=1), make_model(seed=2)
    path = save(model, tmp_path)
    VFNetCheckpointer(other, whole_detector=True).load(path)
    VFNetCheckpointer(third, whole_detector=True).load(f"{path}?matching_heuristics=True")
    assert same(other, snapshot(model)) and same(third, snapshot(model))


def test_another_number_of_classes_is_no_whole_detector(tmp_path, make_model):
    model = make_model("MODEL.VFNET.NUM_CLASSES", 3)
    path = save(make_model(seed=1), tmp_path)
    match = r"head.cls_pred.weight \(5, 64, 3, 3\) instead of \(3, 64, 3, 3\)"
    refused(model, path, match, whole_detector=True)


def test_a_backbone_is_no_whole_detector(tmp_path, make_model):
    backbone = make_model(seed=1).backbone.state_dict()
    ours = {f"backbone.{name}": value for name, value in backbone.items()}
    torch.save({"model": ours}, tmp_path / "ours.pth")
    torch.save(
        {"model": {f"module.{name}": value for name, value in ours.items()}},
        tmp_path / "wrapped.pth",
    )
    zoo = {name: value.numpy() for name, value in backbone.items() if "bottom_up" in name}
    content = {"model": zoo, "__author__": "torchvision", "matching_heuristics": True}
    (tmp_path / "R-50.pkl").write_bytes(pickle.dumps(content))
    for name in ("ours.pth", "ours.pth?matching_heuristics=True", "wrapped.pth", "R-50.pkl"):
        match = r"expected a whole detector in .*no weights of a head"
        refused(make_model(), str(tmp_path / name), match, whole_detector=True)


def test_guessed_names_make_no_whole_detector(tmp_path, make_model):
    path = save(make_model(seed=1), tmp_path)
    content = torch.load(path, weights_only=True)
    del content["model"]["head.box_pred.bias"]
    torch.save(content, path)
    query = f"{path}?matching_heuristics=True"
    refused(make_model(), query, "Missing in the file: head.box_pred.bias", whole_detector=True)


def test_missing_and_unexpected_names_are_listed(tmp_path, make_model):
    path = save(make_model(), tmp_path)
    content = torch.load(path, weights_only=True)
    content["model"].pop("head.refine_scales.4")
    content["model"]["head.extra.weight"] = torch.ones(1)
    torch.save(content, path)
    message = refused(make_model(seed=1), path, "Missing in the file: head.refine_scales.4")
    assert "Not in the model: head.extra.weight" in message and path in message


def test_a_detector_without_stars_is_not_one_with_stars(tmp_path, make_model):
    raw = ["MODEL.VFNET.STAR_FEATURES", False, "MODEL.VFNET.REFINE_BOX", False]
    message = refused(make_model(), save(make_model(*raw), tmp_path), "head.cls_star.weight")
    assert "head.cls_conv.weight" in message


def test_shapes_that_differ_are_listed(tmp_path, make_model):
    path = save(make_model(), tmp_path)
    other = make_model("MODEL.VFNET.NUM_CONVS", 0, "MODEL.VFNET.CONV_CHANNELS", 32)
    content = torch.load(path, weights_only=True)
    names = ("head.box_pred.weight", "head.cls_pred.weight", "head.cls_pred.bias")
    content["model"] = {**snapshot(other), **{name: content["model"][name] for name in names}}
    torch.save(content, path)
    message = refused(other, path, r"head.box_pred.weight \(4, 64, 3, 3\) instead of \(4, 32, 3, 3")
    assert "head.cls_pred.weight" in message  # more than its classes differ


def test_ten_names_of_a_kind_are_listed_and_the_others_counted(tmp_path, make_model):
    model = make_model()
    names = [name for name in snapshot(model) if "num_batches" not in name]
    names = [name for name in names if not name.startswith("pixel_")]
    other = {f"head.x{i}.weight": torch.ones(1) for i in range(12)}
    torch.save({"model": other}, tmp_path / "x.pth")
    message = refused(model, str(tmp_path / "x.pth"), "x.pth does not fit")
    assert f"Missing in the file: {', '.join(names[:10])} and {len(names) - 10} more;" in message
    assert f"Not in the model: {', '.join(list(other)[:10])} and 2 more." in message


def test_counters_and_pixel_statistics_make_no_difference(tmp_path, make_model, caplog):
    path = save(make_model(), tmp_path)
    content = torch.load(path, weights_only=True)
    names = [name for name in content["model"] if name.endswith("num_batches_tracked")]
    assert names
    for name in names:
        del content["model"][name]
    content["model"]["pixel_mean"] = torch.zeros(3, 1, 1)
    torch.save(content, tmp_path / "less.pth")
    with caplog.at_level(logging.WARNING):
        VFNetCheckpointer(make_model(seed=1)).load(str(tmp_path / "less.pth"))
        VFNetCheckpointer(make_model("MODEL.RESNETS.NORM", "FrozenBN")).load(path)
        frozen = save(make_model("MODEL.RESNETS.NORM", "FrozenBN"), tmp_path, "frozen")
        VFNetCheckpointer(make_model()).load(frozen)
    assert [record.getMessage() for record in caplog.records] == []


def test_names_of_a_wrapped_model_fit(tmp_path, make_model):
    model, other = make_model(), make_model(seed=1)
    wrapped = {f"module.{name}": value for name, value in snapshot(model).items()}
    torch.save({"model": wrapped}, tmp_path / "x.pth")
    VFNetCheckpointer(other).load(str(tmp_path / "x.pth"))
    assert same(other, snapshot(model))


@pytest.mark.parametrize(
    "name", ["head.cls_subnet.0.weight", "proposal_generator.rpn_head.conv.weight"]
)
def test_a_checkpoint_of_another_model_is_refused(tmp_path, make_model, name):
    weights = {
        key: value
        for key, value in make_model(seed=1).state_dict().items()
        if key.startswith("backbone.")
    }
    torch.save({"model": {**weights, name: torch.ones(2)}}, tmp_path / "retinanet.pth")
    refused(make_model(), str(tmp_path / "retinanet.pth"), f"retinanet.pth.*{name}")


def test_a_backbone_under_our_names_loads_and_the_rest_stays(tmp_path, make_model):
    donor, model = make_model(seed=1), make_model()
    before = snapshot(model)
    weights = {k: v for k, v in donor.state_dict().items() if k.startswith("backbone.bottom_up.")}
    torch.save({"model": weights}, tmp_path / "backbone.pth")
    VFNetCheckpointer(model).load(str(tmp_path / "backbone.pth"))
    for name, value in model.state_dict().items():
        assert torch.equal(value, weights.get(name, before[name])), name


def test_a_missing_file_is_named_and_the_next_load_works(tmp_path, make_model):
    model = make_model()
    checkpointer = VFNetCheckpointer(model)
    with pytest.raises(UserError, match="no checkpoint at absent.pth.*MODEL.WEIGHTS"):
        checkpointer.load("absent.pth")
    (tmp_path / "bad.pth").write_text("bad")
    with pytest.raises(UserError):
        checkpointer.load(str(tmp_path / "bad.pth"))
    path = save(make_model(seed=1), tmp_path)
    checkpointer.load(path)
    assert not same(make_model(), snapshot(model))


def test_no_weights_at_all_leave_the_model_as_it_was(make_model):
    model = make_model()
    before = snapshot(model)
    assert VFNetCheckpointer(model).load("") == {}
    assert same(model, before)


def test_an_mmdet_detector_must_fit(shared, make_model, tmp_path, monkeypatch):
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path))
    weights = f"mmdet://{shared.resolve()}/reference/mini_r50.pth"
    VFNetCheckpointer(make_model()).load(weights)
    VFNetCheckpointer(make_model("MODEL.VFNET.NUM_CLASSES", 2)).load(weights)
    refused(make_model("MODEL.VFNET.DEFORM_LAST_CONV", True), weights, "cls_tower.2.offset.weight")
    refused(make_model("MODEL.VFNET.NUM_CONVS", 2), weights, "head.cls_tower.2.norm.bias")
