"""A check on all processes: who makes it, and that all of them fail together."""

import pytest
from detectron2.utils import comm

from vfnet.errors import UserError
from vfnet.utils.comm import check_on_all_processes, on_main_process


def test_a_failed_check_fails_with_its_message():
    def check():
        raise UserError("picture 3 is not there")

    with pytest.raises(UserError, match="^picture 3 is not there$"):
        check_on_all_processes(check)
    assert check_on_all_processes(lambda: 3) == 3


@pytest.fixture
def second_of_two(monkeypatch):
    """This process is the second of two on its machine; the first has nothing to complain of."""
    gathered = []
    monkeypatch.setattr(comm, "get_local_rank", lambda: 1)
    monkeypatch.setattr(comm, "all_gather", lambda own: gathered.append(own) or [None, own])
    return gathered


def test_a_check_of_each_machine_is_not_made_twice(second_of_two):
    assert check_on_all_processes(lambda: pytest.fail("called")) is None
    assert second_of_two == [None]


def test_what_every_process_has_to_do_fails_on_all(second_of_two):
    def check():
        raise UserError("own.json is not there")

    assert check_on_all_processes(lambda: 3, everywhere=True) == 3
    with pytest.raises(UserError, match="^own.json is not there$"):
        check_on_all_processes(check, everywhere=True)
    assert second_of_two == [None, "own.json is not there"]


def test_the_first_process_decides_for_all(monkeypatch):
    assert on_main_process(lambda: 3) == 3
    with pytest.raises(UserError, match="^locked$"):
        on_main_process(lambda: (_ for _ in ()).throw(UserError("locked")))
    # This process is the second one.
    monkeypatch.setattr(comm, "is_main_process", lambda: False)
    monkeypatch.setattr(comm, "all_gather", lambda own: [("model.pth", None), own])
    assert on_main_process(lambda: pytest.fail("called")) == "model.pth"
    monkeypatch.setattr(comm, "all_gather", lambda own: [(None, "none is whole"), own])
    with pytest.raises(UserError, match="^none is whole$"):
        on_main_process(lambda: pytest.fail("called"))
