"""Names for stretches of videos that have none of their own."""


def span_name(video: str, start_s: float, end_s: float) -> str:
    """The id of a stretch of a video: the same stretch has the same id in every data set."""
    return f"{video}@{start_s!r}-{end_s!r}"
