"""demo/demo.py, run in this process."""

import importlib.util
import json

from tests.conftest import REPOSITORY


def run_demo(picture, output, *arguments):
    """Predict on a picture; return the detections that the json has."""
    path = REPOSITORY / "demo" / "demo.py"
    spec = importlib.util.spec_from_file_location("demo_of_slices", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    words = ["--input", picture, "--output", output, *arguments]
    module.run(module.parse_arguments([str(word) for word in words]))
    (record,) = json.loads((output / "predictions.json").read_text())
    return record["detections"]
