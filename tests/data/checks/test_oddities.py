import pytest
from detectron2.structures import BoxMode

from vfnet.data.checks.oddities import describe_crowds, describe_excess, describe_unit


def make_record(*boxes, crowds=0, file_name="a.jpg", mode=BoxMode.XYWH_ABS):
    """A picture with these boxes, the first `crowds` of them crowds."""
    annotations = [
        {"bbox": list(box), "bbox_mode": mode, "iscrowd": int(i < crowds)}
        for i, box in enumerate(boxes)
    ]
    return {"file_name": file_name, "annotations": annotations}


SHARE, PIXELS = (0.1, 0.2, 0.3, 0.4), (10, 20, 30, 40)


@pytest.mark.parametrize(
    "boxes, said",
    [
        ([SHARE], "1 of 1 boxes"),
        ([(0, 0, 1, 1), SHARE, PIXELS], "2 of 3 boxes"),
        ([(200, 100, 0.5, 0.5)], "1 of 1 boxes"),  # smaller than a pixel, wherever it is
        ([SHARE, PIXELS], ""),
        ([(10, 20, 0.5, 40)], ""),  # a thin line is no other unit
        ([], ""),
    ],
)
def test_boxes_in_shares_of_the_picture_are_pointed_out_where_most_are(boxes, said):
    text = describe_unit([make_record(*boxes)])
    assert text.startswith(said) and bool(text) == bool(said)
    assert not text or ("a.jpg [" in text and "pixels" in text)


def test_corners_in_shares_are_pointed_out_too():
    assert describe_unit([make_record((0.1, 0.2, 0.9, 1.0), mode=BoxMode.XYXY_ABS)])


def test_crowds_have_no_say_in_the_unit():
    assert describe_unit([make_record(SHARE, SHARE, PIXELS, crowds=2)]) == ""


@pytest.mark.parametrize(("crowds", "said"), [(4, "4 of 4"), (3, "3 of 4"), (2, ""), (0, "")])
def test_crowds_are_pointed_out_where_most_boxes_are(crowds, said):
    text = describe_crowds([make_record(*[PIXELS] * 4, crowds=crowds)])
    assert text.startswith(said) and bool(text) == bool(said)


def test_no_box_is_no_crowd():
    assert describe_crowds([make_record()]) == ""


def test_pictures_with_more_objects_than_detections_are_counted_the_fullest_first():
    records = [
        make_record(*[PIXELS] * count, file_name=f"{count}.jpg", crowds=1) for count in (4, 6, 7)
    ]
    text = describe_excess(records, 4)
    assert text.startswith("2 of 3 pictures hold more objects")
    assert "TEST.DETECTIONS_PER_IMAGE 4): 6 in 7.jpg; 5 in 6.jpg. " in text
    assert describe_excess(records, 6) == ""
