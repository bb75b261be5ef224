import json
import struct
from dataclasses import replace

import pytest
import torch

from cache_schema.errors import IdentityMismatch, InputError
from train.checkpoint import (
    Checkpoint,
    CorruptCheckpoint,
    Progress,
    load_optimizer,
    optimizer_tensors,
    peek_checkpoint,
    read_checkpoint,
    write_checkpoint,
)
from train.config import ModelConfig, TrainConfig
from train.epoch_order import Position
from train.vocabulary import Vocabulary


@pytest.fixture
def checkpoint(make_identity) -> Checkpoint:
    return Checkpoint(
        config=TrainConfig(model=ModelConfig(selected=3), lr=1e-3),
        vocabulary=Vocabulary(("yes", "nö")),
        identity=make_identity(),
        store_version=7,
        progress=Progress(step=5, position=Position(1, 2), best_accuracy=0.1, best_step=4),
        tensors={
            "model.a": torch.randn(2, 3),
            "model.scalar": torch.tensor(4.0),
        },
    )


def test_written_and_read_back(checkpoint, tmp_path):
    write_checkpoint(tmp_path / "c", checkpoint)
    found = read_checkpoint(tmp_path / "c")
    assert replace(found, tensors={}) == replace(checkpoint, tensors={})
    assert set(found.tensors) == set(checkpoint.tensors)
    assert all(torch.equal(found.tensors[name], checkpoint.tensors[name]) for name in found.tensors)
    assert set(found.part("model")) == {"a", "scalar"}
    assert peek_checkpoint(tmp_path / "c") == replace(checkpoint, tensors={})


def test_is_plain_safetensors_with_json_that_others_can_read(checkpoint, tmp_path):
    write_checkpoint(tmp_path / "c", checkpoint)
    content = (tmp_path / "c").read_bytes()
    (length,) = struct.unpack_from("<Q", content)
    header = json.loads(content[8 : 8 + length])
    document = json.loads(header["__metadata__"]["videodistill.checkpoint"])
    assert document["identity_digest"] == checkpoint.identity.digest
    assert document["config"]["lr"] == 1e-3


def test_a_failed_write_leaves_the_old_checkpoint(checkpoint, tmp_path, monkeypatch):
    write_checkpoint(tmp_path / "c", checkpoint)
    before = (tmp_path / "c").read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_checkpoint(tmp_path / "c", replace(checkpoint, store_version=8))
    assert (tmp_path / "c").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


@pytest.mark.parametrize("read", [read_checkpoint, peek_checkpoint])
def test_absent(tmp_path, read):
    with pytest.raises(InputError, match="There is no checkpoint at"):
        read(tmp_path / "none")


def damaged(content: bytes) -> dict[str, bytes]:
    return {
        "flipped bit in a tensor": content[:-1] + bytes([content[-1] ^ 1]),
        "cut short": content[: len(content) // 2],
        "cut inside the length": content[:4],
        "empty": b"",
        "something else": b"not a checkpoint at all" * 10,
    }


@pytest.mark.parametrize("damage", list(damaged(b"12345678")))
def test_damage_is_found(checkpoint, tmp_path, damage):
    path = tmp_path / "c"
    write_checkpoint(path, checkpoint)
    path.write_bytes(damaged(path.read_bytes())[damage])
    with pytest.raises(CorruptCheckpoint, match=str(path)):
        read_checkpoint(path)
    if damage != "flipped bit in a tensor":
        with pytest.raises(CorruptCheckpoint, match=str(path)):
            peek_checkpoint(path)


def test_a_later_format_is_refused_by_name(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr("train.checkpoint.FORMAT", 2)
    write_checkpoint(tmp_path / "c", checkpoint)
    monkeypatch.undo()
    with pytest.raises(InputError, match="has format 2, this version reads 1"):
        read_checkpoint(tmp_path / "c")


def test_other_features_are_refused_with_both_shown(checkpoint, tmp_path, make_identity):
    other = make_identity("other weights", frames=50)
    with pytest.raises(IdentityMismatch) as caught:
        checkpoint.require_identity(other, tmp_path / "c")
    message = str(caught.value)
    assert checkpoint.identity.digest[:12] in message
    assert other.digest[:12] in message
    assert "frames: 24 here, 50 there" in message
    checkpoint.require_identity(make_identity(), tmp_path / "c")


def test_optimizer_state_goes_through_tensors():
    def built():
        torch.manual_seed(0)
        layer = torch.nn.Linear(3, 2)
        return layer, torch.optim.AdamW(layer.parameters(), lr=0.1, fused=True)

    def step(layer, optimizer):
        optimizer.zero_grad()
        layer(torch.ones(1, 3)).square().sum().backward()
        optimizer.step()

    layer, optimizer = built()
    step(layer, optimizer)
    copy, copied = built()
    copy.load_state_dict(layer.state_dict())
    load_optimizer(copied, {name: t.clone() for name, t in optimizer_tensors(optimizer).items()})
    for pair in ((layer, optimizer), (copy, copied)):
        step(*pair)
    assert torch.equal(layer.weight, copy.weight)
