"""Config files are read safely: no code runs, and no file takes long or much memory."""

import os
import pickle
import resource
import time

import pytest
from detectron2.config import CfgNode

from vfnet import get_cfg
from vfnet.errors import UserError
from vfnet.utils.yaml_files import load_yaml


@pytest.fixture
def write(tmp_path):
    """A function that writes a file; it returns its path."""

    def write(text, name="config.yaml"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return str(path)

    return write


def test_bases_are_read_as_fvcore_reads_them(write):
    write("A: {x: 1, y: 1, z: [1, 2]}\nB: 1", "deeper/grandparent.yaml")
    write("_BASE_: deeper/grandparent.yaml\nA: {y: 2}\nC: 2", "parent.yaml")
    write("A: {w: 3}\nC: 3", "other.yaml")
    path = write("_BASE_: [parent.yaml, other.yaml]\nA: {z: [4]}\nD: (4, 5)")
    expected = {"A": {"x": 1, "y": 2, "z": [4], "w": 3}, "B": 1, "C": 3, "D": "(4, 5)"}
    assert load_yaml(path) == expected == CfgNode.load_yaml_with_base(path)


def test_every_config_is_read_as_fvcore_reads_it(repository):
    paths = sorted(map(str, (repository / "configs").rglob("*.yaml")))
    assert len(paths) > 20
    for path in paths:
        assert load_yaml(path) == CfgNode.load_yaml_with_base(path), path


def test_a_base_in_the_home_folder_or_at_a_whole_path(write, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    path = write("A: 1", "base.yaml")
    for base in ("~/base.yaml", path):
        assert load_yaml(write(f"_BASE_: {base}\nB: 2")) == {"A": 1, "B": 2}


def test_what_an_alias_repeats_is_not_shared(write):
    write("A: &a {x: 1}\nB: *a", "base.yaml")
    assert load_yaml(write("_BASE_: base.yaml\nA: {x: 2}")) == {"A": {"x": 2}, "B": {"x": 1}}


TAGS = [
    "!!python/object/apply:os.mkdir [{folder}]",
    "!!python/object/new:os.mkdir [{folder}]",
    "!!python/name:os.mkdir ''",
    "!!python/module:os ''",
    "!!python/tuple [1, 2]",
    "!mine 1",
]


@pytest.mark.parametrize("tag", TAGS)
@pytest.mark.parametrize("where", ["the file", "its base"])
@pytest.mark.parametrize("reader", [load_yaml, lambda path: get_cfg().merge_from_file(path)])
def test_a_tag_is_refused_with_its_name_and_its_file(write, tmp_path, tag, where, reader):
    folder = tmp_path / "made"
    path = write(f"VERSION: 2\nSEED: {tag.format(folder=folder)}", "bad.yaml")
    if where == "its base":
        path = write("_BASE_: bad.yaml\nVERSION: 2")
    with pytest.raises(UserError) as caught:
        reader(path)
    assert f"bad.yaml, line 2: the tag {tag.split()[0]} is not allowed" in str(caught.value)
    assert not folder.exists()


def test_unsafe_reading_cannot_be_asked_for(write, tmp_path):
    path = write(f"SEED: {TAGS[0].format(folder=tmp_path / 'made')}")
    with pytest.raises(UserError, match="!!python/object/apply:os.mkdir"):
        get_cfg().merge_from_file(path, allow_unsafe=True)
    assert not (tmp_path / "made").exists()


def test_a_handle_does_not_hide_a_tag(write):
    path = write("%TAG !p! tag:yaml.org,2002:python/\n---\nSEED: !p!name:os.mkdir ''")
    with pytest.raises(UserError, match="the tag !!python/name:os.mkdir"):
        load_yaml(path)


def test_a_config_of_ours_is_merged_copied_and_sent(write):
    cfg = get_cfg()
    cfg.merge_from_file(write("VERSION: 2\nSOLVER: {BASE_LR: 0.5}"))
    for other in (cfg.clone(), pickle.loads(pickle.dumps(cfg))):
        assert other == cfg and type(other) is type(cfg)
        other.merge_from_file(write("VERSION: 2\nSOLVER: {MOMENTUM: 0.5}"))
        assert (other.SOLVER.BASE_LR, other.SOLVER.MOMENTUM) == (0.5, 0.5)


@pytest.fixture
def bounded():
    """Ends with less than 5 s of this process's work and 200 MB more memory than before."""
    cpu = time.process_time()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert time.process_time() - cpu < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 200_000


def bomb(first, item):
    """Ten aliases of ten aliases and so on: 10^30 values in a kilobyte."""
    levels = [f"a0: &a0 {first}"]
    for i in range(30):
        levels.append(f"a{i + 1}: &a{i + 1} " + item.replace("*", f"*a{i}"))
    return "\n".join(levels)


LISTS = bomb("[1]", "[" + ", ".join(["*"] * 10) + "]")
MAPPINGS = bomb("{k: 1}", "{" + ", ".join(f"k{i}: *" for i in range(10)) + "}")
MERGED = bomb("{k: 1}", "{<<: [" + ", ".join(["*"] * 10) + "]}")
HOSTILE = {
    "lists": (LISTS, "more than 50000 values"),
    "mappings": (MAPPINGS, "more than 50000 values"),
    "merged mappings": (MERGED, "more than 50000 values"),
    "an alias in itself": ("a: &a [*a]", r"\*a stands in what it repeats"),
    "a key in itself": ("a: &a {*a : 1}", r"\*a stands in what it repeats"),
    "brackets": ("a: " + "[" * 900_000, "more than 50 deep"),
    "braces": ("a: " + "{a: " * 200_000, "more than 50 deep"),
    "dashes": ("- " * 400_000, "more than 50 deep"),
    "indentation": ("\n".join(" " * i + "a:" for i in range(1000)), "more than 50 deep"),
    "values": ("a: [" + "1," * 400_000 + "]", "more than 50000 values"),
    "base 60": ("a: 1" + ":59" * 300_000, "more than 10000 characters"),
    "one word": ("a: " + "x" * 900_000, "more than 10000 characters"),
    "bytes": ("#" * 1_100_000, "1000000 bytes"),
    "digits": ("a: " + "9" * 9_999, "not valid yaml|SEED"),
    "no number": ('a: !!int ""', "not valid yaml"),
    "no truth": ("a: !!bool x", "not valid yaml"),
    "no time": ("a: !!timestamp x", "not valid yaml"),
    "no date": ("a: 2001-99-99", "not valid yaml"),
    "no text": ("a: \0", "not valid yaml: .*position 3"),
    "a list as key": ("{[1]: 2}", "not valid yaml"),
    "two documents": ("a: 1\n---\na: 2", "not valid yaml"),
    "a loop": ("_BASE_: config.yaml", r"base of its own: \S*config.yaml -> \S*config.yaml"),
    "many bases": (f"_BASE_: [{'base.yaml, ' * 1000}]", "at most 50 files"),
    "no path": ("_BASE_: {a: 1}", "expected a path or a list of paths in _BASE_"),
    "a folder": ("_BASE_: .", "_BASE_ of .*config.yaml, does not exist, or is no file"),
    "a pipe": ("_BASE_: pipe", "_BASE_ of .*config.yaml, does not exist, or is no file"),
    "a device": ("_BASE_: /dev/zero", "/dev/zero, _BASE_ of .*, does not exist, or is no file"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_end_soon_in_one_line(write, tmp_path, bounded, name):
    text, pattern = HOSTILE[name]
    write("SEED: 1", "base.yaml")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match=pattern) as caught:
        load_yaml(write(text))
    assert "config.yaml" in str(caught.value)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


def test_a_loop_of_three_files_by_other_names(write, tmp_path, bounded):
    write("_BASE_: ./second.yaml", "first.yaml")
    write(f"_BASE_: ../{tmp_path.name}/third.yaml", "second.yaml")
    path = write("_BASE_: first.yaml", "third.yaml")
    with pytest.raises(UserError, match="base of its own: .*third.* -> .*first.* -> .*second"):
        load_yaml(path)


def test_files_that_fan_out_without_a_loop(write, bounded):
    for i in range(10):
        write(f"_BASE_: [{', '.join([f'{i + 1}.yaml'] * 10)}]", f"{i}.yaml")
    write("A: 1", "10.yaml")
    with pytest.raises(UserError, match="at most 50 files"):
        load_yaml(write("_BASE_: 0.yaml"))


def test_as_much_as_a_config_may_hold_is_read(write):
    names = [f"a name of class {i}" for i in range(13_000)]
    text = "MODEL: {VFNET: {CLASS_NAMES: [" + ", ".join(names) + "]}}"
    assert load_yaml(write(text))["MODEL"]["VFNET"]["CLASS_NAMES"] == names
