import csv

from extract.tally import Failure, Tally, write_failures


def test_counts_decide_the_exit_code():
    failure = Failure(clip_id="a", reason="timeout", detail="", source_path="a.mp4")
    assert Tally(ok=3, failed=0, skipped=2).exit_code == 0
    assert Tally(ok=3, failed=1, skipped=0, failures=(failure,)).exit_code == 1
    assert Tally(ok=0, failed=0, skipped=1, failed_before=1, failures=(failure,)).exit_code == 1
    assert Tally(ok=3, failed=0, skipped=0, left=4).exit_code == 1


def test_says_how_to_go_on():
    text = str(Tally(ok=3, failed=1, skipped=2, left=4, failed_before=1, frames=50, seconds=2.0))
    assert text.startswith(
        "3 extracted, 1 failed, 2 skipped (1 failed earlier), 4 left; run the same"
    )
    assert text.endswith("25 frames/s")


def test_the_list_of_failures_is_no_spreadsheet_program(tmp_path):
    path = tmp_path / "failures.csv"
    rows = [
        Failure(clip_id="=cmd()", reason="io", detail='a "quoted", text', source_path="-rf.mp4"),
        Failure(clip_id="b", reason="timeout", detail="@x", source_path="b.mp4"),
    ]
    write_failures(path, rows)
    with path.open(newline="") as file:
        read = list(csv.reader(file))
    assert read == [
        ["clip_id", "reason", "detail", "source_path"],
        ["'=cmd()", "io", 'a "quoted", text', "'-rf.mp4"],
        ["b", "timeout", "'@x", "b.mp4"],
    ]
    write_failures(path, [])
    assert not path.exists()
