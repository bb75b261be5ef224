"""Variables of worker processes, wherever they are started."""

from typing import Final

# One thread for every operation, as in extract.block. Dask would also have workers return freed
# memory to the system at once, and the encoder would then spend 40 % of its time on page faults.
WORKER_ENVIRONMENT: Final = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
}
