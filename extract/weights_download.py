"""Published weights by their tag: fetched once by open_clip, into the cache of the hub's client."""

from pathlib import Path, PurePosixPath

from cache_schema import InputError
from extract.lean_open_clip import lean_open_clip
from extract.model_architecture import read_architecture
from extract.published_weights import published_weights, with_published


def require_published(model: str, tag: str, config: Path | None = None) -> None:
    """Refuses weights that nobody published or that do not fit the model, before they are fetched.

    Args:
        model: open_clip's name of the model.
        tag: open_clip's name of the weights.
        config: JSON of an architecture that open_clip does not know.

    Raises:
        InputError: there are no such weights; or as ``with_published``.
    """
    known = published_weights(model)
    if tag not in known:
        listed = ", ".join(known) or "none"
        raise InputError(
            f"--weights is {tag!r}, which is neither a file nor published weights of {model}. "
            f"open_clip knows: {listed}. `videodistill encoders info {model}` tells more."
        )
    with_published(read_architecture(model, config), model, tag)


def cached_weights(model: str, tag: str) -> Path | None:
    """Returns the file that ``fetched_weights`` would, where it is in the cache; asks no network."""
    from huggingface_hub import try_to_load_from_cache

    place = PurePosixPath(str(published_weights(model)[tag].get("hf_hub", "")))
    # open_clip writes a repository alone, or a file in it, and prefers safetensors of the same stem.
    if len(place.parts) == 2:
        place, names = place / "any", ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"]
    else:
        names = [place.with_suffix(".safetensors").name, place.name]
    found = (try_to_load_from_cache(str(place.parent), name) for name in names)
    return next((Path(file) for file in found if isinstance(file, str)), None)


def fetched_weights(model: str, tag: str) -> Path:
    """Returns the file of published weights, which is downloaded if it is not in the cache.

    Args:
        model: open_clip's name of the model.
        tag: open_clip's name of the weights, one of ``published_weights``.

    Raises:
        InputError: they cannot be fetched; says what to do.
    """
    try:
        found = lean_open_clip().download_pretrained(dict(published_weights(model)[tag]))
    # The hub's client and urllib raise errors of these two kinds.
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"The weights {tag!r} of {model} cannot be fetched ({type(error).__name__}: "
            f"{str(error).splitlines()[0] if str(error) else 'no message'}). Fetch the file on a "
            f"machine that can, and name it: --weights FILE --tag {tag}."
        ) from error
    return Path(found)
