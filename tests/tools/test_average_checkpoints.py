import runpy

import pytest
import torch

from vfnet.errors import UserError


@pytest.fixture
def tool(repository):
    """Run the tool in this process, which has the package loaded already."""
    module = runpy.run_path(str(repository / "tools" / "average_checkpoints.py"))

    def run(*arguments):
        module["main"](module["get_parser"]().parse_args([str(a) for a in arguments]))

    return run


def write(path, **changes):
    weights = {
        "weight": torch.tensor([1.0, 2.0]),
        "half": torch.tensor([1.0], dtype=torch.float16),
        "norm.running_mean": torch.tensor([3.0]),
        "norm.num_batches_tracked": torch.tensor(4),
    }
    weights.update(changes)
    weights = {name: value for name, value in weights.items() if value is not None}
    torch.save({"model": weights, "trainer": {"iteration": 3}, "iteration": 3}, path)
    return path


def test_the_mean_of_three_files(tool, tmp_path, capsys):
    paths = [
        write(tmp_path / "a.pth"),
        write(tmp_path / "b.pth", weight=torch.tensor([2.0, 4.0])),
        write(
            tmp_path / "c.pth",
            weight=torch.tensor([6.0, 0.0]),
            half=torch.tensor([4.0], dtype=torch.float16),
            **{"norm.num_batches_tracked": torch.tensor(9)},
        ),
    ]
    tool(tmp_path / "mean.pth", *paths)
    content = torch.load(tmp_path / "mean.pth", weights_only=True)
    assert content.keys() == {"model"}
    mean = content["model"]
    assert mean["weight"].tolist() == [3.0, 2.0] and mean["weight"].dtype is torch.float32
    assert mean["half"].item() == 2 and mean["half"].dtype is torch.float16
    assert mean["norm.num_batches_tracked"].item() == 9
    out = capsys.readouterr().out
    assert out == f"{tmp_path / 'mean.pth'}: mean of 3 checkpoints, 4 tensors\n"


def test_sums_are_in_double_precision(tool, tmp_path):
    large = torch.tensor([2.0**24])
    files = [(large, "a"), (torch.tensor([1.0]), "b"), (torch.tensor([1.0]), "c"), (-large, "d")]
    paths = [write(tmp_path / f"{name}.pth", weight=value) for value, name in files]
    tool(tmp_path / "mean.pth", *paths)
    # In single precision 2**24 + 1 is 2**24, and the mean would be 0.
    mean = torch.load(tmp_path / "mean.pth", weights_only=True)["model"]
    assert mean["weight"].item() == 0.5


def test_statistics_that_differ_are_averaged_and_mentioned(tool, tmp_path, capsys):
    other = write(tmp_path / "b.pth", **{"norm.running_mean": torch.tensor([5.0])})
    tool(tmp_path / "mean.pth", write(tmp_path / "a.pth"), other)
    mean = torch.load(tmp_path / "mean.pth", weights_only=True)["model"]
    assert mean["norm.running_mean"].item() == 4
    assert "1 statistics of batch norms differed" in capsys.readouterr().out


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"weight": torch.zeros(3)}, r"weight is \(2,\) of .* in .*a.pth and \(3,\) of .*b.pth"),
        ({"weight": torch.zeros(2).double()}, "float32 in .* and .*float64"),
        ({"weight": None}, "weight is .* in .*a.pth and missing in .*b.pth"),
        ({"more": torch.zeros(1)}, "more is missing in .*a.pth"),
        ({"weight": torch.tensor([1.0, float("nan")])}, "weight is not finite"),
    ],
)
def test_another_model_is_refused(tool, tmp_path, changes, words):
    with pytest.raises(UserError, match=words):
        tool(tmp_path / "mean.pth", write(tmp_path / "a.pth"), write(tmp_path / "b.pth", **changes))
    assert not (tmp_path / "mean.pth").exists()


def test_files_that_cannot_be_averaged(tool, tmp_path):
    a, b, out = write(tmp_path / "a.pth"), write(tmp_path / "b.pth"), tmp_path / "mean.pth"
    (tmp_path / "bad.pth").write_bytes(a.read_bytes()[:100])
    torch.save([1], tmp_path / "list.pth")
    for arguments, words in [
        ([out, a], "two checkpoints or more, got 1"),
        ([out, a, tmp_path / "gone.pth"], "no checkpoint .*gone.pth"),
        ([out, a, tmp_path / "bad.pth"], "bad.pth cannot be read"),
        ([out, a, tmp_path / "list.pth"], "expected tensors .*list.pth"),
        ([tmp_path / "." / "b.pth", a, b], "b.pth is to be averaged and overwritten"),
        ([tmp_path / "no" / "mean.pth", a, b], "no/mean.pth does not exist"),
    ]:
        with pytest.raises(UserError, match=words):
            tool(*arguments)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "a.pth",
        "b.pth",
        "bad.pth",
        "list.pth",
    ]
