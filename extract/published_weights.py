"""What open_clip knows about published weights: their activation and their preprocessing."""

from dataclasses import replace

from cache_schema import InputError
from extract.model_architecture import ModelArchitecture

_PREPROCESS_KEYS = ("mean", "std", "interpolation", "resize_mode")


def with_published(architecture: ModelArchitecture, model: str, tag: str) -> ModelArchitecture:
    """Checks an architecture against a tag of published weights, and takes its preprocessing.

    open_clip itself only warns when the activation does not fit a tag, and is silent, and assumes
    OpenAI's preprocessing, when the weights come from a local file.

    Args:
        architecture: as read from the model's configuration.
        model: open_clip's name of the model.
        tag: open_clip's name of the weights.

    Raises:
        InputError: no such tag, other activation, or a configuration that says otherwise about
            preprocessing.
    """
    import open_clip

    known = open_clip.get_pretrained_cfg(model, tag)
    if not known:
        tags = open_clip.list_pretrained_tags_by_model(model)
        raise InputError(f"open_clip knows no weights {tag!r} of {model}; it knows {tags}")
    if bool(known.get("quick_gelu", False)) != architecture.quick_gelu:
        trained, built = ("with", "without") if known.get("quick_gelu") else ("without", "with")
        raise InputError(
            f"The weights {tag!r} were trained {trained} QuickGELU, and {model} is built {built} "
            f"it: features would be wrong without any error. Use {_twin(model)}."
        )
    published = {key: known[key] for key in _PREPROCESS_KEYS if known.get(key) is not None}
    own = architecture.preprocess_cfg
    for key in published.keys() & own.keys():
        if _plain(published[key]) != _plain(own[key]):
            raise InputError(
                f"The weights {tag!r} were trained with {key} {published[key]}, and the model's "
                f"configuration says {own[key]}."
            )
    return replace(architecture, preprocess_cfg={**published, **own})


def _plain(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def _twin(model: str) -> str:
    suffix = "-quickgelu"
    return model.removesuffix(suffix) if model.endswith(suffix) else model + suffix
