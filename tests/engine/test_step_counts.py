"""What a training step costs beside arithmetic: waiting for the device, and collectives."""

import contextlib
import warnings
from itertools import repeat

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage
from torch import distributed
from torch.testing._internal.distributed.fake_pg import FakeStore

from vfnet.engine import StepTrainer
from vfnet.solver import build_optimizer

from .counters import Collectives, Synchronisations
from .tiny import picture, tiny_config


@pytest.fixture
def simulated(monkeypatch):
    """Autocast, which is off but does not know the device, asks for none."""
    monkeypatch.setattr(torch, "autocast", lambda *args, **options: contextlib.nullcontext())
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda *args: False)
    return "meta"


@pytest.fixture
def processes(request):
    """So many processes, of which the others answer with what this one says."""
    distributed.init_process_group("fake", rank=0, world_size=request.param, store=FakeStore())
    yield request.param
    distributed.destroy_process_group()


def tiny_trainer(folder, batch, *overrides, device="cpu", **options):
    cfg = tiny_config(folder, *overrides)
    model = build_model(cfg).to(device)
    optimizer = build_optimizer(cfg, model)
    trainer = StepTrainer(model, repeat(batch), optimizer, device_type=device, **options)
    trainer.iter = 0
    return trainer


def step(trainer):
    with EventStorage():
        trainer.run_step()


HOST, DEVICE = torch.arange(3), torch.empty(4, device="meta")


@pytest.mark.parametrize(
    "ask, expected",
    [
        (lambda: DEVICE.tolist(), 1),
        (lambda: [x.item() for x in DEVICE.unbind()], 4),
        (lambda: bool(DEVICE.sum() > 0), 1),
        (lambda: DEVICE.cpu(), 1),
        (lambda: DEVICE[None].prod(dim=1), 1),
        (lambda: HOST.to("meta"), 1),
        (lambda: HOST.to("meta", non_blocking=True), 0),
        (lambda: torch.tensor([1.0], device="meta"), 1),
        (lambda: torch.as_tensor([1.0, 2.0], device="meta"), 1),
        (lambda: torch.as_tensor(HOST, device="meta"), 1),
        (lambda: torch.as_tensor(DEVICE), 0),
        (lambda: DEVICE.new_tensor(1.0), 1),
        (lambda: DEVICE[HOST], 1),
        (lambda: DEVICE.new_full((), 1.0) + torch.arange(4, device="meta") * 2, 0),
        (lambda: (HOST + 1).nonzero().tolist(), 0),
    ],
)
def test_what_counts_as_waiting(ask, expected):
    with Synchronisations() as seen:
        ask()
    assert len(seen.found) == expected, seen.found


@pytest.mark.parametrize("ask", [lambda: DEVICE.nonzero(), lambda: DEVICE[DEVICE > 0]])
def test_a_shape_that_depends_on_numbers_cannot_be_simulated(ask):
    with pytest.raises(NotImplementedError), Synchronisations():
        ask()


PICTURES = {"boxes": [picture(1), picture(2)], "none": [picture(1, num_boxes=0)]}
PAIR = [picture(1), picture(2, num_boxes=0)]


def tiny_node(detector, *overrides):
    """Overrides that make the tiny VFNet another detector of locations."""
    node = f"MODEL.{detector.upper()}"
    small = (f"{node}.NUM_CLASSES", "3", f"{node}.CONV_CHANNELS", "64", f"{node}.NUM_CONVS", "1")
    return ("MODEL.META_ARCHITECTURE", detector, *small, *overrides)


# The detectors that share their normalisers among the processes.
ATSS, GFL = tiny_node("ATSS"), tiny_node("GFL")
GFLV2 = (*GFL, "MODEL.GFL.QUALITY_PREDICTOR.ENABLED", "True")


# RetinaNet, RepPoints and Faster R-CNN assign by IoU where the predictions are, and wait for that.
@pytest.mark.parametrize("pictures", PICTURES)
@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("MODEL.VFNET.CLS_LOSS", "focal"),
        ("MODEL.VFNET.STAR_FEATURES", "False", "MODEL.VFNET.REFINE_BOX", "False"),
        ("SOLVER.CLIP_GRADIENTS.ENABLED", "True", "SOLVER.CLIP_GRADIENTS.CLIP_TYPE", "full_model"),
        ATSS,
        GFL,
        GFLV2,
        tiny_node("FoveaBox"),
    ],
    ids=["plain", "focal", "no star", "clipped", "ATSS", "GFL", "GFLv2", "FoveaBox"],
)
def test_the_host_waits_for_the_device_once_a_step(simulated, tmp_path, pictures, overrides):
    trainer = tiny_trainer(tmp_path, PICTURES[pictures], *overrides, device=simulated)
    with Synchronisations() as seen:
        step(trainer)
        step(trainer)  # with momentum
    assert len(seen.found) == 2, seen.found


@pytest.mark.parametrize("pictures", PICTURES)
@pytest.mark.parametrize("overrides", [(), ATSS, GFL], ids=["VFNet", "ATSS", "GFL"])
@pytest.mark.parametrize("processes", [2, 64], indirect=True)
def test_collectives_of_a_step(processes, tmp_path, pictures, overrides):
    # Those of the gradients, which DistributedDataParallel makes, come on top.
    trainer = tiny_trainer(tmp_path, PICTURES[pictures], *overrides)
    with Collectives() as seen:
        step(trainer)
    assert seen.found == ["allreduce_", "allgather_"]


@pytest.mark.parametrize("overrides", [(), tiny_node("FoveaBox")], ids=["VFNet", "FoveaBox"])
def test_parts_of_a_batch_cost_no_more_waiting(simulated, tmp_path, overrides):
    trainer = tiny_trainer(tmp_path, PAIR, *overrides, device=simulated, accum_steps=2)
    with Synchronisations() as seen:
        step(trainer)
    assert len(seen.found) == 1, seen.found


@pytest.mark.parametrize("processes", [2], indirect=True)
def test_parts_of_a_batch_cost_no_more_collectives(processes, tmp_path):
    trainer = tiny_trainer(tmp_path, PAIR, accum_steps=2)
    with Collectives() as seen:
        step(trainer)
    assert seen.found == ["allreduce_", "allgather_"]


needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
# GradScaler asks whether gradients became infinite.
ON_A_GPU = [(None, 1), (torch.bfloat16, 1), (torch.float16, 2)]


@pytest.fixture
def warmed_up(tmp_path):
    """A function that gives a trainer on a GPU, after steps that allocate what later ones keep."""

    def build(precision):
        trainer = tiny_trainer(tmp_path, PICTURES["boxes"], device="cuda", precision=precision)
        for _ in range(3):
            step(trainer)
        torch.cuda.synchronize()
        return trainer

    return build


@needs_cuda
@pytest.mark.parametrize("precision, expected", ON_A_GPU)
def test_pytorch_warns_of_one_synchronisation_a_step(warmed_up, precision, expected):
    trainer = warmed_up(precision)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            step(trainer)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    found = [
        f"{warning.filename}:{warning.lineno}"
        for warning in caught
        if "called a synchronizing CUDA operation" in str(warning.message)
    ]
    assert len(found) == expected, found


@needs_cuda
@pytest.mark.parametrize("precision, expected", ON_A_GPU)
def test_the_profiler_sees_one_synchronisation_a_step(warmed_up, precision, expected):
    trainer = warmed_up(precision)
    with torch.profiler.profile() as profiler, torch.profiler.record_function("the step"):
        step(trainer)
    events = profiler.events()
    (whole,) = [
        event.time_range
        for event in events
        if event.name == "the step" and event.device_type == torch.autograd.DeviceType.CPU
    ]
    found = [
        event.name
        for event in events
        if event.name.startswith("cuda")
        and ("Synchronize" in event.name or event.name == "cudaMemcpy")
        and whole.start <= event.time_range.start <= whole.end
    ]
    assert len(found) == expected, found
