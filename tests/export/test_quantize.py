"""Files in int8: what stays in float, what they lose, and when they are refused."""

import pytest
from PIL import Image

from tests.export.detectors import (
    pixels,
    saved_detector,
    tiny_graph,
    write_own_detections,
    write_pictures,
)
from tests.extras import needs
from vfnet.errors import UserError
from vfnet.export import load_exported
from vfnet.export.openvino_file import convert_program
from vfnet.export.padding import pad_together
from vfnet.export.program import export_program, output_names
from vfnet.export.quantize import calibration_batches, float_operations, quantize
from vfnet.export.score import find_dataset
from vfnet.export.write import ExportOptions, export_detector

pytestmark = needs("export")

import openvino  # noqa: E402

SIZE = (96, 128)
LEVELS = 2


def converted(name, folder):
    _, graph = tiny_graph(name, folder, raw=True, two_levels=True)
    return convert_program(export_program(graph, 1, SIZE), output_names(raw=True))


@pytest.mark.parametrize(
    "name, layers",
    [
        ("vfnet", 3),  # classes, boxes, refined boxes
        ("gflv2", 4),  # classes, distributions, and two that predict quality from these
        ("foveabox_aligned", 3),  # classes, distances, and what makes offsets of these
        ("reppoints", 3),  # classes, points, refined points
    ],
)
def test_the_last_layers_and_what_follows_them_stay_in_float(name, layers, tmp_path):
    model = converted(name, tmp_path)
    names = set(float_operations(model))
    kinds = [op.get_type_name() for op in model.get_ops() if op.get_friendly_name() in names]
    assert kinds.count("Convolution") == layers * LEVELS
    assert kinds.count("DeformableConvolution") == 0
    assert kinds.count("GroupNormalization") == 0
    assert "Sigmoid" in kinds


def test_calibration_is_repeatable(tmp_path):
    batches = [pad_together([image], 1, SIZE) for image in pixels(*[SIZE] * 4)]
    written = []
    for number in range(2):
        model = quantize(converted("atss", tmp_path), batches, lambda batch: batch)
        openvino.save_model(model, tmp_path / f"{number}.xml")
        written.append((tmp_path / f"{number}.bin").read_bytes())  # ranges are in it, too
    assert written[0] == written[1]


def test_pictures_are_chosen_at_equal_distances_and_whole_batches_taken():
    files = [str(number) for number in range(602)]
    batches = calibration_batches(files, 7)
    assert len(batches) == 300 // 7
    assert batches[0] == ["0", "2", "4", "6", "8", "10", "12"]
    assert all(len(batch) == 7 for batch in batches)
    assert len(calibration_batches(files[:128], 1)) == 128
    with pytest.raises(UserError, match="at least 128 pictures to calibrate on, found 127"):
        calibration_batches(files[:127], 1)
    with pytest.raises(UserError, match="on 300 pictures, fewer than a batch of 301"):
        calibration_batches(files, 301)


def test_a_file_that_loses_too_much_is_written_only_if_that_is_accepted(tmp_path):
    """Ground truth is what the detector finds; black pictures show nothing of what it will see."""
    cfg, detector = saved_detector("atss", tmp_path, two_levels=True, TOPK_CANDIDATES_TEST=50)
    pictures = write_pictures(tmp_path, *[SIZE] * 4)
    json_file = write_own_detections(tmp_path, detector, pictures)
    black = str(tmp_path / "black.png")
    Image.new("RGB", SIZE[::-1]).save(black)
    dataset = find_dataset(cfg, [str(json_file), str(tmp_path)])
    out = tmp_path / "out"

    def export(accept_loss):
        return export_detector(
            *(cfg, "atss", out, ExportOptions("openvino", size=SIZE), pictures[:2]),
            calibration=[black] * 128,
            dataset=dataset,
            accept_loss=accept_loss,
        )

    with pytest.raises(UserError, match="in torch 100.00: it loses .*nothing was written"):
        export(accept_loss=False)
    assert not out.exists() or not list(out.iterdir())

    written = export(accept_loss=True)
    assert {path.name for path in out.iterdir()} == {
        *("atss_int8.bin", "atss_int8.json", "atss_int8.xml")
    }
    assert written.agreement.boxes < 0.01
    assert written.scores.torch == pytest.approx(100)
    assert written.scores.file < 99.5
    exported = load_exported(written.path)
    assert exported.description.precision == "int8"
    assert exported.description.scored == written.scores._asdict()
    model = openvino.Core().read_model(written.path)
    levels = [op for op in model.get_ops() if op.get_type_name() == "FakeQuantize"]
    assert len(levels) > 20
    # Nothing behind the last layers is brought to levels.
    assert not {op.get_friendly_name() for op in levels} & set(float_operations(model))
