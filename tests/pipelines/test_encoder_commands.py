import json

import pytest
from typer.testing import CliRunner

from cache_schema import InputError
from extract.encoder_spec import EncoderSpec, identity_of
from extract.plan import bytes_per_clip
from pipelines import encoder_catalogue
from pipelines.cli import app
from pipelines.datasets.registry import find
from pipelines.encoders import encoder_spec


def run(*words, code=0):
    done = CliRunner().invoke(app, ["encoders", *words])
    assert done.exit_code == code, done.output
    return done.output


@pytest.fixture
def few(monkeypatch):
    names = ["RN50", "ViT-B-32", "ViT-L-14-CLIPA", "coca_ViT-B-32", "roberta-ViT-B-32"]
    monkeypatch.setattr(encoder_catalogue, "built_in_models", lambda: names)


def test_ls_is_a_line_a_model_and_does_not_shrink(few):
    header, *lines = run("ls").splitlines()
    assert header.split() == ["model", "px", "patches", "joint", "D", "GB", "trunk", "D", "GB", "CLS", "place"]  # fmt: skip
    assert lines[0].split() == ["ViT-B-32", "224", "49", "512", "5.1", "768", "7.7", "class", "token"]  # fmt: skip
    assert lines[1].split()[0] == "ViT-L-14-CLIPA"
    assert lines[1].endswith("patch mean")
    assert lines[2].startswith("2 models, 3 refused")


def test_ls_says_why_models_are_refused(few):
    lines = run("ls", "--unsupported").splitlines()
    assert lines[0] == "RN50 describes a convolutional tower (ModifiedResNet)"
    assert lines[1] == (
        "coca_ViT-B-32 describes a CoCa model, whose image feature comes from attentional pooling"
    )
    assert "text tower of the Hugging Face hub" in lines[2]


def test_ls_for_programs(few):
    facts = json.loads(run("ls", "--json", "--frames", "16"))
    assert [(f["model"], f["patches"], f["frames"]) for f in facts] == [
        ("ViT-B-32", 49, 16), ("ViT-L-14-CLIPA", 256, 16)
    ]  # fmt: skip
    refused = json.loads(run("ls", "--json", "--unsupported"))
    assert [entry["model"] for entry in refused] == ["RN50", "coca_ViT-B-32", "roberta-ViT-B-32"]


@pytest.mark.parametrize("space", ["joint", "trunk"])
def test_sizes_are_those_of_stores(space):
    spec = EncoderSpec(model="ViT-B-16", random_init_seed=0, token_space=space)
    identity = identity_of(spec, 100, weights_sha256="0" * 64)
    facts = encoder_catalogue.facts_of("ViT-B-16", 100).to_json()
    assert facts[f"{space}_bytes"] == 1000 * bytes_per_clip(identity)
    assert facts[f"{space}_bytes"] >= 1000 * 100 * 197 * identity.dim * 2


def test_info_names_what_a_file_may_hold():
    printed = run("info", "ViT-L-14-336-quickgelu")
    assert "768 numbers a token, 88.6" in printed
    assert "24x24 patches" in printed
    assert "QuickGELU" in printed
    assert "openai" in printed
    assert "not of this model, trained with QuickGELU: openai" in run("info", "ViT-L-14-336")
    assert "timm/ViT-B-16-SigLIP" in run("info", "ViT-B-16-SigLIP")
    assert "use --token-space trunk" in run("info", "PE-Core-T-16-384")
    assert "open_clip knows none" in run("info", "ViT-S-32")


def test_info_for_programs():
    document = json.loads(run("info", "ViT-L-14", "--json"))
    weights = {entry["tag"]: entry for entry in document["weights"]}
    assert "0.5/0.5/0.5" in weights["laion2b_s32b_b82k"]["preprocess"]
    assert not weights["openai"]["fits"]


@pytest.mark.parametrize(
    ("name", "message"),
    [("RN50", "convolutional.*Supported are"), ("ViT-B32", "did you mean ViT-B-32")],
)
def test_info_refuses_with_a_way_on(name, message):
    with pytest.raises(InputError, match=message):
        CliRunner().invoke(app, ["encoders", "info", name], catch_exceptions=False)


def test_the_demos_encoder_takes_a_token_space():
    spec = encoder_spec(find("demo"), token_space="trunk")  # noqa: S106 -- no password
    assert identity_of(spec, 4).dim == spec.architecture.width


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "fp8"}, "fp32, bf16 or fp16"),
        ({"token_space": "raw"}, "joint or trunk"),
    ],
)
def test_an_encoder_is_refused_by_the_name_of_the_option(options, message):
    with pytest.raises(InputError, match=message):
        encoder_spec(find("demo"), **options)
