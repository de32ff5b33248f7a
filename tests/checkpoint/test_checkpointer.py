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


def snapshot(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(model, before):
    return all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def save(model, folder, name="model"):
    VFNetCheckpointer(model, str(folder)).save(name)
    return str(folder / f"{name}.pth")


def refused(model, path, match):
    """Load, expect a UserError that leaves the model as it was, and return its message."""
    before = snapshot(model)
    with pytest.raises(UserError, match=match) as caught:
        VFNetCheckpointer(model).load(path)
    assert same(model, before)
    return str(caught.value)


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
    other = make_model("MODEL.VFNET.CONV_CHANNELS", 32)
    message = refused(other, path, r"head.box_pred.weight \(4, 64, 3, 3\) instead of \(4, 32, 3, 3")
    assert "head.cls_pred.weight" in message  # more than its classes differ


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


def test_a_backbones_file_loads_as_in_detectron2(tmp_path, make_model):
    donor, model, reference = make_model(seed=1), make_model(), make_model()
    names = donor.backbone.bottom_up.state_dict()
    weights = {name: value.numpy() for name, value in names.items() if "num_batches" not in name}
    with open(tmp_path / "R-50.pkl", "wb") as stream:
        content = {"model": weights, "__author__": "torchvision", "matching_heuristics": True}
        pickle.dump(content, stream)
    VFNetCheckpointer(model).load(str(tmp_path / "R-50.pkl"))
    DetectionCheckpointer(reference).load(str(tmp_path / "R-50.pkl"))
    assert same(model, snapshot(reference))
    weight = model.backbone.bottom_up.res4[0].conv2.weight
    assert torch.equal(weight, donor.backbone.bottom_up.res4[0].conv2.weight)


def test_a_backbone_under_our_names_loads_and_the_rest_stays(tmp_path, make_model):
    donor, model = make_model(seed=1), make_model()
    before = snapshot(model)
    weights = {k: v for k, v in donor.state_dict().items() if k.startswith("backbone.bottom_up.")}
    torch.save({"model": weights}, tmp_path / "backbone.pth")
    VFNetCheckpointer(model).load(str(tmp_path / "backbone.pth"))
    for name, value in model.state_dict().items():
        assert torch.equal(value, weights.get(name, before[name])), name


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


def test_a_file_that_would_execute_is_refused(tmp_path, make_model, calling):
    model = make_model()
    content = {"model": snapshot(model), "extra": calling(os.mkdir, str(tmp_path / "executed"))}
    torch.save(content, tmp_path / "evil.pth")
    refused(model, str(tmp_path / "evil.pth"), "evil.pth")
    assert not (tmp_path / "executed").exists()


def test_other_content_is_named(tmp_path, make_model, small_state_dict):
    model = make_model()
    for content in ([1], {}, {"model": {"a": 1}}, {"model": [1]}, {"model": {}}):
        torch.save(content, tmp_path / "odd.pth")
        refused(model, str(tmp_path / "odd.pth"), "odd.pth")


def test_a_bare_mmdet_file_is_pointed_to_its_prefix(tmp_path, make_model, small_state_dict):
    torch.save({"meta": {}, "state_dict": small_state_dict}, tmp_path / "mm.pth")
    refused(make_model(), str(tmp_path / "mm.pth"), "mmdet://.*mm.pth")


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
