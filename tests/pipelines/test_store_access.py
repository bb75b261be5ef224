"""A machine's environment says how stores are read: with copies of remote ones, or directly."""

import pytest

from cache_schema import InputError
from pipelines import store_access
from pipelines.store_access import DIRECT, FOLDER, LIMIT_GIB, open_for_training

URL, LOCAL = "s3://bucket/store", "stores/demo"


@pytest.fixture
def opened(monkeypatch):
    """What `open_store` is asked for."""
    asked = []
    monkeypatch.setattr(
        store_access, "open_store", lambda *args, **named: asked.append((args, named))
    )
    for name in (DIRECT, FOLDER, LIMIT_GIB):
        monkeypatch.delenv(name, raising=False)
    return asked


@pytest.mark.parametrize(
    ("location", "environment", "expected"),
    [
        (URL, {}, {}),
        (URL, {FOLDER: "", LIMIT_GIB: "3"}, {}),
        (URL, {FOLDER: "/nvme"}, {"cache": "/nvme", "cache_bytes": None}),
        (URL, {FOLDER: "/nvme", LIMIT_GIB: "1.5"}, {"cache": "/nvme", "cache_bytes": 3 * 2**29}),
        (URL, {DIRECT: "1"}, {}),
        (LOCAL, {FOLDER: "/nvme"}, {"direct": False}),
        (LOCAL, {DIRECT: "1"}, {"direct": True}),
    ],
    ids=str,
)
def test_how_a_store_is_opened(opened, monkeypatch, location, environment, expected):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    open_for_training(location)
    assert opened == [((location,), expected)]


@pytest.mark.parametrize(
    ("name", "value"),
    [(LIMIT_GIB, "much"), (LIMIT_GIB, "1e400"), (LIMIT_GIB, "nan"), (DIRECT, "yes")],
)
def test_what_cannot_be_is_refused(opened, monkeypatch, name, value):
    monkeypatch.setenv(FOLDER, "/nvme")
    monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=f"{name} is '{value}'"):
        open_for_training(URL)
    assert opened == []
