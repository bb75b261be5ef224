"""The paper's tables agree with what its text says of them, and our runs stand where they belong."""

import json
from dataclasses import replace

import pytest

from cache_schema.errors import InputError
from pipelines.presets import PRESETS, read_preset
from pipelines.scores.paper_tables import NUMBERS, paper_table
from pipelines.scores.reruns import RERUNS, rerun_note
from pipelines.scores.score_report import ScoreReport
from pipelines.scores.score_rows import ScoreRow
from pipelines.scores.scored_runs import ScoredRun, run_kind, score_runs
from pipelines.scores.table_report import as_markdown, beside_the_paper
from train.config import ModelConfig, TrainConfig
from train.methods import MODELS
from train.predictions import Prediction, write_predictions


def cell(number, row, column):
    table = paper_table(number)
    place = [c.label for c in table.columns].index(column)
    return next(r.values[place] for r in table.rows if r.label.startswith(row))


@pytest.mark.parametrize("number", NUMBERS)
def test_every_row_has_a_number_a_column_and_its_source(number):
    table = paper_table(number)
    assert "2404.00973" in table.source
    assert {len(row.values) for row in table.rows} == {len(table.columns)}
    assert {len(row.changes) for row in table.rows} <= {0, len(table.columns)}
    assert len(table.datasets) == (2 if number == 4 else 1)


@pytest.mark.parametrize(
    ("number", "row", "ours", "theirs", "gain"),
    [
        pytest.param(1, "Object-relation", "VideoDistill", "MIST-CLIP", 4.64, id="section 4.2"),
        pytest.param(1, "Superlative", "VideoDistill", "MIST-CLIP", 1.25, id="section 4.2, superlative"),
        pytest.param(1, "All", "VideoDistill", "MIST-CLIP", 1.41, id="section 4.2, AGQA"),
        pytest.param(2, "all", "VideoDistill", "HCRN", 2.82, id="section 4.2, EgoTaskQA"),
        pytest.param(2, "multi-agent", "VideoDistill", "HCRN", 5.59, id="section 4.2, multi-agent"),
        pytest.param(2, "descriptive", "VideoDistill", "HCRN", 3.72, id="section 4.2, descriptive"),
        pytest.param(2, "object", "VideoDistill", "HCRN", 9.33, id="section 4.5"),
    ],
)  # fmt: skip
def test_gains_are_those_of_the_text(number, row, ours, theirs, gain):
    found = cell(number, row, ours) - cell(number, row, theirs)
    assert found == pytest.approx(gain, abs=0.005)


def test_the_gate_gains_over_cross_attention_what_the_text_says():
    for dataset, gain in (("EgoTaskQA", 4.08), ("MSRVTT-QA", 3.03)):
        assert cell(4, "(f)", dataset) - cell(4, "(e)", dataset) == pytest.approx(gain, abs=0.005)
    assert cell(4, "(f)", "EgoTaskQA") == cell(2, "all", "VideoDistill")


@pytest.mark.parametrize(
    ("blind", "seeing"),
    [
        pytest.param("BERT", "VisualBERT", id="BERT"),
        pytest.param("HCRN (w/o vision)", "HCRN", id="HCRN"),
        pytest.param("VideoDistill (w/o vision)", "VideoDistill", id="VideoDistill"),
    ],
)
def test_the_changes_of_table_3_are_against_table_2(blind, seeing):
    table = paper_table(3)
    place = [c.label for c in table.columns].index(blind)
    for row in table.rows:
        change = 100 * (row.values[place] / cell(2, row.label, seeing) - 1)
        # Most are cut to one digit, not rounded, and VideoDistill's multi-agent is printed as -68.7.
        assert row.changes[place] == pytest.approx(change, abs=0.18), row.label


def test_rows_are_scored_by_what_the_score_counts(tmp_path):
    from pipelines.scores.official import OFFICIAL

    for number in (1, 2, 3):
        table = paper_table(number)
        sections = OFFICIAL[table.dataset].sections
        counted = {f"{s.kind}:{value}" for s in sections for value in s.order} | {"all"}
        assert {row.score for row in table.rows} <= counted


def kinds_of(preset):
    made = read_preset(PRESETS / f"{preset}.toml", [], 1, own="agqa")
    return {name: run_kind(run) for name, run in made.runs.items()}


def test_the_presets_runs_are_the_tables_rows_and_columns():
    rows = [row.run for row in paper_table(4).rows]
    assert list(kinds_of("table4").values()) == rows
    third = {column.run for column in paper_table(3).columns}
    assert third <= set(kinds_of("table3").values())
    named = {c.run for n in (1, 2) for c in paper_table(n).columns if c.run}
    assert named <= {"videodistill", *kinds_of("baselines").values()}
    assert named <= set(MODELS)


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        pytest.param(TrainConfig(), "videodistill", id="whole"),
        pytest.param(TrainConfig(model=ModelConfig(selected=4)), "videodistill", id="another K"),
        pytest.param(TrainConfig(model=ModelConfig(sampler="random")), "random", id="random"),
        pytest.param(TrainConfig(model=ModelConfig(fusion="t2v")), "cross-attention", id="t2v"),
        pytest.param(TrainConfig(method="hcrn", visual="noise"), "hcrn/noise", id="blind"),
    ],
)
def test_kinds(config, kind):
    assert run_kind(config) == kind


def scored(name, kind, dataset="egotaskqa", **shares):
    rows = [
        ScoreRow(key=k.replace("_", ":"), label=k, value=v, questions=9) for k, v in shares.items()
    ]
    report = ScoreReport(dataset=dataset, split="test", metric="", sections={"": rows}, questions=9)
    return ScoredRun(name=name, dataset=dataset, kind=kind, report=report)


def columns(number, *runs):
    compared = beside_the_paper(paper_table(number), runs)
    return {c.label: dict(zip([r.label for r in compared.table.rows], c.values, strict=True))
            for c in compared.columns if c.ours}, compared  # fmt: skip


def test_a_run_has_its_numbers_and_its_difference():
    ours, _ = columns(2, scored("main", "videodistill", all=0.5), scored("odd", "atp", all=0.25))
    assert list(ours) == ["main", "main minus VideoDistill", "odd"]
    assert ours["main"]["all"] == 50.0
    assert ours["main"]["world"] is None
    assert ours["main minus VideoDistill"]["all"] == pytest.approx(50.0 - 45.02)
    assert ours["main minus VideoDistill"]["world"] is None
    assert ours["odd"]["all"] == 25.0


def test_without_the_video_a_run_has_its_change_from_the_run_with_it():
    main = scored("main", "videodistill", scope_world=0.5)
    blind = scored("blind", "videodistill/static", scope_world=0.2)
    noise = scored("noise", "videodistill/noise", scope_world=0.6)
    ours, _ = columns(3, main, blind, noise)
    assert ours["blind, change"]["world"] == pytest.approx(-60.0)
    assert ours["noise, change"]["world"] == pytest.approx(20.0)
    assert ours["blind minus VideoDistill (w/o vision)"]["world"] == pytest.approx(20 - 18.78)
    assert "main, change" not in ours
    alone, _ = columns(3, blind)
    assert list(alone) == ["blind", "blind minus VideoDistill (w/o vision)"]


def test_baselines_are_named_as_re_runs_below_the_table():
    runs = scored("main", "videodistill", all=0.5), scored("blind", "hcrn/static", all=0.2)
    _, compared = columns(3, *runs)
    assert compared.notes == (rerun_note(["blind"]),)
    assert as_markdown(compared).endswith("not their published numbers): blind")
    assert columns(3, runs[0])[1].notes == ()
    assert set(MODELS) - RERUNS == {"videodistill", "mean_frame", "single_random_frame"}


def test_variants_stand_in_their_rows_and_seeds_are_averaged():
    ours, compared = columns(
        4,
        scored("a", "uniform+transformer", all=0.3),
        scored("f1", "videodistill", all=0.4),
        scored("f2", "videodistill", all=0.5),
        scored("m", "soft", "msrvtt-qa", all=0.1),
    )
    assert ours["ours, EgoTaskQA"]["(a) Baseline"] == pytest.approx(30.0)
    assert ours["ours, EgoTaskQA"]["(f) VideoDistill"] == pytest.approx(45.0)
    assert ours["ours, EgoTaskQA"]["(c) Soft Sampling"] is None
    assert ours["ours minus MSRVTT-QA"]["(c) Soft Sampling"] == pytest.approx(10 - 38.16)
    assert compared.notes == ("(f) VideoDistill on EgoTaskQA: mean of 2 runs",)
    with pytest.raises(InputError, match=r"'atp', which Table 4 has no row of"):
        columns(4, scored("x", "atp", all=0.3))


def test_markdown_has_every_number():
    text = as_markdown(beside_the_paper(paper_table(4), [scored("a", "uniform", all=0.5)]))
    assert "| (b) Uniform Sampling | 41.70 | 40.92 | 50.00 | +8.30 |" in text
    assert "| (a) Baseline | 29.10 | 23.92 | - | - |" in text
    assert "Published: arXiv 2404.00973" in text


@pytest.fixture
def home(tmp_path, write_agqa, agqa_record):
    """AGQA in miniature, and a run and a seed of it, evaluated."""
    test = {"q2": agqa_record, "q3": agqa_record | {"global": ["exists"], "answer": "no"}}
    for name, seed in (("agqa", 1), ("agqa-seed2", 2)):
        write_agqa(tmp_path / "data" / name, test=test)
        run = tmp_path / "runs" / name / "table4" / "videodistill"
        run.mkdir(parents=True)
        config = replace(TrainConfig(), seed=seed)
        (run / "config.json").write_text(json.dumps(config.to_dict()))
        answers = [("q2", "yes", "yes"), ("q3", "yes", "no")]
        write_predictions(
            run / "predictions_test.parquet",
            [Prediction(question_id=q, predicted=p, answer=a) for q, p, a in answers],
        )
    return tmp_path


def test_runs_are_found_by_their_folders_and_scored(home):
    folders = [home / "runs" / name / "table4" / "videodistill" for name in ("agqa", "agqa-seed2")]
    found = score_runs(folders, ["agqa"], home, None)
    assert [run.name for run in found] == ["table4/videodistill", "table4/videodistill (seed 2)"]
    assert {run.kind for run in found} == {"videodistill"}
    assert [run.report.value("type:exists") for run in found] == [0.5, 0.5]
    assert [run.report.value("type:sequencing") for run in found] == [1.0, 1.0]


def test_what_is_no_run_is_refused(home, tmp_path):
    run = home / "runs" / "agqa" / "table4" / "videodistill"

    def refused(folder, message, datasets=("agqa",)):
        with pytest.raises(InputError, match=message):
            score_runs([folder], datasets, home, None)

    refused(
        run,
        "a run of 'agqa'; wanted are runs of egotaskqa or msrvtt-qa",
        ["egotaskqa", "msrvtt-qa"],
    )
    refused(tmp_path / "elsewhere" / "x", "does not lie in runs/<data set>/")
    refused(home / "runs" / "nothing" / "x", "there is no data set 'nothing'")
    refused(run.parent, "there is no config.json")
    (run / "predictions_test.parquet").unlink()
    refused(run, "run `videodistill evaluate agqa`")
    (run / "predictions_test.parquet").touch()
    (run / "config.json").write_text("{")
    refused(run, "is not a run's configuration")
