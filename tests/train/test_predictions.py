import pyarrow.parquet as pq

from train.predictions import Prediction, read_predictions, write_predictions

ROWS = [
    Prediction(
        question_id="a", predicted="x", answer="x", frame_index=(3, 1), frame_time=(1.5, 0.5)
    ),
    Prediction(question_id="b", predicted="x", answer="y", logit=(0.5, -1.0)),
]


def test_written_and_read_back(tmp_path):
    write_predictions(tmp_path / "deep" / "p.parquet", ROWS)
    assert read_predictions(tmp_path / "deep" / "p.parquet") == ROWS


def test_other_programs_can_read_the_table(tmp_path):
    write_predictions(tmp_path / "p.parquet", ROWS)
    table = pq.read_table(tmp_path / "p.parquet").to_pydict()
    assert table["correct"] == [True, False]
    assert table["frame_index"] == [[3, 1], []]
