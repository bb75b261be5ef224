import io

from rich.console import Console

from train.progress import StepReport, describe, progress_bar

REPORT = StepReport(
    step=3,
    steps=10,
    loss=1.234,
    accuracy=0.5,
    best_accuracy=-1.0,
    eta_s=75.2,
    data_wait_share=0.013,
)


def test_describes_a_step_in_one_line():
    assert describe(REPORT) == "loss 1.234  acc 0.50  best val -  data wait 1.3%  left 1:15"


def test_bar_shows_steps_and_numbers():
    text = io.StringIO()
    with progress_bar("demo", Console(file=text, width=140, force_terminal=True)) as show:
        show(REPORT)
    assert "3/10" in text.getvalue()
    assert "left 1:15" in text.getvalue()
