"""Child processes that end with the command that started them, however that ended."""

import multiprocessing
import os
import threading


def end_with_parent() -> None:
    """Process initializer: a killed parent leaves no one behind that goes on writing files."""
    parent = multiprocessing.parent_process()

    def wait_for_it() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=wait_for_it, name="parent-watch", daemon=True).start()
