"""vfnet.utils.text: names stay on their line, whatever they hold."""

from vfnet.utils.text import as_utf8, printable


def test_control_characters_and_bytes_are_escaped():
    assert printable("a\x1b[2J\nerror: b\r") == "a\\x1b[2J\\nerror: b\\r"
    name = b"B\xe4r.jpg".decode("utf-8", "surrogateescape")
    assert printable(name) == as_utf8(name) == "B\\xe4r.jpg"
    assert printable("\ud800") == as_utf8("\ud800") == "\\ud800"


def test_what_can_be_shown_stays():
    name = "红细胞 и Лейкоцит $5_$.jpg"
    assert printable(name) == as_utf8(name) == name
    assert as_utf8("a\nb") == "a\nb"
