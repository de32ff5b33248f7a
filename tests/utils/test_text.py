import pytest

from vfnet.utils.text import is_name, one_line


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a\nerror: b", "a error: b"),
        ("a \r\n  b", "a b"),
        ("a\x1b[2Jb", r"a\x1b[2Jb"),
        ("B\udce4r.jpg", r"B\xe4r.jpg"),
        ("a\u2028b", r"a\u2028b"),
        ("zażółć 細胞 🙂", "zażółć 細胞 🙂"),
    ],
)
def test_one_line_holds_what_can_be_printed(text, line):
    assert one_line(text) == line and is_name(line)
    assert is_name(text) == (text == line)


def test_a_space_that_does_not_break_is_no_reason_to_refuse_a_name():
    assert is_name("a\u00a0b")
