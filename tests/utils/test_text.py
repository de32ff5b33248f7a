import pytest

from vfnet.utils.text import is_printable, one_line


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a\nerror: b", "a error: b"),
        ("a \r\n  b", "a b"),
        ("a\x1b[2Jb", r"a\x1b[2Jb"),
        ("B\udce4r.jpg", r"B\udce4r.jpg"),
        ("a\u2028b", r"a\u2028b"),
        ("zażółć 細胞 a\u00a0b 🙂", "zażółć 細胞 a\u00a0b 🙂"),
    ],
)
def test_one_line_holds_what_can_be_printed(text, line):
    assert one_line(text) == line and is_printable(line)
    assert is_printable(text) == (text == line)
