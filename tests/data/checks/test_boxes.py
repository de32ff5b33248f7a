import copy
import logging

import pytest
from detectron2.structures import BoxMode

from vfnet.data.checks.boxes import clean_boxes, describe_bad_boxes
from vfnet.errors import UserError


def make_record(*boxes, mode=BoxMode.XYWH_ABS, **more):
    """A 100x80 image."""
    annotations = [
        {"bbox": list(box), "bbox_mode": mode, "category_id": 0, "iscrowd": 0} for box in boxes
    ]
    return {"file_name": "a.jpg", "width": 100, "height": 80, "annotations": annotations, **more}


def corners(record):
    return [
        BoxMode.convert(a["bbox"], a["bbox_mode"], BoxMode.XYXY_ABS) for a in record["annotations"]
    ]


def test_good_boxes_stay_as_they_are(caplog):
    records = [make_record((0, 0, 100, 80), (1.5, 2.5, 3, 4)), make_record()]
    with caplog.at_level(logging.WARNING):
        assert clean_boxes(records) == records
    assert not caplog.records


@pytest.mark.parametrize("box", [(5, 5, 0, 10), (5, 5, 10, 0), (0, 0, 0, 0)])
def test_an_empty_box_is_left_out_and_named(caplog, box):
    with caplog.at_level(logging.WARNING):
        (record,) = clean_boxes([make_record((1, 2, 3, 4), box)])
    assert corners(record) == [[1, 2, 4, 6]]
    assert f"1 boxes left out (1 empty, 0 outside their image): a.jpg {list(box)}" in caplog.text


@pytest.mark.parametrize("box", [(100, 5, 10, 10), (-10, 5, 10, 10), (5, 80, 9, 9), (5, -30, 9, 9)])
def test_a_box_outside_is_left_out_and_named(caplog, box):
    with caplog.at_level(logging.WARNING):
        (record,) = clean_boxes([make_record(box)])
    assert record["annotations"] == []
    assert f"(0 empty, 1 outside their image): a.jpg {list(box)}" in caplog.text


@pytest.mark.parametrize("mode", [BoxMode.XYWH_ABS, BoxMode.XYXY_ABS])
def test_a_box_that_sticks_out_is_clipped_and_named(caplog, mode):
    box = BoxMode.convert([-5.0, 70.0, 20.0, 90.0], BoxMode.XYXY_ABS, mode)
    with caplog.at_level(logging.WARNING):
        (record,) = clean_boxes([make_record(box, mode=mode)])
    assert corners(record) == [[0, 70, 20, 80]]
    assert f"1 boxes stick out of their image, clipped: a.jpg {box}" in caplog.text


def test_one_warning_counts_all_and_names_ten(caplog):
    records = [make_record((i, 1, 0, 5), (90, 1, 20 + i, 5)) for i in range(1, 14)]
    with caplog.at_level(logging.WARNING):
        clean_boxes(records)
    (entry,) = caplog.records
    assert "13 boxes left out (13 empty" in entry.message and "13 boxes stick" in entry.message
    assert "[10, 1, 0, 5]; and 3 more" in entry.message and "[11, 1, 0, 5]" not in entry.message


def test_rounding_beyond_the_border_is_not_reported(caplog):
    with caplog.at_level(logging.WARNING):
        (record,) = clean_boxes([make_record((0.1, 0, 99.9000001, 80))], strict=True)
    assert corners(record) == [[0.1, 0, 100, 80]]
    assert not caplog.records


@pytest.mark.parametrize("box", [(5, 5, 0, 10), (200, 5, 10, 10), (90, 5, 20, 10)])
def test_strict_makes_each_kind_an_error(box):
    with pytest.raises(UserError, match=r"DATASETS.STRICT: 1 boxes .*a.jpg \[") as caught:
        clean_boxes([make_record(box)], strict=True)
    assert str(list(box)) in str(caught.value)


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -4.0])
def test_impossible_boxes_are_always_errors(bad, strict):
    with pytest.raises(UserError, match="1 boxes are not finite or have a negative side: a.jpg"):
        clean_boxes([make_record((1, 2, bad, 4))], strict=strict)


def test_crowds_are_left_alone():
    record = make_record((90, 1, 50, 5), (5, 5, 0, 0))
    for annotation in record["annotations"]:
        annotation["iscrowd"] = 1
    assert clean_boxes([record], strict=True) == [record]


def test_the_input_is_not_changed():
    records = [make_record((90, 1, 20, 5), (5, 5, 0, 5))]
    before = copy.deepcopy(records)
    clean_boxes(records)
    assert records == before


def test_records_without_annotations_pass():
    record = {"file_name": "a.jpg"}
    assert clean_boxes([record]) == [record]


def test_other_box_modes_are_refused():
    with pytest.raises(UserError, match="a.jpg .* XYWH_ABS or XYXY_ABS"):
        clean_boxes([make_record((1, 2, 3, 4), mode=BoxMode.XYWHA_ABS)])


def test_a_record_without_its_size_is_named():
    record = make_record((1, 2, 3, 4))
    del record["width"]
    with pytest.raises(UserError, match="a.jpg needs its width and height"):
        clean_boxes([record])


def test_boxes_to_evaluate_on_are_described_and_stay(caplog):
    records = [make_record((1, 2, 3, 4), (5, 5, 0, 9), (200, 1, 9, 9), (90, 70, 20, 5))]
    before = copy.deepcopy(records)
    message = describe_bad_boxes(records)
    assert "2 boxes that no detection matches" in message
    assert "(1 empty, 1 outside their image): a.jpg [5, 5, 0, 9]; a.jpg [200, 1, 9, 9]." in message
    assert "1 boxes stick out" in message and "[90, 70, 20, 5]" in message
    assert records == before and not caplog.records
    with pytest.raises(UserError, match="DATASETS.STRICT: 2 boxes .*evaluate with such boxes"):
        describe_bad_boxes(records, strict=True)


def test_good_boxes_to_evaluate_on_need_no_word():
    assert describe_bad_boxes([make_record((1, 2, 3, 4))], strict=True) == ""
