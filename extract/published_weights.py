"""What open_clip knows about published weights: their activation and their preprocessing."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from cache_schema import InputError
from extract.lean_open_clip import lean_open_clip
from extract.model_architecture import ModelArchitecture

OWN_WEIGHTS: Final = "own"
"""Stands for weights that nobody published, trained with the model as open_clip builds it."""

_PREPROCESS_KEYS: Final = ("mean", "std", "interpolation", "resize_mode")
_TAGS_NAMED: Final = 8


def with_published(
    architecture: ModelArchitecture, model: str, tag: str | None
) -> ModelArchitecture:
    """Checks an architecture against published weights, and takes their preprocessing.

    open_clip itself only warns when the activation does not fit a tag, and is silent, and assumes
    OpenAI's preprocessing, when the weights come from a local file.

    Args:
        architecture: as read from the model's configuration.
        model: open_clip's name of the model.
        tag: open_clip's name of the weights; ``own`` for weights of one's own; None where nobody
            said, which will do if all published weights of the model agree.

    Raises:
        InputError: no such tag, other activation, a configuration that says otherwise about
            preprocessing, or no tag where the published weights disagree.
    """
    known = published_weights(model)
    if tag is None or tag == OWN_WEIGHTS:
        if not known:
            return architecture
        published = _agreed(architecture, model, known, own=tag == OWN_WEIGHTS)
    elif tag in known:
        _require_activation(architecture, model, tag, known[tag])
        published = _preprocessing(known[tag])
    else:
        raise InputError(f"open_clip knows no weights {tag!r} of {model}; it knows {list(known)}")
    own = architecture.preprocess_cfg
    for key in published.keys() & own.keys():
        if _plain(published[key]) != _plain(own[key]):
            raise InputError(
                f"The weights {tag!r} were trained with {key} {published[key]}, and the model's "
                f"configuration says {own[key]}."
            )
    return replace(architecture, preprocess_cfg={**published, **own})


def published_weights(model: str) -> dict[str, Mapping[str, object]]:
    """Returns what open_clip knows about the published weights of a model, by their tag."""
    open_clip = lean_open_clip()
    tags = open_clip.list_pretrained_tags_by_model(model)
    return {tag: open_clip.get_pretrained_cfg(model, tag) for tag in tags}


def _agreed(
    architecture: ModelArchitecture,
    model: str,
    known: Mapping[str, Mapping[str, object]],
    *,
    own: bool,
) -> dict[str, object]:
    fitting = [tag for tag, cfg in known.items() if _has_quick_gelu(cfg) == architecture.quick_gelu]
    if not own and len(fitting) < len(known):
        built = "with" if architecture.quick_gelu else "without"
        others = [tag for tag in known if tag not in fitting]
        raise InputError(
            f"open_clip builds {model} {built} QuickGELU, and some of the weights that are "
            f"published for it want the opposite ({_few(others)}): features would be wrong without "
            f"any error. Say which weights the file holds: one of {_few(fitting)}; a tag of "
            f"{_twin(model)}; or {OWN_WEIGHTS!r} for weights trained {built} QuickGELU."
        )
    rules = [_preprocessing(known[tag]) for tag in fitting]
    if any(rule != rules[0] for rule in rules):
        raise InputError(
            f"The published weights of {model} differ in their preprocessing. Say which weights "
            f"the file holds: one of {_few(fitting)}. For weights of your own, give a model "
            "configuration with preprocess_cfg."
        )
    return rules[0] if rules else {}


def _require_activation(
    architecture: ModelArchitecture, model: str, tag: str, known: Mapping[str, object]
) -> None:
    if _has_quick_gelu(known) == architecture.quick_gelu:
        return
    trained, built = ("with", "without") if _has_quick_gelu(known) else ("without", "with")
    raise InputError(
        f"The weights {tag!r} were trained {trained} QuickGELU, and {model} is built {built} "
        f"it: features would be wrong without any error. Use {_twin(model)}."
    )


def _has_quick_gelu(known: Mapping[str, object]) -> bool:
    return bool(known.get("quick_gelu", False))


def _preprocessing(known: Mapping[str, object]) -> dict[str, object]:
    return {key: known[key] for key in _PREPROCESS_KEYS if known.get(key) is not None}


def _plain(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def _few(tags: list[str]) -> str:
    named = ", ".join(tags[:_TAGS_NAMED])
    return named + (", ..." if len(tags) > _TAGS_NAMED else "")


def _twin(model: str) -> str:
    suffix = "-quickgelu"
    return model.removesuffix(suffix) if model.endswith(suffix) else model + suffix
