"""Sentences to the tokens that a text tower was trained on, and how many of them lose their end."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol, cast

import torch

from cache_schema import InputError
from extract.encoder_spec import EncoderSpec
from extract.model_architecture import ModelArchitecture
from extract.tokenizer_files import tokenizer_folder

# What a configuration may say. open_clip hands everything else to transformers, which has options
# that run code.
_OPTIONS: Final = frozenset({"clean", "strip_sep_token"})


class SentenceTokens(Protocol):
    """Turns sentences into tokens of one length."""

    @property
    def mask_id(self) -> int | None:
        """A token that can stand for a hidden word, because no sentence has it; None without one."""

    def is_word(self, tokens: torch.Tensor) -> torch.Tensor:
        """Returns bool [n, context length]: where a token is part of the sentence."""
        ...

    def tokens(self, texts: Sequence[str]) -> torch.Tensor:
        """Returns int64 [n, context length], padded and cut as in training."""
        ...

    def truncated(self, texts: Sequence[str]) -> int:
        """Returns how many of the texts are longer than the context."""
        ...


def sentence_tokens(spec: EncoderSpec, architecture: ModelArchitecture) -> SentenceTokens:
    """Returns the tokenizer of an encoder's text tower.

    CLIP's own comes with open_clip. Those of SigLIP, CLIPA and MetaCLIP 2 are files, read from
    ``spec.tokenizer`` or the folder of the weights; nothing is downloaded.

    Raises:
        InputError: the files, or transformers, are absent, or the configuration asks for options
            that are not known.
    """
    text_cfg = architecture.text_cfg
    options = cast("Mapping[str, object]", text_cfg.get("tokenizer_kwargs") or {})
    unknown = sorted(set(options) - _OPTIONS)
    if unknown or text_cfg.get("tokenizer_mode"):
        raise InputError(
            f"the configuration of {spec.model} gives the tokenizer options that are not known: "
            f"{unknown or ['tokenizer_mode']}; known are {sorted(_OPTIONS)}"
        )
    folder = tokenizer_folder(spec, architecture)
    if folder is None:
        return _ClipTokens(architecture.context_length, options)
    return _FileTokens(folder, architecture.context_length, options)


def require_vocabulary(
    tokens: torch.Tensor, spec: EncoderSpec, architecture: ModelArchitecture
) -> None:
    """Raises if a tokenizer gives tokens that the text tower does not know.

    Raises:
        InputError: with the largest token, and how many there may be.
    """
    vocabulary = architecture.text_cfg.get("vocab_size", 49408)
    if not isinstance(vocabulary, int) or int(tokens.max()) >= vocabulary:
        raise InputError(
            f"the tokenizer gives token {int(tokens.max())}, and the text tower of {spec.model} knows "
            f"{vocabulary}: the tokenizer belongs to another model"
        )


class _ClipTokens:
    """CLIP's byte-pair encoding: start of text, words, end of text, zeros."""

    def __init__(self, context_length: int, options: Mapping[str, object]) -> None:
        from open_clip.tokenizer import SimpleTokenizer

        self._tokenizer: SimpleTokenizer = SimpleTokenizer(context_length=context_length, **options)
        self._longest = context_length - 2

    @property
    def mask_id(self) -> int:
        # CLIP knows no [MASK]. Its start of text is never inside a sentence, the tower has seen it in
        # every sentence, and it is below the end of text, whose place is found by the largest token.
        return int(self._tokenizer.sot_token_id)

    def is_word(self, tokens: torch.Tensor) -> torch.Tensor:
        # Behind the end stand zeros, and zero is a word's token too.
        behind: torch.Tensor = (tokens == self._tokenizer.eot_token_id).cumsum(-1)
        return (behind == 0) & (tokens != self.mask_id)

    def tokens(self, texts: Sequence[str]) -> torch.Tensor:
        return cast("torch.Tensor", self._tokenizer(list(texts)))

    def truncated(self, texts: Sequence[str]) -> int:
        return sum(len(self._tokenizer.encode(text)) > self._longest for text in texts)


class _FileTokens:
    """A tokenizer that transformers reads from files."""

    def __init__(self, folder: Path, context_length: int, options: Mapping[str, object]) -> None:
        from open_clip.tokenizer import HFTokenizer

        try:
            self._tokenizer = HFTokenizer(
                str(folder), context_length, local_files_only=True, **options
            )
        except ImportError as error:
            raise InputError(
                f"the text tower's tokenizer in {folder} needs transformers ({error}); install "
                "videodistill-cache[tokenizers]"
            ) from error
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise InputError(f"the tokenizer in {folder} cannot be read: {error}") from error
        self._longest = context_length

    @property
    def mask_id(self) -> int | None:
        return cast("int | None", self._tokenizer.tokenizer.mask_token_id)

    def is_word(self, tokens: torch.Tensor) -> torch.Tensor:
        special = torch.tensor(self._tokenizer.tokenizer.all_special_ids, device=tokens.device)
        return ~torch.isin(tokens, special)

    def tokens(self, texts: Sequence[str]) -> torch.Tensor:
        return cast("torch.Tensor", self._tokenizer(list(texts)))

    def truncated(self, texts: Sequence[str]) -> int:
        clean, encode = self._tokenizer.clean_fn, self._tokenizer.tokenizer
        return sum(len(encode(clean(text)).input_ids) > self._longest for text in texts)
