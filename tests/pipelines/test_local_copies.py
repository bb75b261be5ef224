"""Copies of remote stores are kept where the machine has a folder for them, and of no others."""

import pytest

from cache_schema import InputError
from pipelines import local_copies
from pipelines.local_copies import FOLDER, LIMIT_GIB, open_nearby

URL = "s3://bucket/store"


@pytest.fixture
def opened(monkeypatch):
    """What `open_store` is asked for."""
    asked = []
    monkeypatch.setattr(
        local_copies, "open_store", lambda *args, **named: asked.append((args, named))
    )
    monkeypatch.delenv(FOLDER, raising=False)
    monkeypatch.delenv(LIMIT_GIB, raising=False)
    return asked


@pytest.mark.parametrize(
    ("location", "folder", "limit", "expected"),
    [
        (URL, None, None, {}),
        (URL, "", "3", {}),
        (URL, "/nvme", None, {"cache": "/nvme", "cache_bytes": None}),
        (URL, "/nvme", "1.5", {"cache": "/nvme", "cache_bytes": 3 * 2**29}),
        ("stores/demo", "/nvme", "3", {}),
    ],
    ids=["no folder", "an empty one", "no limit", "a limit", "a local store"],
)
def test_where_copies_are_kept(opened, monkeypatch, location, folder, limit, expected):
    for name, value in ((FOLDER, folder), (LIMIT_GIB, limit)):
        if value is not None:
            monkeypatch.setenv(name, value)
    open_nearby(location)
    assert opened == [((location,), expected)]


@pytest.mark.parametrize("limit", ["much", "1e400", "nan"])
def test_a_limit_is_a_number(opened, monkeypatch, limit):
    monkeypatch.setenv(FOLDER, "/nvme")
    monkeypatch.setenv(LIMIT_GIB, limit)
    with pytest.raises(InputError, match=f"{LIMIT_GIB} is '{limit}'"):
        open_nearby(URL)
    assert opened == []
