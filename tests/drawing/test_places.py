"""vfnet.drawing.places: labels beside their boxes, on nothing else."""

import numpy as np

from vfnet.drawing.places import place_labels

SIZE = (60, 15)


def shared(a, b):
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    return np.prod(np.clip(sides, 0, None))


def test_a_lone_label_stands_on_top_of_its_box():
    places = place_labels(np.array([[100.0, 100, 200, 180]]), [SIZE], (640, 480))
    assert places[0].tolist() == [100, 85, 160, 100]


def test_labels_stay_in_the_picture_and_off_their_box_where_there_is_room():
    boxes = np.array([[0.0, 0, 100, 80], [540, 400, 640, 480], [300, 0, 400, 480]])
    places = place_labels(boxes, [SIZE] * 3, (640, 480))
    for index, place in places.items():
        assert (place[:2] >= 0).all() and place[2] <= 640 and place[3] <= 480
        assert shared(place, boxes[index]) == 0


def test_labels_of_a_crowd_do_not_hide_each_other():
    random = np.random.default_rng(0)
    corners = random.uniform(0, 1, (300, 2)) * (560, 400)
    boxes = np.concatenate((corners, corners + random.uniform(20, 80, (300, 2))), axis=1)
    places = place_labels(boxes, [SIZE] * 300, (640, 480))
    assert 0 in places and 40 < len(places) < 300
    found = list(places.values())
    area = SIZE[0] * SIZE[1]
    assert sum(area for _ in found) <= 0.35 * 640 * 480
    for i, place in enumerate(found):
        assert all(shared(place, other) <= 0.1 * area for other in found[:i])
