from train.curves import CURVES_FILE, Curves, read_curves


def test_lines_are_there_while_the_run_goes(tmp_path):
    with Curves(tmp_path, 0) as curves:
        curves.log("train", 1, loss=0.5)
        assert read_curves(tmp_path) == [{"kind": "train", "step": 1, "loss": 0.5}]
    assert list((tmp_path / "tensorboard").iterdir())


def test_resuming_drops_the_steps_that_were_lost(tmp_path):
    with Curves(tmp_path, 0) as curves:
        for step in range(1, 6):
            curves.log("train", step, loss=1.0)
    with Curves(tmp_path, 3) as curves:
        curves.log("train", 4, loss=2.0)
    assert [(line["step"], line["loss"]) for line in read_curves(tmp_path)] == [
        (1, 1.0), (2, 1.0), (3, 1.0), (4, 2.0),
    ]  # fmt: skip


def test_a_line_cut_off_by_a_crash_is_left_out(tmp_path):
    (tmp_path / CURVES_FILE).write_text('{"kind": "train", "step": 1}\n{"kind": "tr')
    assert [line["step"] for line in read_curves(tmp_path)] == [1]


def test_a_run_that_has_not_started_has_no_curves(tmp_path):
    assert read_curves(tmp_path) == []
