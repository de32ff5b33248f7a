"""benchmarks/: the variants that are compared compute the same, and every script prints a table."""

import json

import pytest
import torch

from benchmarks import assignment, loader, star_deform_conv, targets, varifocal
from vfnet.modeling.assignment import atss_match
from vfnet.modeling.varifocal_sum import varifocal_loss_sum


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
        assert torch.equal(left, right), name
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


def test_all_star_convolutions_and_their_gradients_agree():
    inputs = star_deform_conv.random_inputs(images=2, height=9, width=11, channels=8)
    ways = star_deform_conv.functions(inputs)
    found = star_deform_conv.differences(ways, inputs)
    assert list(found)[:3] == ["deform_conv2d", "grid_sample", "gathering"]
    for name, rows in found.items():
        assert [row.rpartition(" ")[2] for row in rows] == ["result", "x", "distances", "weight"]
        for row, difference in rows.items():
            assert difference < 1e-5, (name, row)
    gradients = torch.autograd.grad(ways["grid_sample"]().square().sum(), list(inputs.values()))
    assert all(gradient.abs().max() > 0 for gradient in gradients)


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
            star_deform_conv,
            ["--size", "5x6", "--channels", "4"],
            ["deform_conv2d", "grid_sample", "gathering"],
            "difference, distances",
        ),
        (loader, ["--batches", "1", "--workers", "0"], ["0 workers"], "images a second"),
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
