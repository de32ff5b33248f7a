import torch
from detectron2.utils.events import EventStorage

from vfnet.utils.events import collected_scalars, put_scalars

SCALARS = {"a": torch.tensor(1.5), "b/c": torch.tensor(7)}


def written(storage):
    return {name: value for name, (value, _) in storage.latest().items()}


def test_scalars_are_written_to_the_storage():
    with EventStorage() as storage:
        put_scalars(SCALARS)
    assert written(storage) == {"a": 1.5, "b/c": 7.0}


def test_without_a_storage_nothing_happens():
    put_scalars(SCALARS)


def test_collected_scalars_are_not_written_until_the_collection_ends():
    with EventStorage() as storage:
        with collected_scalars() as outer:
            with collected_scalars() as inner:
                put_scalars({"a": torch.tensor(2.0)})
            put_scalars(SCALARS)
        assert written(storage) == {}
        put_scalars({"d": torch.tensor(3.0)})
    assert inner == {"a": torch.tensor(2.0)} and outer == SCALARS
    assert written(storage) == {"d": 3.0}


def test_a_failure_ends_the_collection():
    with EventStorage() as storage:
        try:
            with collected_scalars():
                raise RuntimeError
        except RuntimeError:
            put_scalars(SCALARS)
    assert written(storage) == {"a": 1.5, "b/c": 7.0}
