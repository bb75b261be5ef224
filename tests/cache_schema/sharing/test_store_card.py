"""Cards: valid for Croissant's own checker, true to the manifest, and no value breaks out of its place."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from markdown_it import MarkdownIt

from cache_schema import InputError, StoreWriter, create_store, open_store
from cache_schema.exchange.store_convert import convert_store
from cache_schema.sharing.store_card import card_of, write_card

Write = Callable[..., None]


def _front_matter(readme: bytes) -> dict:
    _, front, _ = readme.decode().split("---\n", 2)
    return yaml.safe_load(front)


def test_the_readme_states_counts_and_licence(filled):
    card = card_of(filled.path, licence="CC-BY-4.0")
    readme = card["README.md"].decode()
    assert _front_matter(card["README.md"])["license"] == "CC-BY-4.0"
    assert _front_matter(card["README.md"])["size_categories"] == ["n<1K"]
    assert "- Clips with features: 9;" in readme
    assert "| truncated | 1 |" in readme
    assert "| pyav 18.1.0 | 9 |" in readme
    assert filled.identity.digest in readme
    assert "| preprocess.image\\_size | 224 |" in readme
    assert str(filled.path.parent) not in readme

    unstated = card_of(filled.path)
    assert _front_matter(unstated["README.md"])["license"] == "unknown"
    assert "Licence: not stated" in unstated["README.md"].decode()
    assert json.loads(unstated["croissant.json"])["license"] == "not stated"


def test_croissant_names_the_files_with_their_sha256(filled):
    document = json.loads(card_of(filled.path)["croissant.json"])
    assert document["conformsTo"] == "http://mlcommons.org/croissant/1.1"
    files = [part for part in document["distribution"] if part["@type"] == "cr:FileObject"]
    assert files[0]["contentUrl"] == "zarr.json"
    assert sum(file["contentUrl"].endswith(".parquet") for file in files) == 1
    for file in files:
        content = (filled.path / file["contentUrl"]).read_bytes()
        assert file["sha256"] == hashlib.sha256(content).hexdigest()
        assert file["contentSize"] == f"{len(content)} B"
    for part in document["distribution"]:
        if part["@type"] == "cr:FileSet":
            found = list(filled.path.glob(part["includes"]))
            assert len(found) == {"cls-shards": 3, "patch-shards": 9}[part["@id"]]
    elsewhere = json.loads(
        card_of(filled.path, url="https://example.org/stores/x/")["croissant.json"]
    )
    assert elsewhere["url"] == "https://example.org/stores/x/"
    assert elsewhere["distribution"][0]["contentUrl"] == "https://example.org/stores/x/zarr.json"


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_croissants_own_checker_accepts_it_and_reads_the_manifest(
    filled, identity, write_clips_of: Write
):
    mlcroissant = pytest.importorskip("mlcroissant", reason="the checker is not installed")
    with StoreWriter(filled.path, identity) as writer:
        write_clips_of(writer, ["d1", "d2"])
        writer.compact()
    write_card(filled.path, card_of(filled.path, licence="cc-by-4.0"))
    data = mlcroissant.Dataset(str(filled.path / "croissant.json"))
    assert not data.metadata.issues.errors
    assert not data.metadata.issues.warnings
    names = [record_set.uuid for record_set in data.metadata.record_sets]
    rows = [
        {key.split("/")[1]: value for key, value in row.items()}
        for name in names
        for row in data.records(name)
    ]
    found = {row["clip_id"].decode(): row for row in rows}
    manifest = {row["clip_id"]: row for row in open_store(filled.path).manifest().to_pylist()}
    assert found.keys() == manifest.keys()
    for clip_id, row in found.items():
        assert row["patch_digest"].decode() == manifest[clip_id]["patch_digest"]
        assert row["slot"] == manifest[clip_id]["slot"]
        if manifest[clip_id]["frame_time"]:
            assert list(row["frame_time"]) == manifest[clip_id]["frame_time"]


def test_no_value_breaks_out_of_its_place(tmp_path: Path, make_identity, ok_outcome, features):
    evil = "|x|<script>alert(x)</script>[a](javascript:x) **b** `c` --- https://evil.example"
    identity = make_identity(encoder=evil)
    create_store(tmp_path / "s", identity)
    with StoreWriter(tmp_path / "s", identity) as writer:
        claim = writer.claim(["a"])
        cls, patch = features("a", identity)
        outcome = ok_outcome("a", backend=evil, flags=(evil, "--- # ![i](u)"))
        writer.write_block(claim, [outcome], cls[None], patch[None])
        writer.compact()
    card = card_of(tmp_path / "s", licence='x", other: "y')
    front = _front_matter(card["README.md"])
    assert front["license"] == 'x", other: "y'
    assert front["tags"][-1] == evil
    body = card["README.md"].decode().split("---\n", 2)[2]
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(body)
    kinds = {inner.type for token in tokens for inner in (token, *(token.children or ()))}
    assert not {"html_block", "html_inline", "link_open", "image", "strong_open"} & kinds
    shown = [inner.content for token in tokens for inner in (token.children or ())]
    cells = "".join(shown)
    assert cells.count(evil) >= 4, "name, encoder, decoder and remark are shown as they are"
    assert cells.count("--- # ![i](u)") == 1
    rows = [token for token in tokens if token.type == "tr_open"]
    data = [token for token in tokens if token.type in {"td_open", "th_open"}]
    assert len(data) == 2 * len(rows)
    assert evil in json.loads(card["croissant.json"])["description"]


@pytest.mark.parametrize(
    "options",
    [{"licence": "a\nb"}, {"licence": ""}, {"url": "javascript:alert(1)"}, {"url": "/local/path"}],
    ids=["two lines", "empty", "script", "path"],
)
def test_strange_licences_and_urls_are_refused(filled, options):
    with pytest.raises(InputError):
        card_of(filled.path, **options)


def test_a_lossy_variant_says_so_and_lists_its_scales(filled, tmp_path: Path):
    convert_store(open_store(filled.path), tmp_path / "small", int8=True)
    card = card_of(tmp_path / "small")
    document = json.loads(card["croissant.json"])
    assert "float16 (int8)" in document["description"]
    sets = [part for part in document["distribution"] if part["@type"] == "cr:FileSet"]
    assert {part["@id"] for part in sets} == {"cls-shards", "patch-shards", "patch_scale-shards"}
    assert all(list((tmp_path / "small").glob(part["includes"])) for part in sets)


def test_an_empty_store_has_a_card(empty_store: Path, tmp_path: Path):
    card = card_of(empty_store)
    assert json.loads(card["croissant.json"])["recordSet"] == []
    write_card(tmp_path / "new" / "folder", card)
    assert (tmp_path / "new" / "folder" / "README.md").read_bytes() == card["README.md"]
