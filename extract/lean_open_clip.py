"""open_clip without what it loads for models that are refused here."""

import sys
import threading
from types import ModuleType
from typing import cast

_LOADING = threading.Lock()


def lean_open_clip() -> ModuleType:
    """Returns the module; the first call loads it, and torch, in some seconds.

    open_clip loads transformers, where it is installed, for text towers of the Hugging Face hub and
    for captions. Neither is for this project, and it is a quarter of open_clip's time to load.
    Tokenizers that come from transformers load it themselves.
    """
    with _LOADING:
        if "open_clip" not in sys.modules and "transformers" not in sys.modules:
            # Python's own way to say that a module is not there.
            sys.modules["transformers"] = None  # type: ignore[assignment]
            try:
                import open_clip
            finally:
                del sys.modules["transformers"]
        import open_clip
    return cast("ModuleType", open_clip)
