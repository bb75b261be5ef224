"""Renders a report as one HTML page that needs nothing else: no script, no font, no network."""

import base64
import hashlib
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from pipelines.report import charts, summary, wording
from pipelines.report.content import ReportContent

_FOLDER = Path(__file__).parent


def render_page(content: ReportContent) -> str:
    """Draw the report.

    Every string that reaches the page is escaped and freed of control characters, and the page's
    own policy allows no script, no request, and no style but its own sheet.

    Args:
        content: What to show.

    Returns:
        The HTML; write it as UTF-8 without changing line ends, or the policy refuses the style.
    """
    style = (_FOLDER / "page.css").read_text(encoding="utf-8")
    return (
        _environment()
        .get_template("page.html.jinja")
        .render(
            content=content,
            levels=summary.levels(content.summary),
            methods=summary.methods(content.summary),
            reruns=summary.reruns(content.summary),
            total_seconds=summary.total_seconds(content.summary),
            loss=charts.line_chart(content.loss_curves, "{:.3g}".format),
            accuracy=charts.line_chart(
                content.accuracy_curves, lambda share: wording.percent(share, 0), (0.0, 1.0)
            ),
            strips=[(strip, charts.time_line(strip)) for strip in content.strips],
            style=Markup(style),  # noqa: S704 -- the package's own file
            style_hash=_csp_hash(style),
        )
    )


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=wording.plain,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {
        "METHODS": summary.METHODS,
        "SAMPLERS": summary.SAMPLERS,
        "chart": charts,
        "number": summary.number,
        "text": summary.text,
        "table": summary.table,
    }
    environment.filters |= {
        "percent": wording.percent,
        "points": wording.points,
        "count": wording.count,
        "rank": wording.rank,
        "clock": wording.clock,
        "elapsed": wording.elapsed,
        "moment": wording.moment,
        "data_url": _data_url,
    }
    return environment


def _csp_hash(style: str) -> str:
    """The sheet's source expression in a Content-Security-Policy (CSP Level 3, section 2.3.1)."""
    digest = hashlib.sha256(style.encode("utf-8")).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"


def _data_url(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"
