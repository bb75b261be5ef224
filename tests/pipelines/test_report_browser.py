"""The report in a real browser: pictures decode, the policy refuses nothing, nothing sticks out."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pipelines.datasets.demo.drawing import render
from pipelines.datasets.demo.questions import LEVELS, Fact, facts, word
from pipelines.datasets.demo.scene import FPS, Scene, sample_scene
from pipelines.report.content import Curve, Frame, ReportContent, Strip
from pipelines.report.page import render_page
from pipelines.report.thumbnails import thumbnail_png

webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium (dev dependency)")

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
CHROMEDRIVER = shutil.which("chromedriver")
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
SELECTED = 8

pytestmark = pytest.mark.skipif(
    CHROMIUM is None or CHROMEDRIVER is None, reason="needs Chromium and chromedriver on the PATH"
)


def made_up_content(videos: int, per_video: int = 3) -> ReportContent:
    """Pictures and questions of real demo scenes; every figure is made up."""
    rng = np.random.default_rng(0)
    strips = []
    for index in range(videos):
        scene = sample_scene(1, "test", index)
        pictures = list(render(scene))
        asked = facts(scene)
        for number in range(per_video):
            fact = asked[(index * per_video + number) * 3 % len(asked)]
            strips.append(_strip(rng, scene, pictures, fact, right=(index + number) % 4 != 3))
    return ReportContent(
        title="VideoDistill on rendered videos, seed 1",
        dataset=(
            (
                "460 rendered videos of 40 to 90 seconds. In each, five coloured shapes appear for 3 to "
                "5 % of the time, one after the other, and move over drifting grey clutter. Within a "
                "video no two things share a shape or a colour, so every question has one answer, and "
                "it shows in a handful of the hundred frames that are cached."
            ),
            (
                "Core questions ask for one moment: a colour, a shape, whether something is there. Hard "
                "questions, after AGQA’s types, combine moments, movement or order. Training, "
                "validation and test videos share no scene."
            ),
        ),
        summary=_summary(rng),
        loss_curves=tuple(_loss(rng, run, low) for run, low in RUNS.items()),
        accuracy_curves=tuple(_accuracy(rng, run, low) for run, low in RUNS.items()),
        strips=tuple(strips),
    )


RUNS = {"videodistill": 0.12, "uniform": 1.46, "language_only": 1.71}


def _strip(
    rng: np.random.Generator, scene: Scene, pictures: list[np.ndarray], fact: Fact, *, right: bool
) -> Strip:
    spans = tuple(event.span for event in fact.evidence)
    found = [n for event in fact.evidence for n in range(event.start_frame, event.end_frame)]
    inside = int(rng.integers(4, 8)) if found else 0
    numbers = [*rng.choice(found, inside)] if found else []
    numbers += [*rng.choice(len(pictures), SELECTED - inside)]
    frames = [
        Frame(
            time_s=float(n / FPS),
            inside=any(start <= n / FPS < end for start, end in spans),
            png=thumbnail_png(pictures[n]),
        )
        for n in numbers
    ]
    return Strip(
        question=word(rng, fact),
        answer=fact.answer,
        predicted=fact.answer if right else "something else",
        type=fact.type,
        video_id=scene.video_id,
        duration_s=scene.frames / FPS,
        spans=spans,
        frames=tuple(frames),
    )


def _scores(rng: np.random.Generator, core: bool) -> dict[str, dict[str, float]]:
    low = rng.uniform(0.1, 0.5)
    ours = rng.uniform(0.86, 1.0) if core else low + rng.uniform(0, 0.25)
    return {
        "accuracy": {
            "videodistill": ours,
            "uniform": low + 0.06,
            "language_only": low + 0.01,
            "majority": low,
            "mean_frame": low + 0.03,
            "single_frame": low + 0.08,
        },
        "frame_hit": {
            "videodistill": rng.uniform(0.7, 0.95),
            "uniform": rng.uniform(0.03, 0.06),
            "at_init": rng.uniform(0.4, 0.6),
        },
    }


def _summary(rng: np.random.Generator) -> dict[str, object]:
    digest = "3f9c0a7be51d" + "0123456789abcdef" * 3 + "0123"
    return {
        "dataset": "demo",
        "seed": 1,
        "identity": {"name": "demo-clip-3f9c0a7be51d", "digest": digest},
        "created": "2026-11-22T22:00:00Z",
        "hardware": "2 cores, 24 GiB",
        "versions": {"torch": "2.15.0", "open_clip": "3.3.0", "zarr": "3.1.6"},
        **_scores(rng, core=True),
        "hard": _scores(rng, core=False),
        "per_type": {
            name: {"level": level, "questions": 400, **_scores(rng, core=level == "core")}
            for name, level in LEVELS.items()
        },
        "questions": {"core": 1200, "hard": 800},
        "steps": 600,
        "seconds": {"generate": 101.0, "extract": 62.5, "train": 311.0, "evaluate": 8.4},
    }


def _loss(rng: np.random.Generator, run: str, low: float) -> Curve:
    steps = np.arange(1, 601)
    fall = 1 / (1 + np.exp((steps - 170) / 45)) if low < 1 else np.exp(-steps / 60)
    values = low + (2.3 - low) * fall + rng.normal(0, 0.06, steps.size)
    return Curve(run=run, points=tuple(zip(steps.tolist(), np.abs(values).tolist(), strict=True)))


def _accuracy(rng: np.random.Generator, run: str, low: float) -> Curve:
    steps = np.arange(0, 601, 50)
    rise = 1 / (1 + np.exp((190 - steps) / 40)) if low < 1 else 1 - np.exp(-steps / 60)
    top = {"videodistill": 0.93, "uniform": 0.31, "language_only": 0.26}[run]
    values = 0.14 + (top - 0.14) * rise + rng.normal(0, 0.008, steps.size)
    return Curve(run=run, points=tuple(zip(steps.tolist(), values.tolist(), strict=True)))


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator["webdriver.Chrome"]:
    """A headless Chromium with a profile of its own, showing the report."""
    folder = tmp_path_factory.mktemp("browser")
    page = folder / "report.html"
    page.write_text(
        render_page(made_up_content(videos=1, per_video=4)), encoding="utf-8", newline=""
    )
    with _chromium(folder) as driver:
        driver.get(page.as_uri())
        yield driver


def _chromium(folder: Path) -> "webdriver.Chrome":
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in (*FLAGS, f"--user-data-dir={folder / 'profile'}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(executable_path=CHROMEDRIVER)
    return webdriver.Chrome(options=options, service=service)


def resize(browser: "webdriver.Chrome", width: int, scheme: str = "light") -> None:
    """Give the page a width below a window's smallest, as a telephone would."""
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


@pytest.mark.parametrize("width", [1280, 400])
def test_nothing_sticks_out_of_the_page(browser: "webdriver.Chrome", width: int) -> None:
    resize(browser, width)
    assert browser.execute_script("return window.innerWidth") == width
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("width", [1280, 400])
def test_every_picture_is_decoded_and_seen(browser: "webdriver.Chrome", width: int) -> None:
    resize(browser, width)
    sizes = browser.execute_script(
        "return [...document.images].map(i => [i.complete, i.naturalWidth, i.clientWidth])"
    )
    assert len(sizes) == 4 * SELECTED
    assert all(done and natural == 96 and shown >= 60 for done, natural, shown in sizes)


def test_the_browser_has_nothing_to_say(browser: "webdriver.Chrome") -> None:
    """The policy's refusals would be here too."""
    assert browser.get_log("browser") == []


@pytest.mark.parametrize(("scheme", "dark"), [("light", False), ("dark", True)])
def test_the_sheet_applies_in_both_schemes(
    browser: "webdriver.Chrome", scheme: str, dark: bool
) -> None:
    resize(browser, 1280, scheme)
    paper = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    channels = [int(part) for part in paper.removeprefix("rgb(").removesuffix(")").split(",")]
    assert (max(channels) < 64) == dark


def test_a_bar_is_as_long_as_its_value(browser: "webdriver.Chrome") -> None:
    resize(browser, 1280)
    drawn = browser.execute_script(
        """return [...document.querySelectorAll(".row rect.bar")].map(
            bar => [bar.getBoundingClientRect().width, bar.parentNode.getBoundingClientRect().width,
                    bar.nextElementSibling.textContent])"""
    )
    assert len(drawn) == 4 * len(LEVELS)
    for length, whole, label in drawn:
        assert length / whole * 100 == pytest.approx(float(label.split("\u202f")[0]), abs=1.0)
