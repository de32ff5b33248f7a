"""benchmarks/: the variants that are compared compute the same, and every script prints a table."""

import json
from pathlib import Path

import pytest
import torch
from torchvision.ops import deform_conv2d

from benchmarks import (
    assignment,
    convolution,
    deform_conv,
    deform_paths,
    loader,
    star_deform_conv,
    targets,
    varifocal,
)
from lib.models import Subject, Workload
from lib.runs import Bench
from lib.variants import agreement
from vfnet.errors import UserError
from vfnet.layers import deform_conv as modeling_dcn
from vfnet.layers import star_conv as modeling_star
from vfnet.layers.deform_conv import DeformConvWithOffset
from vfnet.modeling.losses.varifocal_sum import varifocal_loss_sum
from vfnet.modeling.matching.atss import atss_match

TINY = str(Path(__file__).parents[1] / "engine" / "tiny.yaml")


@pytest.mark.parametrize(("height", "width", "boxes"), [(160, 192, 3), (320, 480, 60), (64, 64, 1)])
def test_dense_assignment_is_that_of_atss_match(height, width, boxes):
    generator = torch.Generator().manual_seed(1)
    gt_boxes = assignment.random_boxes(boxes, height, width, generator)
    sizes = assignment.feature_sizes_of(height, width)
    dense = assignment.dense_match(gt_boxes, sizes, assignment.STRIDES)
    ours = atss_match(gt_boxes, sizes, assignment.STRIDES)
    assert len(ours[0]) > 0
    assert torch.equal(dense[0], ours[0])
    assert torch.equal(dense[1], ours[1])


def test_the_dense_way_is_left_out_where_it_would_be_too_large():
    pairs_gib = 8 * 5 * sum(h * w for h, w in assignment.feature_sizes_of(160, 192)) / 2**30
    assert list(assignment.variants(160, 192, 5, largest_gib=pairs_gib)) == ["dense", "atss_match"]
    assert list(assignment.variants(160, 192, 5, largest_gib=0.99 * pairs_gib)) == ["atss_match"]


def test_targets_image_by_image_are_those_of_the_batch():
    instances = targets.random_instances(images=3, height=150, width=200, boxes=4)
    one_by_one = targets.assign_one_by_one(instances, 150, 200)
    together = targets.assign(instances, 150, 200)
    classes = [instance.gt_classes for instance in instances]
    assert len(together.index) > 0
    for name, left, right in zip(together._fields, one_by_one, together):
        assert left is right is None or torch.equal(left, right), name
    assert set(together.classes.tolist()) <= set(torch.cat(classes).tolist())


def test_both_varifocal_sums_and_their_gradients_agree():
    logits, positives = varifocal.random_batch(images=2, locations=50, classes=7, positives=5)
    assert len(positives.row) == 10
    values = []
    for loss in (varifocal.plain_sum, lambda x, at: varifocal_loss_sum(x, *at)):
        x = logits.clone().requires_grad_()
        value = loss(x, positives)
        value.backward()
        values.append((value.item(), x.grad))
    assert values[0][0] == pytest.approx(values[1][0], rel=1e-5)
    torch.testing.assert_close(values[0][1], values[1][1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("modulated", [False, True])
def test_all_deformable_convolutions_and_their_gradients_agree(modulated):
    inputs = star_deform_conv.random_inputs(2, 9, 11, channels=8, modulated=modulated)
    layers = {
        name: star_deform_conv.layer_of(convolve, inputs)
        for name, convolve in star_deform_conv.convolutions("cpu", modulated=modulated).items()
    }
    found = star_deform_conv.differences(layers, inputs)
    ways = ["deform_conv2d", "grid_sample", "gathering", "grid_sample in parts"]
    assert list(found) == (ways[:3] if modulated else ways)
    kind = ["offset", "mask"] if modulated else ["distances"]
    for name, rows in found.items():
        assert [row.rpartition(" ")[2] for row in rows] == ["result", "x", "weight", *kind]
        for row, difference in rows.items():
            assert difference < 1e-5, (name, row)
    gradients = torch.autograd.grad(layers["grid_sample"]().square().sum(), list(inputs.values()))
    assert all(gradient.abs().max() > 0 for gradient in gradients)


@pytest.mark.parametrize("stride", [1, 2])
def test_both_ways_of_dcnv2_and_their_gradients_agree(stride):
    inputs = [t.requires_grad_() for t in deform_conv.random_inputs(8, 9, 11, stride)]
    found = {}
    for name, way in deform_conv.WAYS.items():
        out = way(*inputs, stride)
        weights = torch.linspace(-1, 1, out.numel()).view_as(out)
        found[name] = [out, *torch.autograd.grad((out * weights).sum(), inputs)]
    for expected, actual in zip(found["deform_conv2d"], found["gathering"]):
        assert expected.abs().max() > 0
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


def test_half_precision_is_compared_with_float32():
    inputs = star_deform_conv.random_inputs(1, 9, 11, channels=8)
    gathering = star_deform_conv.convolutions("cpu")["gathering"]
    layer = star_deform_conv.layer_of(gathering, inputs, torch.bfloat16)
    (rows,) = star_deform_conv.differences({"gathering": layer}, inputs).values()
    # Eight bits of mantissa.
    assert 1e-4 < rows["difference, result"] < 2e-2


class Calls:
    """A function, and how often it was called."""

    def __init__(self, function):
        self.function, self.number = function, 0

    def __call__(self, *args, **kwargs):
        self.number += 1
        return self.function(*args, **kwargs)


@pytest.fixture
def tiny(repository):
    config = str(repository / "tests" / "engine" / "tiny.yaml")
    return Bench(Subject("vfnet"), Workload(config, image_size=(64, 96)))


def test_a_path_of_the_star_is_really_taken(tiny, monkeypatch):
    functions = [
        Calls(getattr(modeling_star, name))
        for name in ("gather_convolution", "sampling_points", "grid_convolution", "sampling_grid")
    ]
    for function in functions:
        monkeypatch.setattr(modeling_star, function.function.__name__, function)
    kernel = Calls(deform_paths.deform_conv2d)
    monkeypatch.setattr(deform_paths, "deform_conv2d", kernel)
    calls, found = {}, []
    for name, path in deform_paths.paths("star", "cpu").items():
        for function in (*functions, kernel):
            function.number = 0
        with path():
            found.append(tiny.detections())
        calls[name] = [function.number for function in (*functions, kernel)]
    # Two stars on each of five levels, one set of samples.
    assert calls == {
        "as it is": [10, 5, 0, 0, 0],
        "gathering": [10, 5, 0, 0, 0],
        "grid_sample": [0, 0, 10, 5, 0],
        "deform_conv2d": [0, 0, 0, 0, 10],
    }
    for others in found[1:]:
        assert agreement(found[0], others).matched == len(found[0][0]) > 5


def test_a_path_of_dcn_is_really_taken(monkeypatch):
    gather = Calls(modeling_dcn.gather_convolution)
    kernel = Calls(modeling_dcn.deform_conv2d)
    monkeypatch.setattr(modeling_dcn, "gather_convolution", gather)
    monkeypatch.setattr(modeling_dcn, "deform_conv2d", kernel)
    layer = DeformConvWithOffset(8, 4, stride=2)
    torch.nn.init.normal_(layer.offset.weight, std=0.1)
    x, calls, found = torch.rand(2, 8, 9, 7), {}, []
    for name, path in deform_paths.paths("dcn", "cpu").items():
        gather.number = kernel.number = 0
        with path():
            found.append(layer(x))
        calls[name] = (gather.number, kernel.number)
    assert calls == {"as it is": (1, 0), "gathering": (1, 0), "deform_conv2d": (0, 1)}
    torch.testing.assert_close(found[1], found[2])


def test_dcn_takes_the_layers_own_kernel(monkeypatch):
    """Detectron2's kernel needs a GPU: here torchvision's stands in its place."""
    monkeypatch.setattr(deform_paths._C, "has_cuda", lambda: True)
    kernel = Calls(
        lambda x, offset, mask, weight, bias, stride, padding, dilation, *groups: deform_conv2d(
            x, offset, weight, bias, stride, padding, dilation, mask
        )
    )
    monkeypatch.setattr("detectron2.layers.deform_conv.modulated_deform_conv", kernel)
    layer = DeformConvWithOffset(8, 4, stride=2, activation=torch.relu)
    torch.nn.init.normal_(layer.offset.weight, std=0.1)
    x = torch.rand(2, 8, 9, 7)
    expected = layer(x)
    with deform_paths.paths("dcn", "cuda")["Detectron2's kernel"]():
        actual = layer(x)
    assert kernel.number == 1
    torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize(
    ("script", "arguments", "variants", "row"),
    [
        (assignment, ["--case", "64x96/3"], ["dense", "atss_match"], "64x96/3, time"),
        (
            targets,
            ["--images", "2", "--size", "64x90", "--boxes", "2"],
            ["image by image", "assign_targets"],
            "2 images of 64x90, 2 boxes each, peak memory",
        ),
        (
            varifocal,
            ["--images", "1", "--locations", "40", "--classes", "3", "--positives", "2"],
            ["autograd", "varifocal_loss_sum"],
            "1 x 40 x 3, forward + backward",
        ),
        (
            convolution,
            ["--maps", "4x9x6"],
            ["conv2d", "Winograd"],
            "4x9x6, time",
        ),
        (
            deform_conv,
            ["--maps", "4x9x6/2", "4x5x3"],
            ["deform_conv2d", "gathering"],
            "4x9x6/2, training, forward + backward",
        ),
        (
            star_deform_conv,
            ["--size", "5x6", "--channels", "4", "--modulated"],
            ["deform_conv2d", "grid_sample", "gathering"],
            "difference, mask",
        ),
        (
            deform_paths,
            ["--config-file", TINY, "--image-size", "64x96", "--precision", "bfloat16"],
            ["as it is", "gathering", "grid_sample", "deform_conv2d"],
            "1 of 64x96, bfloat16, whole training step, images a second",
        ),
        (
            loader,
            ["--batches", "1", "--workers", "0", "--drawn", "4", "--profiled", "2"],
            ["0 workers"],
            "pil, images a second",
        ),
    ],
)
def test_a_script_prints_its_table_and_writes_it(
    script, arguments, variants, row, tmp_path, capsys
):
    path = tmp_path / "out.json"
    script.main([*arguments, "--repeats", "1", "--json", str(path)])
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert [cell.strip() for cell in lines[0].split("|")[2 : len(variants) + 2]] == variants
    assert any(line.startswith(f"| {row} |") for line in lines)
    content = json.loads(path.read_text())
    assert list(content["results"]) == variants
    assert all(row in rows for rows in content["results"].values())
    assert set(content["samples"]) == set(variants)


@pytest.mark.parametrize("script", [star_deform_conv, deform_paths])
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["--precision", "float16"], "float16 needs a GPU"),
        (["--device", "xpu"], "--device must be cpu or cuda, got 'xpu'"),
    ],
)
def test_a_device_or_precision_that_is_not_there_is_named(script, wrong, message):
    config = ["--config-file", TINY] if script is deform_paths else []
    with pytest.raises(UserError, match=message):
        script.main([*config, *wrong])
