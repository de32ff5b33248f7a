"""Weights whose numbers cannot be used are refused by name."""

import pytest
import torch
from safetensors.torch import save_file

from vfnet.checkpoint import VFNetCheckpointer
from vfnet.errors import UserError

from .loading import refused, save


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("whole", [True, False])
def test_weights_that_are_not_finite_are_named(tmp_path, make_model, value, whole):
    spoilt = make_model(seed=1)
    with torch.no_grad():
        spoilt.head.box_pred.bias[2] = value
    path = save(spoilt, tmp_path)
    refused(
        make_model(),
        path,
        "NaN, infinite or no real numbers, in head.box_pred.bias;",
        whole_detector=whole,
    )
    with pytest.raises(UserError, match="head.box_pred.bias"):
        VFNetCheckpointer(make_model()).check(path)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_weights_of_eight_bits_are_loaded_where_they_are_finite(tmp_path, make_model, dtype):
    path = str(tmp_path / "model.safetensors")
    weights = {name: value.to(dtype) for name, value in make_model(seed=1).state_dict().items()}
    save_file(weights, path)
    model = make_model()
    VFNetCheckpointer(model).load(path)
    name = "head.box_pred.weight"
    assert torch.equal(model.state_dict()[name], weights[name].float())
    weights[name].view(torch.uint8)[0] = 0x7F  # NaN, in both types
    save_file(weights, path)
    refused(make_model(), path, f"NaN, infinite or no real numbers, in {name};")


def test_weights_that_are_no_real_numbers_are_named(tmp_path, make_model):
    model = make_model()
    weights = {**model.state_dict(), "head.box_pred.bias": torch.ones(4, dtype=torch.complex64)}
    torch.save({"model": weights}, tmp_path / "model.pth")
    refused(model, str(tmp_path / "model.pth"), "no real numbers, in head.box_pred.bias;")
