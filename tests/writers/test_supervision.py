"""supervision takes results as they are."""

import numpy as np

from tests.extras import needs
from tests.predictions import detections

pytestmark = needs("test-extras")

import supervision  # noqa: E402


def test_supervision_reads_a_result():
    image = np.full((40, 80, 3), 51, np.uint8)
    found = supervision.Detections.from_detectron2({"instances": detections(image)})
    assert found.xyxy.tolist() == [[1, 2, 40, 20], [0, 0, 80, 40]]
    assert found.class_id.tolist() == [0, 2]
    np.testing.assert_allclose(found.confidence, [0.9, 0.2], rtol=1e-6)
