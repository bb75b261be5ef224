"""Numbers and foreign strings as a person reads them on the page."""

import re
from datetime import UTC, datetime

from markupsafe import Markup

DASH = "–"
"""Stands for every value that is missing."""
_THIN = "\N{NARROW NO-BREAK SPACE}"

# Control characters, and the marks that reorder or hide the text around them. Joiners stay: several
# scripts need them.
_INVISIBLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\ufffe\uffff]"
)


def plain(value: object) -> object:
    """Make any value fit to stand in the page; jinja's `finalize`, so that nothing goes around it.

    Line breaks become spaces, other control characters their visible picture (ESC becomes ␛),
    reordering marks and lone surrogates the replacement character, and None a dash.
    """
    if value is None:
        return DASH
    if isinstance(value, str) and not isinstance(value, Markup):
        return _INVISIBLE.sub(_visible, value)
    return value


def _visible(match: re.Match[str]) -> str:
    char = match[0]
    if char in "\t\n\r\u2028\u2029":
        return " "
    if char < " ":
        return chr(0x2400 + ord(char))
    return "\N{REPLACEMENT CHARACTER}"


def percent(share: float | None, digits: int = 1) -> str:
    """A share as text: 0.942 is ``94.2 %``."""
    return DASH if share is None else f"{share * 100:.{digits}f}{_THIN}%"


def points(share: float | None) -> str:
    """A share as a bare table cell: 0.942 is ``94.2``."""
    return DASH if share is None else f"{share * 100:.1f}"


def count(number: float | None) -> str:
    """A whole number with its thousands apart."""
    return DASH if number is None else f"{number:,.0f}"


def rank(place: float | None) -> str:
    """A place in a list, which may be a mean or a median: ``1.5``."""
    return DASH if place is None else f"{place:,.1f}"


def clock(seconds: float) -> str:
    """A moment in a video: ``1:04.5``, or ``1:02:03`` from an hour on."""
    tenths = max(0, round(seconds * 10))
    if tenths >= 36000:
        whole = tenths // 10
        return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
    return f"{tenths // 600}:{tenths // 10 % 60:02d}.{tenths % 10}"


def elapsed(seconds: float | None) -> str:
    """A duration in the two units that matter."""
    if seconds is None:
        return DASH
    if seconds < 9.95:
        return f"{seconds:.1f}{_THIN}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}{_THIN}s"
    if whole < 3600:
        return f"{whole // 60}{_THIN}min {whole % 60}{_THIN}s"
    minutes = round(seconds / 60)
    return f"{minutes // 60}{_THIN}h {minutes % 60}{_THIN}min"


def moment(text: str | None) -> str | None:
    """An ISO 8601 time as a date in words, in UTC; any other text as it is."""
    if text is None:
        return None
    try:
        when = datetime.fromisoformat(text)
        zone = "" if when.tzinfo is None else " UTC"
        when = when.astimezone(UTC) if zone else when
    except (ValueError, OverflowError):
        return text
    return f"{when.day} {when:%B %Y, %H:%M}{zone}"
