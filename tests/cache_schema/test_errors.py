"""The error tree: exit codes, messages, and the way across process borders."""

import pickle
from pathlib import Path

import pytest

import cache_schema
from cache_schema import (
    CorruptStore,
    InputError,
    NonFiniteFeatures,
    SchemaError,
    StoreDenied,
    StoreError,
    VideoDistillError,
)


def test_public_names_are_sorted_flat_and_there() -> None:
    names = cache_schema.__all__
    assert names == sorted(names, key=lambda name: (not name.isupper(), name[0].islower(), name))
    assert all(hasattr(cache_schema, name) for name in names)


def test_every_error_is_in_the_tree_and_ends_the_program() -> None:
    errors = [
        value
        for name in cache_schema.__all__
        if isinstance(value := getattr(cache_schema, name), type) and issubclass(value, Exception)
    ]
    assert len(errors) == 15
    assert all(issubclass(error, VideoDistillError) for error in errors)
    assert {error.exit_code for error in errors} == {1, 2}
    assert InputError.exit_code == 2


@pytest.mark.parametrize(
    "error",
    [
        InputError("no clips"),
        StoreError("no"),
        StoreDenied("commits/a: 403"),
        SchemaError("table", [("row 1.answer", "is empty"), ("row 2", "is missing")]),
        CorruptStore("bad", clip_id="c1", file=Path("a/b")),
        NonFiniteFeatures("bad", clip_ids=["c1", "c2"]),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_survive_pickling(error: VideoDistillError) -> None:
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)


def test_schema_error_names_every_problem_up_to_a_limit() -> None:
    one = SchemaError("identity", [("preprocess.std", "is 0")])
    assert str(one) == "identity is not valid: preprocess.std: is 0"
    many = SchemaError("table", [(f"row {row}", "is bad") for row in range(30)])
    assert len(many.problems) == 30
    assert "30 problems" in str(many)
    assert "row 19: is bad" in str(many)
    assert "and 10 more" in str(many)
