"""Keys in the documentation: those that it lists are described, those that it names exist."""

import re
from pathlib import Path

import config_keys
import pytest
from config_keys import Key, added_keys
from detectron2.config import CfgNode
from detectron2.config import get_cfg as get_detectron2_cfg
from key_tables import key_tables

from tests.docs.blocks import code_spans
from vfnet import get_cfg
from vfnet.errors import UserError

# In capitals, and no keys.
VARIABLES = {
    "CUDA_VISIBLE_DEVICES",
    "DETECTRON2_DATASETS",
    "GLOO_SOCKET_IFNAME",
    "LOCAL_RANK",
    "MALLOC_TRIM_THRESHOLD_",
    "NCCL_SOCKET_IFNAME",
    "OMP_NUM_THREADS",
    "ONEDNN_MAX_CPU_ISA",
    "SLURM_NODEID",
    "WORLD_SIZE",
}


def names(node: CfgNode, prefix: str = "") -> set[str]:
    """The full names of all keys and nodes."""
    found = set()
    for name, value in node.items():
        found.add(prefix + name)
        if isinstance(value, CfgNode):
            found |= names(value, f"{prefix}{name}.")
    return found


def test_every_key_of_the_project_is_listed_with_its_default():
    cfg, keys = get_cfg(), {key.name: key for key in added_keys()}
    assert set(keys) == names(cfg) - names(get_detectron2_cfg())
    for name, key in keys.items():
        node = cfg
        for part in name.split("."):
            node = node[part]
        assert key.is_node == isinstance(node, CfgNode)
        if not key.is_node:
            assert key.default == node, name
            assert len(key.description) > 10, name


def test_the_tables_have_every_key_and_what_every_base_sets():
    text = key_tables()
    for key in added_keys():
        name = key.name.rpartition(".")[2]
        assert key.is_node or f"| `{name}` |" in text, key.name
        assert not key.is_node or key.name in text, key.name
    assert "| `SOLVER.BASE_LR` | `0.001` | `0.01` |" in text  # Detectron2's and Base-Dense.yaml's
    assert '| `MODEL.META_ARCHITECTURE` | `"GeneralizedRCNN"` | `"VFNet"` |' in text


def write_module(tmp_path: Path, body: str):
    """A function that adds keys, as a module on the disk: its comments are read from there."""
    file = tmp_path / "keys_of_a_test.py"
    file.write_text(f"def add(cfg):\n{body}")
    scope: dict = {"CfgNode": CfgNode}
    exec(compile(file.read_text(), str(file), "exec"), scope)
    return scope["add"]


def test_a_description_stands_above_a_key_or_behind_it(tmp_path):
    add = write_module(
        tmp_path,
        "    # One,\n    # in two lines.\n    cfg.ONE = (\n        1,\n    )\n"
        "    cfg.TWO = 2  # behind it\n"
        "    # A node.\n    cfg.NODE = CfgNode()\n    # Within.\n    cfg.NODE.THREE = 3\n",
    )
    assert added_keys(add) == [
        Key("ONE", (1,), "One, in two lines."),
        Key("TWO", 2, "behind it"),
        Key("NODE", None, "A node.", is_node=True),
        Key("NODE.THREE", 3, "Within."),
    ]


def test_a_key_without_a_description_is_refused(tmp_path):
    add = write_module(
        tmp_path, "    # One.\n    cfg.ONE = 1\n    cfg.TWO = 2\n    cfg.THREE = 3\n"
    )
    with pytest.raises(UserError, match=r"2 config keys .* TWO \(keys_of_a_test.py:4\), THREE"):
        added_keys(add)


def test_the_first_assignment_describes_a_key(tmp_path):
    add = write_module(
        tmp_path,
        "    # What it is.\n    cfg.ONE = 1\n    # Why it is another one here.\n    cfg.ONE = 2\n",
    )
    assert added_keys(add) == [Key("ONE", 2, "What it is.")]


def test_keys_that_differ_are_found_at_any_depth():
    base = get_cfg()
    other = get_cfg()
    other.SOLVER.EMA.DECAY = 0.5
    other.SEED = 3
    assert config_keys.differing_keys(base, other) == {
        "SEED": (-1, 3),
        "SOLVER.EMA.DECAY": (base.SOLVER.EMA.DECAY, 0.5),
    }


def test_every_key_that_a_document_names_exists():
    """Whole, or without what stands before: `NUM_CONVS` and `MODEL.VFNET.NUM_CONVS`."""
    existing = names(get_cfg())
    ends = {name.split(".", i)[i] for name in existing for i in range(name.count(".") + 1)}
    unknown = [
        f"{span}: {key}"
        for span in code_spans()
        for key in re.findall(
            r"(?<![\w./$-])[A-Z][A-Z0-9]*(?:[_.][A-Z0-9_]+)+(?![\w*./=-])", span.text
        )
        if key not in ends and key not in VARIABLES
    ]
    assert not unknown


def test_every_value_that_a_document_gives_a_key_is_one_that_it_can_have():
    """`SOLVER.AMP.ENABLED True`, in full."""
    existing = {name for name in names(get_cfg()) if "." in name}
    found = 0
    for span in code_spans():
        key, _, value = span.text.partition(" ")
        if key in existing and value and not value.endswith("…"):
            get_cfg().merge_from_list([key, value.strip('"')])
            found += 1
    assert found > 20
