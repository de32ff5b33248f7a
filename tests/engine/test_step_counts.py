"""What a training step costs beside arithmetic: waiting for the device, and collectives."""

import contextlib
import traceback
import warnings
from itertools import repeat

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage
from torch import distributed
from torch.overrides import TorchFunctionMode
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vfnet.engine import StepTrainer
from vfnet.solver import build_optimizer

from .tiny import picture, tiny_config

aten = torch.ops.aten


class Synchronisations(TorchDispatchMode):
    """Notes where the host would wait for a device, which tensors on "meta" stand for.

    These have shapes and no numbers, so that an operation whose result has a shape that depends on
    numbers (`nonzero`, indexing by a mask) raises by itself. Noted are numbers that the host asks
    for, of which it gets zeros, and copies to the device that it would wait for: those that are not
    `non_blocking`, of Python's own numbers, and of indices. Whether memory is pinned cannot be seen
    here.
    """

    def __init__(self):
        super().__init__()
        self.found = []
        self._from_python = FromPython(self)

    def __enter__(self):
        self._from_python.__enter__()
        return super().__enter__()

    def __exit__(self, *error):
        super().__exit__(*error)
        self._from_python.__exit__(*error)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        inputs = _tensors((args, kwargs))
        on_device = [x for x in inputs if x.is_meta]
        if on_device and function is aten._local_scalar_dense.default:
            self.note(function)
            return 0.0
        if on_device and function is aten.prod.dim_int:
            self.note(function)  # whose gradient asks a real device whether there is a 0
        if on_device and str(kwargs.get("device")) == "cpu":
            self.note(function)
            return torch.zeros_like(on_device[0], device="cpu")
        result = function(*args, **kwargs)
        if inputs and any(x.is_meta for x in _tensors(result)):
            from_host = any(x.dim() > 0 for x in inputs if not x.is_meta) or not on_device
            if from_host and not kwargs.get("non_blocking"):
                self.note(function)
        return result

    def note(self, function):
        """Note that the host waits in a function; with where it was called."""
        ours = [frame for frame in traceback.extract_stack() if __file__ != frame.filename]
        self.found.append((str(function), *(f"{f.filename}:{f.lineno}" for f in ours[-3:])))


class FromPython(TorchFunctionMode):
    """Notes tensors that are made of Python's numbers on the device, once each.

    Which operations these dispatch, if any, differs between versions of torch.
    """

    CALLS = (torch.tensor, torch.as_tensor, torch.asarray, torch.Tensor.new_tensor)

    def __init__(self, seen):
        super().__init__()
        self._seen = seen

    def __torch_function__(self, function, types, args=(), kwargs=None):
        before = len(self._seen.found)
        result = function(*args, **(kwargs or {}))
        data = args[-1] if args else None
        if function in self.CALLS and result.is_meta and not isinstance(data, torch.Tensor):
            del self._seen.found[before:]
            self._seen.note(function)
        return result


def _tensors(tree):
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


class Collectives(TorchDispatchMode):
    """Notes the names of the collectives that are called."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.namespace == "c10d":
            self.found.append(function.overloadpacket.__name__)
        return function(*args, **(kwargs or {}))


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
