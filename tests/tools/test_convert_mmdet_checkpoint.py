"""Files of mmdet -> files of Detectron2, and back."""

import os

import convert_mmdet_checkpoint as tool
import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.modeling import build_model
from safetensors.torch import load_file, save_file

from vfnet import get_cfg
from vfnet.checkpoint import VFNetCheckpointer
from vfnet.engine import Trainer
from vfnet.errors import UserError
from vfnet.model_zoo import published


def run(*arguments):
    tool.main(tool.get_parser().parse_args([str(a) for a in arguments]))


def read(path):
    return torch.load(path, weights_only=True)


@pytest.fixture
def mmdet_file(repository):
    return repository / "tests" / "reference" / "mini_r50.pth"


@pytest.fixture
def mini_config(repository):
    cfg = get_cfg()
    cfg.merge_from_file(str(repository / "tests" / "reference" / "mini_r50.yaml"))
    return cfg


def equal(ours, theirs):
    return list(ours) == list(theirs) and all(torch.equal(ours[n], theirs[n]) for n in ours)


def test_the_file_loads_without_this_project_under_the_models_names(
    mmdet_file, mini_config, tmp_path, capsys
):
    run(mmdet_file, tmp_path / "out.pth")
    content = read(tmp_path / "out.pth")
    assert content["__author__"] == "mmdet" and content["mmdet_source"] == str(mmdet_file)
    model = build_model(mini_config)
    names = {name for name in model.state_dict() if "num_batches_tracked" not in name}
    assert set(content["model"]) == names
    assert capsys.readouterr().out == f"{tmp_path}/out.pth: {len(names)} tensors, Detectron2\n"

    DetectionCheckpointer(model).load(str(tmp_path / "out.pth"))
    bias = read(mmdet_file)["state_dict"]["bbox_head.vfnet_cls.bias"]
    assert torch.equal(model.head.cls_pred.bias, bias)


@pytest.mark.parametrize("start", ["", "mmdet:", "mmdet://"])
def test_every_form_of_a_source_gives_the_same(start, mmdet_file, tmp_path):
    run(f"{start}{mmdet_file}", tmp_path / "out.pth")
    assert len(read(tmp_path / "out.pth")["model"]) == 320


def test_a_published_name_is_a_source(mmdet_file, tmp_path, monkeypatch):
    rows = [published.published_models()[0]._replace(weights=str(mmdet_file))]
    monkeypatch.setattr(published, "published_models", lambda: rows)
    run("vfnet://vfnet_R50_1x", tmp_path / "out.pth")
    content = read(tmp_path / "out.pth")
    assert len(content["model"]) == 320 and content["mmdet_source"] == "vfnet://vfnet_R50_1x"


# What the official implementation (mmdet 2.10) and mmdet 3 say of a file.
METAS = {
    "official": {
        "mmdet_version": "2.10.0",
        "CLASSES": ("a", "b", "c", "d", "e"),
        "config": "model = dict(type='VFNet')",
        "hook_msgs": {},
    },
    "mmdet 3": {"dataset_meta": {"classes": ("a", "b", "c", "d", "e"), "palette": [(1, 2, 3)]}},
}


@pytest.mark.parametrize("version", METAS)
def test_there_and_back_every_tensor_and_class_name_is_the_same(version, mmdet_file, tmp_path):
    source = read(mmdet_file)["state_dict"]
    optimizer = {"state": {0: {"momentum_buffer": torch.ones(2)}}, "param_groups": [{"lr": 0.01}]}
    file = {"meta": METAS[version], "state_dict": source, "optimizer": optimizer}
    torch.save(file, tmp_path / "in.pth")
    run(tmp_path / "in.pth", tmp_path / "ours.pth")
    assert read(tmp_path / "ours.pth")["class_names"] == ["a", "b", "c", "d", "e"]
    run("--to-mmdet", tmp_path / "ours.pth", tmp_path / "back.pth")
    back = read(tmp_path / "back.pth")
    assert sorted(back) == ["meta", "state_dict"]
    kept = {n: v for n, v in source.items() if not n.endswith("num_batches_tracked")}
    assert equal(back["state_dict"], kept)
    names = ("a", "b", "c", "d", "e")
    assert back["meta"] == {"CLASSES": names, "dataset_meta": {"classes": names}}


def test_a_backbone_comes_back_too(mmdet_file, tmp_path):
    source = read(mmdet_file)["state_dict"]
    bare = {
        name[len("backbone.") :]: value
        for name, value in source.items()
        if name.startswith("backbone.") and not name.endswith("num_batches_tracked")
    }
    torch.save(bare, tmp_path / "in.pth")
    run(tmp_path / "in.pth", tmp_path / "ours.pth")
    run("--to-mmdet", tmp_path / "ours.pth", tmp_path / "back.pth")
    assert equal(read(tmp_path / "back.pth")["state_dict"], bare)


@pytest.fixture
def trained(mini_config, tmp_path):
    """The folder of a training run, as its end leaves it."""
    cfg = mini_config
    cfg.MODEL.VFNET.CLASS_NAMES = ["a", "b", "c", "d", "e"]
    cfg.OUTPUT_DIR = str(tmp_path / "run")
    os.mkdir(cfg.OUTPUT_DIR)
    (tmp_path / "run" / "config.yaml").write_text(cfg.dump())
    model = build_model(cfg)
    optimizer = Trainer.build_optimizer(cfg, model)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    checkpointer = VFNetCheckpointer(model, cfg.OUTPUT_DIR, optimizer=optimizer)
    checkpointer.save("model_final", iteration=7)
    return model


def test_a_training_runs_file_becomes_mmdets(trained, mmdet_file, tmp_path, capsys):
    run_folder, out = tmp_path / "run", tmp_path / "out.pth"
    assert "momentum_buffer" in str(read(run_folder / "model_final.pth")["optimizer"])
    run("--to-mmdet", run_folder / "model_final.pth", out)
    content = read(out)
    theirs = read(mmdet_file)["state_dict"]
    expected = {n: v.shape for n, v in theirs.items() if not n.endswith("num_batches_tracked")}
    assert {n: v.shape for n, v in content["state_dict"].items()} == expected
    bias = content["state_dict"]["bbox_head.vfnet_reg.bias"]
    assert torch.equal(bias, trained.head.box_pred.bias)
    assert content["meta"] == {}
    assert capsys.readouterr().out == (
        f"without class names: give them by --config-file\n{out}: {len(expected)} tensors, mmdet\n"
    )

    run(
        "--to-mmdet",
        run_folder / "model_final.pth",
        out,
        "--config-file",
        f"{run_folder}/config.yaml",
    )
    assert read(out)["meta"]["CLASSES"] == ("a", "b", "c", "d", "e")


def test_class_names_of_another_data_set_are_refused(trained, tmp_path):
    config = tmp_path / "other.yaml"
    config.write_text("MODEL:\n  VFNET:\n    CLASS_NAMES: ['a', 'b']\n")
    with pytest.raises(UserError, match="names of the 5 classes of .*model_final.pth, got 2"):
        file = tmp_path / "run" / "model_final.pth"
        run("--to-mmdet", file, tmp_path / "out.pth", "--config-file", config)


def test_the_wrong_direction_is_named(trained, mmdet_file, tmp_path):
    out = tmp_path / "out.pth"
    with pytest.raises(
        UserError, match="expected a checkpoint of this project, found one of mmdet"
    ):
        run("--to-mmdet", mmdet_file, out)
    with pytest.raises(UserError, match="expected a checkpoint of mmdet, found one of Detectron2"):
        run(tmp_path / "run" / "model_final.pth", out)
    assert not out.exists()


def test_safetensors_hold_the_same_as_a_torch_file(mmdet_file, mini_config, tmp_path):
    source = {"state_dict": read(mmdet_file)["state_dict"], "meta": METAS["official"]}
    torch.save(source, tmp_path / "in.pth")
    run(tmp_path / "in.pth", tmp_path / "out.pth")
    run(tmp_path / "in.pth", tmp_path / "out.safetensors")
    expected = read(tmp_path / "out.pth")
    assert equal_sorted(load_file(tmp_path / "out.safetensors"), expected["model"])
    model = build_model(mini_config)
    notes = VFNetCheckpointer(model, whole_detector=True).load(str(tmp_path / "out.safetensors"))
    assert torch.equal(model.head.cls_pred.bias, expected["model"]["head.cls_pred.bias"])
    assert notes["class_names"] == ["a", "b", "c", "d", "e"] and notes["__author__"] == "mmdet"

    run("--to-mmdet", tmp_path / "out.safetensors", tmp_path / "back.pth")
    run("--to-mmdet", tmp_path / "out.pth", tmp_path / "expected.pth")
    back, expected = read(tmp_path / "back.pth"), read(tmp_path / "expected.pth")
    assert equal_sorted(back["state_dict"], expected["state_dict"])
    assert back["meta"] == expected["meta"]
    with pytest.raises(UserError, match="mmdet reads no safetensors.*back.pth"):
        run("--to-mmdet", tmp_path / "out.pth", tmp_path / "back.safetensors")


def equal_sorted(ours, theirs):
    return equal(dict(sorted(ours.items())), dict(sorted(theirs.items())))


def test_a_backbone_in_safetensors_is_loaded_as_one(mmdet_file, mini_config, tmp_path):
    source = read(mmdet_file)["state_dict"]
    start = "backbone."
    bare = {n[len(start) :]: v for n, v in source.items() if n.startswith(start)}
    save_file({n: v.contiguous() for n, v in bare.items()}, tmp_path / "in.safetensors")
    run(tmp_path / "in.safetensors", tmp_path / "out.safetensors")
    for weights in ("out.safetensors", "in.safetensors"):
        path = str(tmp_path / weights)
        model = build_model(mini_config)
        VFNetCheckpointer(model).load(path if weights.startswith("out") else f"mmdet://{path}")
        loaded = model.backbone.bottom_up.stem.conv1.weight
        assert torch.equal(loaded, source["backbone.conv1.weight"])


def test_an_output_that_cannot_be_is_named_before_anything_is_read(tmp_path):
    with pytest.raises(UserError, match="the folder of .*/no/out.pth does not exist"):
        run("absent.pth", tmp_path / "no" / "out.pth")
    with pytest.raises(UserError, match=f"got the folder {tmp_path}"):
        run("absent.pth", tmp_path)


@pytest.mark.parametrize("ending", [".pkl", ".pyth"])
def test_an_ending_that_detectron2_reads_otherwise_is_refused(ending, mmdet_file, tmp_path):
    with pytest.raises(UserError, match=r"another format: call it out\.pth"):
        run(mmdet_file, tmp_path / f"out{ending}")


def test_an_existing_output_is_replaced_or_stays_whole(mmdet_file, tmp_path):
    out = tmp_path / "out.pth"
    out.write_text("earlier")
    with pytest.raises(UserError, match="absent.pth"):
        run("absent.pth", out)
    with pytest.raises(UserError, match="no checkpoint at absent.pth"):
        run("--to-mmdet", "absent.pth", out)
    assert out.read_text() == "earlier"
    run(mmdet_file, out)
    assert len(read(out)["model"]) == 320
    assert os.listdir(tmp_path) == ["out.pth"]


@pytest.mark.parametrize("content", [{"model": {}}, {"model": [1]}, {"model": {"head.x": 1}}])
def test_a_file_without_weights_of_ours_is_refused(content, tmp_path):
    torch.save(content, tmp_path / "in.pth")
    with pytest.raises(UserError, match="in.pth"):
        run("--to-mmdet", tmp_path / "in.pth", tmp_path / "out.pth")


def test_a_config_is_of_use_in_one_direction_only(mmdet_file, tmp_path):
    with pytest.raises(UserError, match="--config-file is for --to-mmdet only"):
        run(mmdet_file, tmp_path / "out.pth", "--config-file", "x.yaml")
