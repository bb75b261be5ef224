"""The identity: strict parsing, a digest that never changes, and readable differences."""

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache_schema import FeatureIdentity, InputError, Preprocess, SchemaError

finite = st.floats(allow_nan=False, allow_infinity=False)
positive = st.floats(min_value=1e-6, max_value=1e6)
preprocesses = st.builds(
    Preprocess,
    image_size=st.integers(1, 1024),
    resize_mode=st.sampled_from(["shortest", "squash", "longest"]),
    interpolation=st.sampled_from(["bicubic", "bilinear"]),
    mean=st.tuples(finite, finite, finite),
    std=st.tuples(positive, positive, positive),
)
identities = st.builds(
    FeatureIdentity,
    encoder=st.text(
        st.characters(codec="utf-8", categories=["L", "N", "P"]), min_size=1, max_size=40
    ),
    weights_sha256=st.text("0123456789abcdef", min_size=64, max_size=64),
    quick_gelu=st.booleans(),
    token_space=st.sampled_from(["joint", "trunk"]),
    dim=st.integers(1, 4096),
    patches=st.integers(1, 1024),
    preprocess=preprocesses,
    frames=st.integers(1, 1000),
    precision=st.sampled_from(["fp32", "bf16", "fp16"]),
)


@given(identities)
def test_json_round_trip_keeps_identity_and_digest(identity: FeatureIdentity) -> None:
    copy = FeatureIdentity.from_json(json.loads(json.dumps(identity.to_json())))
    assert copy == identity
    assert copy.digest == identity.digest
    assert copy.differences(identity) == []


def test_digest_of_a_known_identity_never_changes(
    make_identity: Callable[..., FeatureIdentity],
) -> None:
    # Every store of this identity that was ever written bears this digest.
    assert (
        make_identity().digest == "902445ec5c309566adde4ac2c43fa907710d785bd2a4bdd1622126b07f18edde"
    )
    assert make_identity().name == "vit-b-32-902445ec5c30"


@pytest.mark.parametrize(
    ("encoder", "slug"),
    [
        ("hf-hub:org/Model.v2", "hf-hub-org-model-v2"),
        ("../../etc", "etc"),
        ("模型", "encoder"),
        ("x" * 200, "x" * 60),
    ],
    ids=["hub", "path", "no-ascii", "long"],
)
def test_name_is_a_harmless_folder_name(
    make_identity: Callable[..., FeatureIdentity], encoder: str, slug: str
) -> None:
    identity = make_identity(encoder=encoder)
    assert identity.name == f"{slug}-{identity.digest[:12]}"


def test_equal_numbers_have_one_digest(identity: FeatureIdentity) -> None:
    integers = replace(identity.preprocess, mean=(0, 0, 0), std=(1, 1, 1))
    floats = replace(identity.preprocess, mean=(0.0, -0.0, 0.0), std=(1.0, 1.0, 1.0))
    assert (
        replace(identity, preprocess=integers).digest == replace(identity, preprocess=floats).digest
    )


@pytest.mark.parametrize("field", ["encoder", "quick_gelu", "dim", "frames", "precision"])
def test_every_field_changes_the_digest(identity: FeatureIdentity, field: str) -> None:
    other = {"encoder": "RN50", "quick_gelu": False, "dim": 9, "frames": 6, "precision": "bf16"}
    changed = replace(identity, **{field: other[field]})
    assert changed.digest != identity.digest
    (difference,) = identity.differences(changed)
    assert difference.startswith(f"{field}: ")


def test_differences_name_nested_fields(identity: FeatureIdentity) -> None:
    changed = replace(identity, dim=9, preprocess=replace(identity.preprocess, image_size=336))
    assert identity.differences(changed) == [
        "dim: 8 here, 9 there",
        "preprocess.image_size: 224 here, 336 there",
    ]


def test_parsing_reports_every_problem_with_its_path(identity: FeatureIdentity) -> None:
    document = identity.to_json()
    del document["frames"]
    document |= {"dim": True, "weights_sha256": "AB", "colour": "blue"}
    document["preprocess"] = {
        "image_size": 0,
        "resize_mode": "crop",
        "interpolation": "bicubic",
        "mean": [0.5, 0.5],
        "std": [1.0, 0.0, float("nan")],
        "gamma": 2,
    }
    with pytest.raises(SchemaError) as caught:
        FeatureIdentity.from_json(document)
    assert sorted(path for path, _ in caught.value.problems) == [
        "colour",
        "dim",
        "frames",
        "preprocess.gamma",
        "preprocess.image_size",
        "preprocess.mean",
        "preprocess.resize_mode",
        "preprocess.std",
        "weights_sha256",
    ]


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"encoder": ""}, "encoder"),
        ({"encoder": "a\nb"}, "encoder"),
        ({"encoder": "a\u202eb"}, "encoder"),
        ({"weights_sha256": "0" * 63}, "weights_sha256"),
        ({"quick_gelu": 1}, "quick_gelu"),
        ({"token_space": "raw"}, "token_space"),
        ({"dim": 0}, "dim"),
        ({"dim": 8.0}, "dim"),
        ({"frames": -1}, "frames"),
        ({"dtype": "float32"}, "dtype"),
        ({"frame_policy": "Mid point"}, "frame_policy"),
        ({"preprocess": None}, "preprocess"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_broken_identities_are_refused(
    make_identity: Callable[..., FeatureIdentity], change: dict[str, object], path: str
) -> None:
    with pytest.raises(SchemaError) as caught:
        make_identity(**change)
    assert [found for found, _ in caught.value.problems] == [path]


@pytest.mark.parametrize("document", [None, [], "x", 3], ids=str)
def test_other_json_is_no_identity(document: object) -> None:
    with pytest.raises(SchemaError, match="not an object"):
        FeatureIdentity.from_json(document)


IMPORTED = {
    "source": "imported",
    "origin": "MIST, AGQA",
    "encoder": "unknown",
    "weights_sha256": "unknown",
    "quick_gelu": "unknown",
    "token_space": "unknown",
    "preprocess": "unknown",
    "precision": "unknown",
    "frame_policy": "unknown",
    "patches": 0,
}


def test_an_imported_identity_says_what_is_unknown(
    make_identity: Callable[..., FeatureIdentity],
) -> None:
    identity = make_identity(**IMPORTED)
    assert set(identity.unknown) == {name for name, value in IMPORTED.items() if value == "unknown"}
    assert FeatureIdentity.from_json(json.loads(json.dumps(identity.to_json()))) == identity
    assert identity.reader_features == ("imported",)
    other = replace(identity, origin="MIST, STAR")
    assert identity.digest != other.digest
    assert identity.differences(other) == ["origin: 'MIST, AGQA' here, 'MIST, STAR' there"]


def test_a_known_and_an_unknown_preprocessing_differ_field_by_field(
    make_identity: Callable[..., FeatureIdentity],
) -> None:
    here, there = make_identity(), make_identity(**IMPORTED)
    assert "preprocess: 'unknown' here, 'unknown' there" not in here.differences(there)
    assert "preprocess.image_size: 224 here, 'unknown' there" in here.differences(there)
    assert "source: 'extracted' here, 'imported' there" in here.differences(there)


def test_frames_chosen_from_unknown_ones_are_unknown(
    make_identity: Callable[..., FeatureIdentity],
) -> None:
    imported = {"source": "imported", "origin": "x", "frame_policy": "unknown-midpoint-1"}
    assert make_identity(**imported).unknown == ("frame_policy",)
    assert make_identity(**{**imported, "frame_policy": "midpoint-pts-1"}).unknown == ()


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"weights_sha256": "unknown"}, "weights_sha256"),
        ({"quick_gelu": "unknown"}, "quick_gelu"),
        ({"preprocess": "unknown"}, "preprocess"),
        ({"frame_policy": "unknown-midpoint-1"}, "frame_policy"),
        ({"patches": 0}, "patches"),
        ({"origin": "elsewhere"}, "origin"),
        ({"source": "imported"}, "origin"),
        ({"pool": "4x4"}, "pool"),
        ({"pool": "7x7-to-4x4"}, "pool"),
        ({"quantised": "int4"}, "quantised"),
        ({**IMPORTED, "quantised": "int8-token"}, "quantised"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_contradictions_are_refused(
    make_identity: Callable[..., FeatureIdentity], change: dict[str, object], path: str
) -> None:
    with pytest.raises(SchemaError) as caught:
        make_identity(**change)
    assert [found for found, _ in caught.value.problems] == [path]


def test_a_default_that_is_spelt_out_is_another_spelling(identity: FeatureIdentity) -> None:
    with pytest.raises(SchemaError, match="pool: is 'none', which is left out"):
        FeatureIdentity.from_json(identity.to_json() | {"pool": "none"})


def test_a_reduced_identity_is_its_own_and_knows_its_source(
    make_identity: Callable[..., FeatureIdentity],
) -> None:
    whole = make_identity(patches=49)
    pooled, int8 = whole.reduced(pool=(4, 4)), whole.reduced(int8=True)
    both = whole.reduced(pool=(4, 4), int8=True)
    assert len({whole.digest, pooled.digest, int8.digest, both.digest}) == 4
    assert (pooled.patches, int8.patches, both.patches) == (16, 49, 16)
    assert pooled.reduced(int8=True) == both
    assert pooled.unreduced() == int8.unreduced() == both.unreduced() == whole
    assert (whole.variant, both.variant) == ("", "pooled 7x7-to-4x4, int8")
    assert both.reader_features == ("int8-token", "pooled")
    assert whole.differences(both) == [
        "patches: 49 here, 16 there",
        "pool: 'none' here, '7x7-to-4x4' there",
        "quantised: 'none' here, 'int8-token' there",
    ]


def test_what_is_reduced_is_not_reduced_again(
    make_identity: Callable[..., FeatureIdentity],
) -> None:
    pooled = make_identity(patches=49).reduced(pool=(4, 4))
    with pytest.raises(InputError, match="reduced variant already"):
        pooled.reduced(pool=(2, 2))
    with pytest.raises(InputError, match="int8 already"):
        pooled.reduced(int8=True).reduced(int8=True)
    with pytest.raises(InputError, match="no patches"):
        make_identity(**IMPORTED).reduced(int8=True)
