"""Exported files in their runtimes detect what torch does."""

import pytest
import torch

from tests.export.detectors import (
    DETECTORS,
    pixels,
    saved_detector,
    tiny_graph,
    write_pictures,
)
from tests.extras import needs
from vfnet.errors import UserError
from vfnet.export import load_exported
from vfnet.export.agreement import compare
from vfnet.export.description import description_path, read_description, write_description
from vfnet.export.graph import selection_rule
from vfnet.export.padding import pad_together
from vfnet.export.program import export_program
from vfnet.export.score import Scores
from vfnet.export.write import ExportOptions, export_detector

pytestmark = needs("export")

import onnx  # noqa: E402

FORMATS = ("onnx", "openvino")


@pytest.mark.parametrize("file_format", FORMATS)
@pytest.mark.parametrize("name", DETECTORS)
def test_a_file_of_one_size_agrees_with_torch(name, file_format, tmp_path):
    """Landscape and portrait pictures are brought into the same size."""
    keys = {"two_levels": True, "TOPK_CANDIDATES_TEST": 50}
    if name not in ("vfnet", "vfnet_dcn", "libra_retinanet"):  # whose backbones differ
        keys["backbone"] = "TwoConvolutions"
    cfg, _ = saved_detector(name, tmp_path, **keys)
    pictures = write_pictures(tmp_path, (60, 90), (100, 70))
    options = ExportOptions(file_format, size=(96, 130))
    written = export_detector(cfg, name, tmp_path / "out", options, pictures)
    assert written.agreement.boxes < 0.01
    assert written.agreement.scores < 1e-4

    exported = load_exported(written.path)
    assert exported.description.checked == {"pictures": 2, **written.agreement._asdict()}
    (found,) = exported([{"image": pixels((96, 130))[0], "height": 48, "width": 65}])
    assert len(found["instances"]) > 3
    assert found["instances"].image_size == (48, 65)
    assert found["instances"].pred_boxes.tensor[:, 2].max() <= 65
    if file_format == "onnx":
        graph = onnx.load(written.path)
        assert {node.domain for node in graph.graph.node} == {""}
        assert not graph.functions
        assert [opset.domain for opset in graph.opset_import] == [""]
        operators = {node.op_type for node in graph.graph.node}
        assert ("DeformConv" in operators) == (name in WITH_DEFORM_CONV)


WITH_DEFORM_CONV = ("vfnet", "vfnet_dcn", "foveabox_aligned", "reppoints")


@pytest.mark.parametrize("name", ["vfnet_dcn", "libra_retinanet"])
def test_exported_once_a_graph_takes_pictures_of_other_sizes(name, tmp_path):
    """Here, because torch.export takes a minute."""
    _, graph = tiny_graph(name, tmp_path, two_levels=True, TOPK_CANDIDATES_TEST=50)
    program = export_program(graph, batch=2)
    called = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert not {name for name in called if "sort" in name or "embedding_bag" in name}
    deformed = [node for node in program.graph.nodes if "deform_conv2d" in str(node.target)]
    # Two stars and two towers on each of two levels, and three layers of the backbone.
    assert len(deformed) == (11 if name == "vfnet_dcn" else 0)
    module = program.module(check_guards=False)
    for sizes in (((150, 260), (140, 130)), ((300, 131), (200, 131))):
        images, valid = map(torch.from_numpy, pad_together(pixels(*sizes), 2, None))
        with torch.no_grad():
            found, expected = module(images, valid), graph(images, valid)
        assert torch.equal(found[3], expected[3])
        torch.testing.assert_close(found[0], expected[0], rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(found[1], expected[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("file_format", FORMATS)
def test_a_file_of_any_size_takes_batches_of_several(file_format, tmp_path):
    cfg, detector = saved_detector("vfnet", tmp_path, two_levels=True, TOPK_CANDIDATES_TEST=50)
    options = ExportOptions(file_format, batch=2)
    exported = load_exported(export_detector(cfg, "vfnet", tmp_path, options).path)
    rule = selection_rule(detector)
    for sizes in (((96, 128), (128, 64)), ((40, 33), (150, 290)), ((50, 70),)):
        items = [{"image": image.float()} for image in pixels(*sizes)]
        with torch.no_grad():
            expected = detector(items)
        found = exported(items)
        assert len(found) == len(sizes)
        for one, other in zip(found, expected):
            agreement = compare(one["instances"], other["instances"], rule)
            assert len(other["instances"]) > 3
            assert agreement.missing == 0
            assert agreement.boxes < 0.01 and agreement.scores < 1e-4


def test_a_raw_file_agrees_with_torch_and_does_not_detect(tmp_path):
    keys = {"two_levels": True, "NMS_TYPE": "soft_nms_linear"}
    cfg, _ = saved_detector("atss", tmp_path, **keys)
    pictures = write_pictures(tmp_path, (60, 90))
    options = ExportOptions("onnx", size=(64, 96), raw=True)
    written = export_detector(cfg, "atss", tmp_path, options, pictures)
    assert written.agreement.boxes < 0.01 and written.agreement.scores < 1e-4
    exported = load_exported(written.path)
    outputs = exported.run(*exported.arrays(pixels((64, 96))))
    assert {name: value.shape for name, value in outputs.items()} == {
        "scores": (1, 4 * 6 + 1 * 2, 3),
        "boxes": (1, 4 * 6 + 1 * 2, 4),
    }
    with pytest.raises(UserError, match="exported with --raw"):
        exported([{"image": pixels((64, 96))[0]}])


def test_pictures_on_which_nothing_is_found_prove_nothing(tmp_path, monkeypatch):
    keys = {"two_levels": True, "backbone": "TwoConvolutions", "SCORE_THRESH_TEST": 1.0}
    cfg, _ = saved_detector("atss", tmp_path, **keys)
    pictures = write_pictures(tmp_path, (60, 90))
    options = ExportOptions("onnx", size=(96, 130))
    with pytest.raises(UserError, match="nothing was compared .* on the 1 pictures"):
        export_detector(cfg, "atss", tmp_path / "out", options, pictures)
    assert not list(tmp_path.glob("out/*"))
    # Of a data set AP says the rest.
    monkeypatch.setattr("vfnet.export.write.compare_scores", lambda *_: Scores("shapes", 9.0, 9.0))
    written = export_detector(cfg, "atss", tmp_path / "out", options, pictures, dataset="shapes")
    assert written.agreement is None and written.scores.torch == 9.0
    assert load_exported(written.path).description.checked is None


def test_a_file_that_its_runtime_does_not_load_is_an_error(tmp_path):
    cfg, _ = saved_detector("atss", tmp_path, two_levels=True)
    path = export_detector(cfg, "atss", tmp_path, ExportOptions("onnx", size=(64, 96))).path
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="is not the file that .*atss.json describes"):
        load_exported(path)
    # As if it had been described so.
    path.write_bytes(whole)
    read = read_description(path)
    path.write_bytes(whole[: len(whole) // 2])
    write_description(read, description_path(path))
    with pytest.raises(UserError, match="ONNX Runtime does not load .*atss.onnx .*export it again"):
        load_exported(path)
