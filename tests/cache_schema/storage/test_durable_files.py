"""Files appear whole, once, and leave nothing behind when writing fails."""

import os
from pathlib import Path

import pytest

from cache_schema import StoreError
from cache_schema.storage.durable_files import (
    create_file,
    file_system_now,
    replace_file,
)


def _names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def test_the_first_to_create_wins(tmp_path: Path) -> None:
    assert create_file(tmp_path / "a", b"first")
    assert not create_file(tmp_path / "a", b"second")
    assert (tmp_path / "a").read_bytes() == b"first"
    assert _names(tmp_path) == ["a"]


def test_replacing_leaves_one_file(tmp_path: Path) -> None:
    for content in (b"one", b"two"):
        replace_file(tmp_path / "a", content)
        assert (tmp_path / "a").read_bytes() == content
    assert _names(tmp_path) == ["a"]


@pytest.mark.parametrize("call", [create_file, replace_file], ids=["create", "replace"])
def test_a_full_disk_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: object
) -> None:
    def no_space(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OSError, match="No space"):
        call(tmp_path / "a", b"content")
    assert _names(tmp_path) == []


def test_a_file_system_without_hard_links_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(_source: Path, _target: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    with pytest.raises(StoreError, match="has no hard links"):
        create_file(tmp_path / "a", b"content")
    assert _names(tmp_path) == []


def test_content_and_name_are_forced_to_disk_in_that_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = []

    def record(descriptor: int) -> None:
        synced.append(
            (Path(f"/proc/self/fd/{descriptor}").readlink().name, (tmp_path / "a").exists())
        )

    monkeypatch.setattr(os, "fsync", record)
    create_file(tmp_path / "a", b"content")
    (content, before), (folder, after) = synced
    assert content.startswith(".tmp-a")
    assert (before, folder, after) == (False, tmp_path.name, True)


def test_the_file_systems_clock_is_that_of_its_files(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    age = file_system_now(tmp_path) - (tmp_path / "a").stat().st_mtime
    assert 0 <= age < 5
    assert _names(tmp_path) == ["a"]
