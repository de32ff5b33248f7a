from vfnet.data.checks.report import name_first


def test_all_are_named_up_to_the_limit():
    assert name_first(["1", "2"]) == "1; 2"


def test_ten_are_named_and_the_others_counted():
    text = name_first([f"<{i}>" for i in range(13)])
    assert text.startswith("<0>; <1>") and text.endswith("<9>; and 3 more")
    assert "<10>" not in text
