"""docs/method.md: its shapes and its gradients are the model's."""

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage

from tests.engine.tiny import picture, tiny_config
from vfnet import model_zoo
from vfnet.layers import star_conv
from vfnet.layers.star_conv import star_offsets

HEIGHT, WIDTH = 800, 1344


@pytest.fixture
def page(repository):
    return (repository / "docs" / "method.md").read_text(encoding="utf-8")


def rows(page, marker):
    """The cells of the table between two markers, a list a row."""
    lines = page.split(f"<!-- {marker} -->")[1].split(f"<!-- /{marker} -->")[0].splitlines()
    table = [line.strip("|").split("|") for line in lines if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in table[2:]]


def test_the_shapes_are_those_of_r50(page, monkeypatch):
    # The meta device knows shapes alone, and no autocast, which gathering asks for.
    monkeypatch.setattr(
        star_conv,
        "gather_convolution",
        lambda x, points, weight: x.new_empty(x.shape[0], weight.shape[0], *x.shape[-2:]),
    )
    cfg = model_zoo.get_config("vfnet_R50_1x")
    cfg.MODEL.DEVICE = "meta"
    with torch.device("meta"):
        model = build_model(cfg)
    features = model.backbone(torch.empty(1, 3, HEIGHT, WIDTH, device="meta"))
    names = cfg.MODEL.VFNET.IN_FEATURES
    output = model.head([features[name] for name in names])

    expected, locations = [], 0
    for i, (name, stride) in enumerate(zip(names, model.strides)):
        levels = [features[name], output.logits[i], output.distances[i]]
        levels += [star_offsets(output.distances[i], stride), output.refined_distances[i]]
        (height, width), *others = {tuple(level.shape[-2:]) for level in levels}
        assert not others
        locations += height * width
        channels = [str(level.shape[1]) for level in levels]
        size = f"{height} x {width}"
        expected.append([name.upper(), str(stride), size, str(height * width), *channels])
    assert rows(page, "shapes") == expected
    assert f"{locations} locations in all" in page
    assert f"{locations} x {model.num_classes} numbers" in page


def gradients(scale):
    """Of each loss: the norm of its gradient in each part of a tiny VFNet's head."""
    cfg = tiny_config("unused", "MODEL.VFNET.STAR_GRADIENT_SCALE", str(scale))
    torch.manual_seed(0)
    model = build_model(cfg).train()
    with EventStorage():
        losses = model([picture(1), picture(2)])
    found = {}
    for name, loss in losses.items():
        model.zero_grad()
        loss.backward(retain_graph=True)
        found[name] = {
            part: sum(p.grad.norm().item() for p in module.parameters() if p.grad is not None)
            for part, module in model.head.named_children()
        }
    return found


def test_each_loss_moves_the_parts_that_the_page_names(page):
    with_star, without_star = gradients(0.1), gradients(0.0)
    names = ["loss_cls", "loss_box_init", "loss_box_refined"]
    documented = {row[0]: dict(zip(names, row[1:])) for row in rows(page, "gradients")}
    assert set(documented) == set(with_star["loss_cls"])
    for part, cells in documented.items():
        for name, cell in cells.items():
            reaches, beside_the_star = with_star[name][part] > 0, without_star[name][part] > 0
            assert {"yes": (True, True), "0.1": (True, False), "-": (False, False)}[cell] == (
                reaches,
                beside_the_star,
            ), (part, name)


def test_the_share_is_that_of_the_key():
    tenth, whole = gradients(0.1)["loss_cls"], gradients(1.0)["loss_cls"]
    for part in ("box_tower", "box_conv", "box_pred", "box_scales"):
        assert tenth[part] == pytest.approx(0.1 * whole[part], rel=1e-3), part
