"""Recipes: strict to read, and telling apart why a store extracted again is not the same."""

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cache_schema import InputError, SchemaError, StoreWriter, create_store, open_store
from cache_schema.sealed_json import seal
from cache_schema.sharing.recipe import read_recipe, recipe_of, write_recipe
from cache_schema.sharing.recipe_check import OtherBytes, check_recipe

Write = Callable[..., None]


@pytest.fixture
def recipe_file(filled, tmp_path: Path) -> Path:
    write_recipe(tmp_path / "recipe.json", recipe_of(open_store(filled.path)))
    return tmp_path / "recipe.json"


def test_a_recipe_tells_what_is_needed_and_survives_its_file(filled, recipe_file: Path):
    told = []
    recipe = recipe_of(open_store(filled.path), on_clip=lambda *done: told.append(done))
    assert told[-1] == (10, 10)
    read = read_recipe(recipe_file)
    assert read == dataclasses.replace(recipe, created=read.created)
    clips = {clip.clip_id: clip for clip in read.clips}
    assert list(clips) == [f"c{number}" for number in range(10)]
    expected = hashlib.blake2b(filled.cls(["c4"])[0].tobytes(), digest_size=16).hexdigest()
    assert clips["c4"].cls_digest == expected
    assert clips["c4"].source_path == "videos/c4.mp4"
    shard = filled.path / "seg-000000" / "patch" / "c.4.0.0.0"
    on_disk = hashlib.blake2b(shard.read_bytes(), digest_size=16).hexdigest()
    assert clips["c4"].patch_digest == on_disk
    assert (clips["c2"].reason, clips["c2"].cls_digest) == ("truncated", "")
    assert recipe_file.stat().st_size < 400 * len(clips) + 2000
    assert str(filled.path.parent) not in recipe_file.read_text()


def _edited(recipe_file: Path, edit: Callable[[dict], None]) -> Path:
    document = json.loads(recipe_file.read_text())
    del document["checksum"]
    edit(document)
    recipe_file.write_bytes(seal(document))
    return recipe_file


def _set(clip: int, **changes: object) -> Callable[[dict], None]:
    return lambda document: document["clips"][clip].update(changes)


_BROKEN = {
    "path that leaves": (_set(0, source_path="../../etc/passwd"), "clips.0.source_path"),
    "absolute path": (_set(0, source_path="/etc/passwd"), "clips.0.source_path"),
    "unknown field": (_set(1, colour="red"), "clips.1.colour"),
    "text for a number": (_set(1, source_bytes="9"), "clips.1.source_bytes"),
    "clip twice": (_set(3, clip_id="c0"), "clips.3.clip_id"),
    "failed with features": (_set(3, reason="io"), "clips.3.cls_digest"),
    "ok without features": (_set(2, reason=""), "clips.2.cls_digest"),
    "patches alone": (_set(2, patch_digest="ab" * 16), "clips.2.patch_digest"),
    "ends before it starts": (_set(4, start_s=3.0, end_s=2.0), "clips.4.end_s"),
    "no digest": (_set(4, cls_digest="xyz"), "clips.4.cls_digest"),
    "no clip": (lambda d: d["clips"].append(7), "clips.10."),
    "field missing": (lambda d: d["clips"][0].pop("backend"), "clips.0.backend"),
    "identity out of range": (lambda d: d["identity"].update(dim=0), "identity.dim"),
    "identity changed": (lambda d: d["identity"].update(frames=6), "digest"),
    "digest changed": (lambda d: d.update(digest="0" * 64), "digest"),
    "later kind": (lambda d: d.update(kind="videodistill recipe 2"), "kind"),
    "more at the top": (lambda d: d.update(more=1), "more"),
    "less at the top": (lambda d: d.pop("software"), "software"),
}


@pytest.mark.parametrize(("edit", "place"), _BROKEN.values(), ids=_BROKEN.keys())
def test_a_broken_recipe_is_refused_with_its_place(recipe_file: Path, edit, place: str):
    with pytest.raises(SchemaError) as caught:
        read_recipe(_edited(recipe_file, edit))
    assert place in {found for found, _ in caught.value.problems}


def test_all_problems_are_told_at_once(recipe_file: Path):
    def edit(document: dict) -> None:
        for clip in document["clips"][:3]:
            clip["source_bytes"] = -1
        document["identity"]["dim"] = 0

    with pytest.raises(SchemaError) as caught:
        read_recipe(_edited(recipe_file, edit))
    assert len(caught.value.problems) == 4


def test_a_changed_cut_or_absent_recipe_is_refused(recipe_file: Path, tmp_path: Path):
    content = recipe_file.read_bytes()
    for spoiled in (content[:-40], content.replace(b'"c1"', b'"cx"'), b"", b"[]", b"\xff\x00"):
        recipe_file.write_bytes(spoiled)
        with pytest.raises(InputError, match="no recipe, or was changed"):
            read_recipe(recipe_file)
    with pytest.raises(InputError, match="cannot be read"):
        read_recipe(tmp_path / "absent.json")


def test_a_store_is_what_its_recipe_says(filled, recipe_file: Path):
    told = []
    found = check_recipe(
        read_recipe(recipe_file), open_store(filled.path), on_clip=lambda *d: told.append(d)
    )
    assert found.same
    assert (found.equal, found.extra) == (10, 0)
    assert told[-1] == (10, 10)


def test_every_way_to_differ_has_its_own_name(
    filled, recipe_file: Path, tmp_path: Path, ok_outcome, failed_outcome, features
):
    """Of ten clips: another video, another cut, CLS, patches, one failed, two absent, one too good."""
    path = tmp_path / "again"
    create_store(path, filled.identity, block_slots=4, segment_slots=8)
    nudge = np.zeros((filled.identity.frames, filled.identity.dim), np.float16)
    nudge[3, 2] = 0.01
    changes = {
        "c0": ({"source_digest": "cd" * 16}, 1, 1),
        "c1": ({"start_s": 1.0, "end_s": 2.0}, 0, 0),
        "c3": ({"backend": "decord 3.0.0"}, 1, 0),
        "c4": ({}, 0, 1),
        "c2": ({}, 0, 0),
        "c6": ({}, 0, 0),
        "new": ({}, 0, 0),
    }
    with StoreWriter(path, filled.identity) as writer:
        for clip_id, (change, on_cls, on_patch) in changes.items():
            claim = writer.claim([clip_id])
            cls, patch = features(clip_id, filled.identity)
            cls, patch = cls + on_cls * nudge, patch + on_patch * nudge[:, None]
            writer.write_block(claim, [ok_outcome(clip_id, **change)], cls[None], patch[None])
        claim = writer.claim(["c5"])
        writer.write_block(claim, [failed_outcome("c5")], cls[None], patch[None])
        writer.compact()
    found = check_recipe(read_recipe(recipe_file), open_store(path))
    assert not found.same
    assert found.other_videos == ("c0",)
    assert found.other_bounds == ("c1",)
    assert found.unexpected == ("c2",)
    assert found.missing == ("c5", "c7", "c8", "c9")
    pyav = "pyav 18.1.0"
    assert found.other_bytes == (
        OtherBytes(clip_id="c3", arrays=("cls",), backends=(pyav, "decord 3.0.0")),
        OtherBytes(clip_id="c4", arrays=("patch",), backends=(pyav, pyav)),
    )
    assert (found.equal, found.extra) == (1, 1)
    assert json.loads(json.dumps(found.to_json()))["same"] is False


def test_another_identity_is_named(recipe_file: Path, tmp_path: Path, make_identity):
    create_store(tmp_path / "other", make_identity(precision="bf16"))
    found = check_recipe(read_recipe(recipe_file), open_store(tmp_path / "other"))
    assert found.identity == ("precision: 'fp32' here, 'bf16' there",)
    assert not found.same
