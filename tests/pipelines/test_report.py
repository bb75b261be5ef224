"""The report page: hostile text is inert, missing values are dashes, charts are to scale."""

import base64
import hashlib
import io
import itertools
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from pipelines.report import charts, wording
from pipelines.report.content import Curve, Frame, ReportContent, Strip
from pipelines.report.page import render_page
from pipelines.report.summary import levels, number
from pipelines.report.thumbnails import thumbnail_png
from pipelines.scores.reruns import rerun_note

PNG = thumbnail_png(np.zeros((4, 6, 3), np.uint8))
ACCURACY = {
    "videodistill": 0.9,
    "uniform": 0.3,
    "language_only": 0.2,
    "majority": 0.1,
    "majority_all": 0.076,
    "mean_frame": 0.25,
    "single_frame": 0.35,
}
FRAME_HIT = {"videodistill": 0.85, "uniform": 0.04, "at_init": 0.5}


class Page(HTMLParser):
    """The page as a browser would read it: tags, attributes and text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.texts: list[tuple[str, str]] = []
        self._inside = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        if tag == self._inside:
            self._inside = ""

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.texts.append((self._inside, data))

    @property
    def shape(self) -> list[tuple[str, tuple[str, ...]]]:
        """Every element with the names of its attributes."""
        return [(tag, tuple(attrs)) for tag, attrs in self.tags]

    @property
    def visible(self) -> str:
        return " ".join(text for tag, text in self.texts if tag != "style")

    def named(self, tag: str, look: str = "") -> list[dict[str, str]]:
        return [
            a
            for t, a in self.tags
            if t == tag and set(look.split()) <= set(a.get("class", "").split())
        ]


def content(word: str = "word") -> ReportContent:
    """A small report in which `word` stands wherever foreign text can."""
    scores = {"accuracy": ACCURACY | {word: 0.4321}, "frame_hit": FRAME_HIT}
    strip = Strip(
        question=word,
        answer=word,
        predicted=word,
        type=word,
        video_id=word,
        duration_s=50.0,
        spans=((10.0, 15.0),),
        frames=(Frame(time_s=12.0, inside=True, png=PNG), Frame(time_s=3.0, inside=False, png=PNG)),
    )
    return ReportContent(
        title=word,
        dataset=(word, word),
        summary={
            "dataset": word,
            "seed": 1,
            "identity": {"name": word, "digest": word},
            "created": word,
            "hardware": word,
            "versions": {word: word},
            **scores,
            "hard": scores,
            "per_type": {
                "sequencing": {"level": "hard", "questions": 8, **scores},
                word: {"level": "core", "questions": 4, **scores},
                "new": {"level": word, "questions": 2, **scores},
            },
            "questions": {"core": 1200, "hard": 800},
            "clip_cache_reruns": [word],
            "steps": 600,
            "seconds": {"generate": 100, "extract": 60, "train": 300, "evaluate": 20},
        },
        loss_curves=(
            Curve(run=word, points=((0, 2.0), (100, 1.0))),
            Curve(run="uniform", points=((0, 2.0), (100, 1.5))),
        ),
        accuracy_curves=(Curve(run=word, points=((0, 0.1), (100, 0.9))),),
        strips=(strip,),
    )


@pytest.fixture(scope="module")
def page() -> Page:
    return Page(render_page(content()))


HOSTILE = {
    "script": "<script>alert(1)</script>",
    "attribute": '"><img src=x onerror=alert(1)>',
    "single-quoted": "' onmouseover='alert(1)",
    "style": "</style><style>body{display:none}</style>",
    "template": "{{ 7 * 7 }}{% raw %}",
    "comment": "<!-- --><![CDATA[",
    "entity": "&lt;b&gt;&#60;",
    "ansi": "\x1b[31mred\x00\x07\x9b",
    "reordered": "\u202etxt.exe\u2066\u200f",
    "surrogate": "\ud800\ufffe",
    "lines": "one\r\ntwo\u2028three",
}


@pytest.mark.parametrize("word", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_text_adds_no_element_and_no_attribute(word: str, page: Page) -> None:
    assert Page(render_page(content(word))).shape == page.shape


@pytest.mark.parametrize("word", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_text_is_still_there_to_read(word: str) -> None:
    html = render_page(content(word))
    html.encode("utf-8")
    assert not re.search(
        "[\x00-\x09\x0b-\x1f\x7f-\x9f\u200f\u2028\u202a-\u202e\u2066-\u2069]", html
    )
    assert str(wording.plain(word)) in Page(html).visible


def test_the_style_is_the_one_that_the_policy_names(page: Page) -> None:
    (policy,) = [a["content"] for a in page.named("meta") if "http-equiv" in a]
    style = "".join(text for tag, text in page.texts if tag == "style")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy == (
        "default-src 'none'; img-src data:; "
        f"style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    assert not page.named("script")
    assert all("style" not in attrs and "\r" not in style for _, attrs in page.tags)


def test_the_page_refers_to_nothing_outside_itself(page: Page) -> None:
    html = render_page(content())
    links = [
        a[name] for _, a in page.tags for name in ("src", "href", "srcset", "data") if name in a
    ]
    assert len(links) == 3  # two pictures and the empty icon
    assert all(link.startswith("data:") for link in links)
    assert not re.search(r"https?:|url\(|@import|xmlns", html)


def test_every_picture_has_its_place_in_words(page: Page) -> None:
    assert [a["alt"] for a in page.named("img")] == [
        "Selected frame at 0:03.0, elsewhere",
        "Selected frame at 0:12.0, in the ground-truth span",
    ]


def test_headings_descend_one_level_at_a_time(page: Page) -> None:
    depths = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert depths.count(1) == 1
    assert all(deeper - before <= 1 for before, deeper in itertools.pairwise(depths))


ODD = {
    "nothing": {},
    "nulls": {"accuracy": None, "frame_hit": {"videodistill": None}, "per_type": {"a": None}},
    "wrong kinds": {
        "accuracy": [1],
        "seconds": "soon",
        "per_type": 3,
        "seed": [],
        "versions": None,
    },
    "no numbers": {"accuracy": {"videodistill": "0.9", "uniform": float("nan"), "majority": True}},
    "odd names": {"clip_cache_reruns": {"a": 1}, "accuracy": [1]},
    "too large": {"steps": 10**400, "created": "0001-01-01T00:00:00+14:00"},
    "half a type": {"per_type": {"a": {"level": "core", "frame_hit": None, "accuracy": {}}}},
}


@pytest.mark.parametrize("summary", ODD.values(), ids=ODD.keys())
def test_what_is_missing_shows_as_a_dash(summary: dict[str, object]) -> None:
    bare = ReportContent(title="bare", dataset=(), summary=summary)
    page = Page(render_page(bare))
    assert "–" in page.visible
    assert not re.search(r"\b(None|nan|inf|Undefined)\b", page.visible)
    assert not page.named("rect", "bar videodistill")[1:]  # the legend's alone


def test_every_run_has_a_column_and_re_runs_are_named(page: Page) -> None:
    cells = [text for tag, text in page.texts if tag == "td"]
    assert cells.count("43.2") == 3 + 2  # of the types, and over all of core and of hard
    assert cells.count("7.6") == 3 + 2
    assert "word" in [text for tag, text in page.texts if tag == "th"]
    assert f"{rerun_note(['word'])}." in [text for tag, text in page.texts if tag == "p"]
    bare = ReportContent(title="t", dataset=(), summary={"clip_cache_reruns": []})
    assert "re-run" not in render_page(bare)


def test_levels_come_in_order_and_are_named(page: Page) -> None:
    text = page.visible
    places = [text.index(name) for name in ("Core types", "Hard types", "Word types")]
    assert places == sorted(places)
    assert [level.name for level in levels(content().summary)] == ["core", "hard", "word"]


def test_bars_are_proportional_to_their_values(page: Page) -> None:
    for method in charts.BARS:
        drawn = page.named("rect", f"bar {method}")[1:]
        assert [float(a["width"].rstrip("%")) for a in drawn] == pytest.approx(
            [100 * ACCURACY[method]] * 3
        )
    assert {a["x"] for a in page.named("svg", "dot mean_frame")[1:]} == {"25.00%"}


def test_bars_stay_on_the_scale() -> None:
    (kind,) = levels(
        {"per_type": {"a": {"level": "core", "accuracy": {"videodistill": 7, "uniform": -1}}}}
    )[0].types
    marks = charts.accuracy_marks(kind.scores, ("videodistill", "uniform", "majority"))
    assert [mark.position for mark in marks] == [100.0, 0.0, None]
    assert marks[-1].label == "–"


def test_a_line_goes_through_its_points() -> None:
    chart = charts.line_chart(
        [Curve(run="r", points=((0, 0.0), (50, 1.0), (100, 0.25)))], str, (0.0, 1.0)
    )
    assert chart is not None
    assert chart.lines[0].path == "M0.00 100.00L50.00 0.00L100.00 75.00"
    assert [(t.position, t.label) for t in chart.x_ticks][:2] == [(0.0, "0"), (20.0, "20")]
    assert chart.lines[0].band == ""


def test_long_curves_are_drawn_as_means_inside_their_band() -> None:
    points = tuple((step, float(step % 2)) for step in range(1000))
    chart = charts.line_chart([Curve(run="r", points=points)], str, (0.0, 1.0))
    assert chart is not None
    assert chart.group == 14
    heights = [float(pair.split()[1]) for pair in chart.lines[0].path[1:].split("L")]
    assert heights == pytest.approx([50.0] * len(heights), abs=5)
    band = {float(pair.split()[1]) for pair in chart.lines[0].band[1:-1].split("L")}
    assert band == {0.0, 100.0}


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), 1e300])
def test_values_that_cannot_be_drawn_are_counted(bad: float) -> None:
    curve = Curve(run="diverged", points=((0, 2.0), (1, bad), (2, 1.0)))
    page = Page(render_page(replace(content(), loss_curves=(curve,))))
    assert "diverged: 1 value not finite, left out." in " ".join(page.visible.split())
    assert charts.line_chart([Curve(run="r", points=((0, bad),))], str) is None


def test_a_run_without_a_value_is_named_beside_the_others() -> None:
    curves = (*content().loss_curves, Curve(run="crashed", points=()))
    page = Page(render_page(replace(content(), loss_curves=curves)))
    assert "crashed: no value to draw." in " ".join(page.visible.split())


RANGES = [(0.0, 1.0), (0.0, 2.3), (0.0, 1e-9), (0.0, 123456.0), (-3.0, 4.0), (0.0, 7.0)]


@pytest.mark.parametrize(("low", "high"), RANGES)
def test_ticks_are_round_few_and_cover_the_axis(low: float, high: float) -> None:
    found = charts.ticks(low, high)
    steps = np.diff(found)
    assert 3 <= len(found) <= 7
    assert found[0] <= low
    assert high - steps[0] < found[-1] <= high * (1 + 1e-9)
    assert float(f"{steps[0]:.1e}"[0]) in (1, 2, 5)
    np.testing.assert_allclose(steps, steps[0])


@pytest.mark.parametrize("places", [[50.0], [10, 11, 12], [99, 98, 97], [0, 100], [5, 5, 5, 5]])
def test_labels_do_not_overlap(places: list[float]) -> None:
    moved = charts.spread(places, 8)
    assert max(moved) <= 100
    assert np.all(np.diff(sorted(moved)) >= 8 - 1e-9)
    assert np.argsort(moved, kind="stable")[0] == np.argsort(places, kind="stable")[0]


def test_time_line_is_to_scale_and_stays_on_the_bar() -> None:
    strip = replace(content().strips[0], duration_s=20.0, spans=((5.0, 10.0), (18.0, 30.0)))
    layout = charts.time_line(strip)
    assert layout.spans == ((25.0, 25.0), (90.0, 10.0))
    assert [(m.position, m.inside, m.picture_at) for m in layout.moments] == [
        (15.0, False, 25.0),
        (60.0, True, 75.0),
    ]


def luminance(color: str) -> float:
    """Relative luminance (WCAG 2.2) of #rgb or #rrggbb."""
    digits = color.lstrip("#")
    digits = "".join(d * 2 for d in digits) if len(digits) == 3 else digits
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, two: str) -> float:
    light, dark = sorted((luminance(one), luminance(two)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("palette", [0, 1, 2], ids=["light", "dark", "print"])
def test_colours_stand_out_from_the_paper(palette: int, page: Page) -> None:
    style = "".join(text for tag, text in page.texts if tag == "style")
    block = re.findall(r":root \{(.*?)\}", style, re.DOTALL)[palette]
    color = dict(re.findall(r"--([\w-]+): (#\w+);", block))
    for text in ("ink", "muted", "ours", "truth", "wrong"):
        assert contrast(color[text], color["paper"]) >= 4.5, text
    for shape in ("uniform", "language", "other-1", "other-2", "other-3"):
        assert contrast(color[shape], color["paper"]) >= 3.0, shape


WORDED = {
    "percent": (wording.percent(0.942), "94.2\u202f%"),
    "no percent": (wording.percent(None), "–"),
    "points": (wording.points(1.0), "100.0"),
    "thousands": (wording.count(1234567), "1,234,567"),
    "clock zero": (wording.clock(0), "0:00.0"),
    "clock rounds up": (wording.clock(59.96), "1:00.0"),
    "clock before zero": (wording.clock(-1), "0:00.0"),
    "clock hours": (wording.clock(3723), "1:02:03"),
    "seconds": (wording.elapsed(8.4), "8.4\u202fs"),
    "minutes": (wording.elapsed(59.7), "1\u202fmin 0\u202fs"),
    "hours": (wording.elapsed(3599.9), "1\u202fh 0\u202fmin"),
    "no time": (wording.elapsed(None), "–"),
    "moment in UTC": (wording.moment("2026-11-22T23:30:00+01:00"), "22 November 2026, 22:30 UTC"),
    "no moment": (wording.moment("yesterday"), "yesterday"),
    "controls": (
        wording.plain("a\tb\x1bc\u202e"),
        "a b\N{SYMBOL FOR ESCAPE}c\N{REPLACEMENT CHARACTER}",
    ),
    "joiners stay": (wording.plain("سؤال · क्\u200dष"), "سؤال · क्\u200dष"),
}


@pytest.mark.parametrize(("found", "expected"), WORDED.values(), ids=WORDED.keys())
def test_wording(found: object, expected: str) -> None:
    assert found == expected


def test_only_finite_numbers_count() -> None:
    assert number({"a": {"b": 2}}, "a", "b") == 2.0
    assert number({"a": True}, "a") is None
    assert number({"a": 1}, "a", "b") is None


@pytest.mark.parametrize("shape", [(96, 96, 3), (1080, 1920, 3), (3, 4000, 3)])
def test_thumbnails_fit_and_keep_their_proportions(shape: tuple[int, int, int]) -> None:
    image = Image.open(io.BytesIO(thumbnail_png(np.full(shape, 77, np.uint8))))
    assert image.format == "PNG"
    assert max(image.size) == min(192, max(shape))
    assert image.size[1] == max(1, round(shape[0] * image.size[0] / shape[1]))
    assert image.getpixel((0, 0)) == (77, 77, 77)


@pytest.mark.parametrize(
    "pixels",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), np.uint8)],
    ids=["grey", "float", "empty"],
)
def test_thumbnails_refuse_other_arrays(pixels: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"expected uint8 \[H, W, 3\]"):
        thumbnail_png(pixels)


def test_content_that_cannot_be_drawn_is_refused() -> None:
    strip = content().strips[0]
    with pytest.raises(ValueError, match="no PNG"):
        Frame(time_s=1.0, inside=False, png=b"GIF89a")
    with pytest.raises(ValueError, match="finite number of seconds"):
        Frame(time_s=float("nan"), inside=False, png=PNG)
    with pytest.raises(ValueError, match=r"lasts 0\.0 s"):
        replace(strip, duration_s=0.0)
    with pytest.raises(ValueError, match="start before end"):
        replace(strip, spans=((5.0, 4.0),))
