import json
import re

import pytest

from cache_schema import Clip, InputError
from extract.block_records import BlockReport, ClipDone
from extract.job import plan_extraction
from extract.running_counts import RunningCounts, duration
from extract.status_file import StatusFile
from extract.tally import Failure, Tally


@pytest.fixture
def plan(tiny_spec, tmp_path):
    clips = [Clip(clip_id=f"c{n}", path=tmp_path / f"c{n}.mp4") for n in range(5)]
    return plan_extraction(clips, tmp_path / "s", tiny_spec, frames=6)


def play(file, plan):
    file.start(plan)
    file.clip(ClipDone(clip_id="c0", ok=True, frames=6))
    file.clip(ClipDone(clip_id="c1", ok=False, frames=0))
    file.block(BlockReport(clip_ids=("c0", "c1"), frames=6, decode_wait=1.0, encode=2.0, write=1.0))
    file.note("something")


def wait_for(path, key, value):
    import time

    deadline = time.monotonic() + 10
    while (document := json.loads(path.read_text()))[key] != value:
        assert time.monotonic() < deadline, document
        time.sleep(0.01)
    return document


def test_a_status_file_tells_of_a_running_job_and_of_its_end(plan, tmp_path):
    path = tmp_path / "status.json"
    failure = Failure(clip_id="c1", reason="io", detail="", source_path="")
    with StatusFile(path, "store", every_s=0.01) as file:
        assert wait_for(path, "state", "starting")["clips"] is None
        play(file, plan)
        running = wait_for(path, "note", "something")
        assert (running["done"], running["failed"], running["left"]) == (1, 1, 3)
        assert (running["clips"], running["pending"], running["skipped"]) == (5, 5, 0)
        assert (running["decoder_share"], running["encoder_share"]) == (0.25, 0.5)
        assert running["eta_seconds"] is not None
        assert running["exit_code"] is None
        assert running["bytes_needed"] == plan.bytes_needed
        file.end(Tally(ok=4, failed=1, skipped=0, frames=24, failures=(failure,)))
    ended = json.loads(path.read_text())
    assert (ended["state"], ended["done"], ended["exit_code"]) == ("ended", 4, 1)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["status.json"]


def test_a_job_that_breaks_says_so(plan, tmp_path):
    path = tmp_path / "status.json"

    def broken():
        with StatusFile(path, "store") as file:
            play(file, plan)
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        broken()
    document = json.loads(path.read_text())
    assert document["state"] == "broken"
    assert "No space left" in document["note"]


def test_prometheus_reads_it(plan, tmp_path):
    """Every line is a comment or a sample of the text format; names and labels as it allows."""
    path = tmp_path / "job.prom"
    with StatusFile(path, 'a"b\\c\nd') as file:
        play(file, plan)
        file.end(Tally(ok=1, failed=1, skipped=0, left=3))
    text = path.read_text()
    assert text.endswith("\n")
    label = r'store="a\\"b\\\\c\\nd"'
    sample = re.compile(
        rf'videodistill_extract_([a-z_]+)\{{{label}(,state="[a-z]+")?\}} (-?[0-9.e+-]+)'
    )
    values = {}
    for line in text.splitlines():
        if not line.startswith(("# HELP ", "# TYPE ")):
            found = sample.fullmatch(line)
            assert found, line
            values[found[1] + (found[2] or "")] = float(found[3])
    assert values["failed"] == 1
    assert values["exit_code"] == 1
    assert values['state,state="ended"'] == 1
    assert values['state,state="running"'] == 0


def test_the_folder_must_be_there(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        StatusFile(tmp_path / "none" / "status.json", "store")


def test_a_disk_that_is_full_does_not_stop_the_job(plan, tmp_path, monkeypatch):
    def full(_path, _content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("extract.status_file.replace_file", full)
    with StatusFile(tmp_path / "status.json", "store") as file:
        play(file, plan)
        file.end(Tally(ok=5, failed=0, skipped=0))


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "00:00:00"), (59.6, "00:01:00"), (3661, "01:01:01"), (100_000, "1 d 03:46:40")],
)
def test_times_of_more_than_a_day_say_so(seconds, shown):
    assert duration(seconds) == shown


def test_nothing_is_known_of_the_time_left_before_the_first_clip(plan):
    counts = RunningCounts()
    counts.start(plan)
    assert counts.eta_s is None
    assert counts.remaining == "unknown"
