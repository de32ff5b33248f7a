"""Measuring: turns, parts, medians, tables, and models that are fit to be timed."""

import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from detectron2.utils.events import EventStorage

from vfnet.errors import UserError
from vfnet.evaluation import benchmark_memory
from vfnet.evaluation.benchmark import Stopwatch, Summary, measure, summarise
from vfnet.evaluation.benchmark_cases import run_cases, size, timed
from vfnet.evaluation.benchmark_memory import (
    PeakWatch,
    allocated_peak,
    resident_peak,
    restart_resident_peak,
)
from vfnet.evaluation.benchmark_models import (
    Subject,
    Workload,
    build_batch,
    build_detector,
    features_of,
)
from vfnet.evaluation.benchmark_report import as_json, table, write_report
from vfnet.evaluation.benchmark_runs import Bench

TINY = str(Path(__file__).parents[1] / "engine" / "tiny.yaml")
WORKLOAD = Workload(TINY, image_size=(96, 128), batch=2, boxes=4, candidates=50)

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
needs_linux = pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="needs Linux's /proc"
)


class Clock:
    """A clock that moves only when it is told to."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def test_variants_take_turns_and_warm_up_is_not_counted():
    clock, order = Clock(), []
    durations = {"a": iter([50.0, 60.0, 1.0, 5.0, 3.0]), "b": iter([70.0, 80.0, 2.0, 2.0, 8.0])}

    def run_of(name):
        def run(watch):
            order.append(name)
            clock.now += next(durations[name])
            watch.mark("work")

        return run

    runs = {name: run_of(name) for name in durations}
    samples = measure(runs, repeats=3, warm_up=2, new_watch=lambda: Stopwatch(clock))
    assert order == ["a", "b"] * 5
    assert samples == {"a": {"work": [1.0, 5.0, 3.0]}, "b": {"work": [2.0, 2.0, 8.0]}}
    # Quartiles of 1, 3, 5 lie halfway to the median.
    assert summarise(samples)["a"]["work"] == Summary(3.0, 2.0, 4.0)
    assert summarise(samples)["b"]["work"] == Summary(2.0, 2.0, 5.0)


def test_a_stopwatch_tells_parts_from_what_is_skipped():
    clock = Clock()
    watch = Stopwatch(clock)
    for part, seconds in [("a", 1.0), (None, 10.0), ("b", 2.0)]:
        clock.now += seconds
        if part:
            watch.mark(part)
        else:
            watch.skip()
    watch.total("a and b", ["a", "b"])
    clock.now += 4.0
    watch.mark("c")
    watch.total("all")  # what is a total already does not count twice
    assert watch.seconds == {"a": 1.0, "b": 2.0, "a and b": 3.0, "c": 4.0, "all": 7.0}


def test_a_stopwatch_waits_for_the_device_before_it_reads_the_clock():
    clock = Clock()

    def synchronize():
        clock.now += 5.0  # the device is that far behind

    watch = Stopwatch(clock, synchronize)
    clock.now += 1.0
    watch.mark("work")
    assert watch.seconds == {"work": 6.0}


@pytest.mark.parametrize(("repeats", "warm_up"), [(0, 0), (1, -1)])
def test_no_repeats_are_an_error(repeats, warm_up):
    with pytest.raises(UserError, match=f"got {repeats} and {warm_up}"):
        measure({}, repeats, warm_up)


RESULTS = {
    "ours": {
        "head": Summary(0.010, 0.009, 0.0125),
        "own part": Summary(1.0, 1.0, 1.0),
        "peak": 3 * 2**20,
        "a second": 7.0,
    },
    "theirs": {"head": Summary(0.040, 0.039, 0.041), "peak": 2**20, "a second": 3.5},
}


def test_a_table_has_each_ratio_to_the_first_variant():
    lines = table(RESULTS, "median").splitlines()
    assert lines == [
        "| median | ours | theirs | ours / theirs |",
        "| --- | --- | --- | --- |",
        "| head | 10.0 ms (9.000-12.5) | 40.0 ms (39.0-41.0) | 0.25 |",
        "| own part | 1000.0 ms (1000.0-1000.0) | - | - |",
        "| peak | 3.000 MiB | 1.000 MiB | 3.00 |",
        "| a second | 7 | 3.5 | - |",
    ]


def test_json_has_the_numbers_the_ratios_and_the_machine(tmp_path):
    path = tmp_path / "new" / "out.json"
    write_report(path, "cpu", as_json(RESULTS, {"ours": {"head": [0.01, 0.009]}}))
    content = json.loads(path.read_text())
    assert content["results"]["ours"]["head"] == {"median": 0.01, "lower": 0.009, "upper": 0.0125}
    assert content["results"]["theirs"]["peak"] == 2**20
    assert content["ratios"] == {"theirs": {"head": 0.25, "peak": 3.0}}
    assert content["samples"] == {"ours": {"head": [0.01, 0.009]}}
    assert content["machine"]["torch"] == torch.__version__
    assert content["machine"]["threads"] == torch.get_num_threads()
    assert content["machine"]["gpu"] is None
    assert content["command"].startswith("python ")


def test_tensors_that_are_freed_in_between_do_not_add_up():
    megabyte = torch.zeros(2**18)

    def two_after_another():
        for _ in range(2):
            megabyte.neg()

    def two_at_once():
        return megabyte.neg(), megabyte.abs()

    assert allocated_peak(two_after_another, "cpu") == 2**20
    assert allocated_peak(two_at_once, "cpu") == 2 * 2**20


@needs_linux
def test_resident_peak_counts_from_its_restart():
    restart_resident_peak()
    before = resident_peak()
    torch.ones(2**26)  # 256 MiB, freed at once
    assert resident_peak() - before == pytest.approx(2**28, rel=0.1)
    restart_resident_peak()
    assert resident_peak() - before < 2**26


@needs_linux
def test_resident_peak_of_a_process_is_not_that_of_its_parent():
    torch.ones(2**28)  # this process has held 1 GiB
    code = (
        "import importlib.util, sys;"
        "spec = importlib.util.spec_from_file_location('memory', sys.argv[1]);"
        "memory = importlib.util.module_from_spec(spec);"
        "spec.loader.exec_module(memory); print(memory.resident_peak())"
    )
    command = [sys.executable, "-c", code, benchmark_memory.__file__]
    child = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert child < 2**30 < resident_peak()


def test_cases_become_rows_of_part_and_memory():
    runs = {"one": timed(lambda: torch.zeros(2**18)), "two": timed(lambda: torch.zeros(2**19))}
    results, samples = run_cases({"small": runs}, repeats=2, warm_up=0, device="cpu")
    assert list(results["two"]) == ["small, time", "small, peak memory"]
    assert [results[name]["small, peak memory"] for name in runs] == [2**20, 2**21]
    assert len(samples["one"]["small, time"]) == 2


@pytest.mark.parametrize("text", ["800", "800x", "0x5", "axb", "1x2x3"])
def test_a_size_is_two_positive_numbers(text):
    assert size("800x1333") == (800, 1333)
    with pytest.raises(UserError, match=f"got '{text}'"):
        size(text)


def test_random_weights_let_as_many_candidates_pass_as_asked_for():
    model = build_detector("vfnet", WORKLOAD)
    batch = build_batch(WORKLOAD)
    with torch.no_grad():
        features = features_of(model, batch)
        found = model.candidates(model.preprocess_image(batch), features, model.head(features))
    # The last one lies on the threshold itself; clipped boxes may be empty.
    assert 95 <= sum(len(candidates.boxes) for candidates in found) <= 100
    assert torch.cat([candidates.classes for candidates in found]).unique().numel() == 3


@pytest.mark.parametrize("name", ["retinanet", "fcos"])
def test_baselines_have_the_same_classes_candidates_and_runs(name):
    workload = WORKLOAD._replace(batch=1)
    bench = Bench(Subject(name), workload)
    model = bench.model
    assert model.num_classes == 3
    with torch.no_grad():
        features = features_of(model, bench.batch)
        model.max_detections_per_image = 1000
        model.test_nms_thresh = 1.0
        images = model.preprocess_image(bench.batch)
        (found,) = model.forward_inference(images, features, model.head(features))
    assert 45 <= len(found) <= 50
    watch = Stopwatch()
    for run in (bench.inference_parts, bench.training_parts, bench.training_step):
        run(watch)
    assert {"assignment and losses", "backward", "whole training step"} <= set(watch.seconds)


def test_parts_compute_what_the_model_computes_and_change_nothing():
    bench = Bench(Subject("vfnet"), WORKLOAD)
    bench.model.train()
    before = {name: tensor.clone() for name, tensor in bench.model.state_dict().items()}
    with EventStorage():
        losses, expected = bench.losses(Stopwatch()), bench.model(bench.batch)
    assert list(losses) == list(expected)
    for name, loss in losses.items():
        assert loss.item() == pytest.approx(expected[name].item(), rel=1e-6)
    for run in itertools.chain(
        *(bench.runs(phase).values() for phase in ("inference", "training"))
    ):
        run(Stopwatch())
    for name, tensor in bench.model.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert not any(module._forward_hooks for module in bench.model.modules())


def test_parts_are_timed_in_bfloat16_too():
    bench = Bench(Subject("vfnet"), WORKLOAD._replace(precision=torch.bfloat16))
    seen = []
    bench.model.head.cls_pred.register_forward_hook(lambda *call: seen.append(call[2].dtype))
    for phase in ("inference", "training"):
        for run in bench.runs(phase).values():
            run(Stopwatch())
    assert set(seen) == {torch.bfloat16}


@needs_cuda
def test_peaks_on_cuda_belong_to_their_parts():
    watch = PeakWatch("cuda")
    base = torch.cuda.memory_allocated()
    torch.zeros(2**20, device="cuda")  # 4 MiB, freed at once
    watch.mark("large")
    kept = torch.zeros(2**18, device="cuda")
    watch.mark("small")
    watch.total("both")
    assert {part: peak - base for part, peak in watch.peaks.items()} == {
        "large": 2**22,
        "small": 2**20,
        "both": 2**22,
    }
    assert allocated_peak(lambda: kept.neg(), "cuda") == 2**20
