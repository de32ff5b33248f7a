"""Measurements as a table and as json."""

import json

import torch

from lib.report import as_json, table, write_report
from lib.timing import Summary

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
