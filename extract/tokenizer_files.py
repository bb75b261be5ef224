"""Where the files of a text tower's tokenizer lie; asked before hours of extraction, so without torch."""

from pathlib import Path
from typing import Final

from cache_schema import InputError
from extract.encoder_spec import EncoderSpec
from extract.model_architecture import ModelArchitecture

_FILES: Final = ("tokenizer.json", "tokenizer_config.json")


def tokenizer_folder(spec: EncoderSpec, architecture: ModelArchitecture) -> Path | None:
    """Returns the folder of the tokenizer's files; None for CLIP's own, which comes with open_clip.

    Raises:
        InputError: the text tower needs files, and they are not there; says how to fetch them.
    """
    name = architecture.text_cfg.get("hf_tokenizer_name")
    if not name:
        return None
    folder = spec.tokenizer or (spec.weights and spec.weights.parent)
    if folder is not None and any((folder / file).is_file() for file in _FILES):
        return folder
    where = f"{folder} has no {_FILES[0]}" if folder else "no folder is named"
    raise InputError(
        f"the text tower of {spec.model} needs the tokenizer {name}, and {where}. Fetch its files "
        f"once (`hf download {name} --include 'tokenizer*' 'special*' --local-dir FOLDER`), and put "
        "them beside the weights or name their folder"
    )
