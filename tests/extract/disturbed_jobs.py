"""Small clips to extract while something dies, and what the store must look like afterwards."""

import time

import numpy as np

from cache_schema import Clip, open_store, verify_store

FRAMES = 6


def cut_clips(folder, count, encode_video):
    """Clips of nine tenths of a second, out of four short videos; also listed in clips.csv."""
    lines = ["clip_id,path,start_s,end_s"]
    clips = []
    for number in range(count):
        path = folder / f"v{number % 4}.mp4"
        if number < 4:
            encode_video(path, 30 + 11 * number)
        start = number / 24
        lines.append(f"clip{number},{path.name},{start},{start + 0.9}")
        clips.append(Clip(clip_id=f"clip{number}", path=path, start_s=start, end_s=start + 0.9))
    (folder / "clips.csv").write_text("\n".join(lines) + "\n")
    return clips


def assert_same_features(store, calm, clips):
    """The store is sound and holds, bit for bit, what the undisturbed one does."""
    assert damage(store) == []
    disturbed = open_store(store)
    ids = [clip.clip_id for clip in clips]
    assert np.array_equal(disturbed.read_cls(ids), calm.read_cls(ids))
    assert np.array_equal(disturbed.read_patches(ids), calm.read_patches(ids))
    for clip_id in ids:
        assert disturbed.outcome(clip_id) == calm.outcome(clip_id)


def damage(store):
    """Findings beyond the traces that abandoned blocks are allowed to leave."""
    return [finding for finding in verify_store(store) if finding.severity != "notice"]


def commits(store):
    return len(list((store / "commits").glob("*.json")))


def wait_for_commits(store, count, seconds=90.0):
    deadline = time.monotonic() + seconds
    while commits(store) < count:
        assert time.monotonic() < deadline, "the job does not come to its first commits"
        time.sleep(0.002)
