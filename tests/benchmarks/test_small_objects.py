"""benchmarks/small_objects.py: what it draws is small, and the fallback leaves none of it out."""

import json

from benchmarks import small_objects


def test_what_is_drawn_is_of_4_to_12_pixels(tmp_path):
    small_objects.draw(tmp_path, {"train": 4}, size=128)
    content = json.loads((tmp_path / "train.json").read_text())
    longest = [max(annotation["bbox"][2:]) for annotation in content["annotations"]]
    assert len(content["images"]) == 4 and len(longest) == 4 * small_objects.DENSITY // 4
    assert all(small_objects.SMALLEST - 0.01 <= side <= 12.01 for side in longest)


def test_the_fallback_leaves_none_without_a_location(capsys):
    variants = ("as published", "ATSS_FALLBACK")
    args = ["--shares", "--size", "128", "--pictures", "16", "--variants", *variants]
    small_objects.main(small_objects.get_parser().parse_args(args))
    header, _, *rows = (line.strip("|").split("|") for line in capsys.readouterr().out.splitlines())
    assert [cell.strip() for cell in header] == ["variant", "without a location"]
    shares = {name.strip(): float(share.strip(" %")) for name, share in rows}
    assert 5 < shares["as published"] < 50 and shares["ATSS_FALLBACK"] == 0
