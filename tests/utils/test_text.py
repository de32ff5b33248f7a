"""vfnet.utils.text: names stay on their line, whatever they hold."""

import pytest

from vfnet.utils.text import as_utf8, is_name, one_line, printable


def test_control_characters_and_bytes_are_escaped():
    assert printable("a\x1b[2J\nerror: b\r") == "a\\x1b[2J\\nerror: b\\r"
    name = b"B\xe4r.jpg".decode("utf-8", "surrogateescape")
    assert printable(name) == as_utf8(name) == "B\\xe4r.jpg"
    assert printable("\ud800") == as_utf8("\ud800") == "\\ud800"


def test_what_can_be_shown_stays():
    name = "红细胞 и Лейкоцит $5_$.jpg"
    assert printable(name) == as_utf8(name) == name
    assert as_utf8("a\nb") == "a\nb"


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
