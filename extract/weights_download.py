"""Published weights by their tag: fetched once by open_clip, into the cache of the hub's client."""

from pathlib import Path

from cache_schema import InputError
from extract.lean_open_clip import lean_open_clip
from extract.published_weights import published_weights


def fetched_weights(model: str, tag: str) -> Path:
    """Returns the file of published weights, which is downloaded if it is not in the cache.

    Args:
        model: open_clip's name of the model.
        tag: open_clip's name of the weights.

    Raises:
        InputError: there are no such weights, or they cannot be fetched; says what to do.
    """
    known = published_weights(model)
    if tag not in known:
        listed = ", ".join(known) or "none"
        raise InputError(
            f"--weights is {tag!r}, which is neither a file nor published weights of {model}. "
            f"open_clip knows: {listed}. `videodistill encoders info {model}` tells more."
        )
    try:
        found = lean_open_clip().download_pretrained(dict(known[tag]))
    # The hub's client and urllib raise errors of these two kinds.
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"The weights {tag!r} of {model} cannot be fetched ({type(error).__name__}: "
            f"{str(error).splitlines()[0] if str(error) else 'no message'}). Fetch the file on a "
            f"machine that can, and name it: --weights FILE --tag {tag}."
        ) from error
    return Path(found)
