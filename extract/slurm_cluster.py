"""Workers as jobs of a SLURM cluster, by dask-jobqueue: the script of a job, and the jobs."""

# Neither library annotates what it exports.
# mypy: allow-untyped-calls

import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cache_schema import InputError
from extract.slurm_options import SlurmOptions
from extract.worker_environment import WORKER_ENVIRONMENT

if TYPE_CHECKING:
    from dask_jobqueue.slurm import SLURMCluster

JOB_NAME: Final = "videodistill"
_MISSING: Final = (
    "--slurm needs dask-jobqueue and cryptography, which are not installed here: "
    "pip install 'videodistill-cache[slurm]'"
)
# Workers leave before SLURM kills them, so that what they have in hand is no death.
_LAST_SHARE: Final = 0.05
_LAST_SECONDS: Final = 120.0


def job_script(options: SlurmOptions, threads: int) -> str:
    """Returns the script that every job will run; submits nothing and needs no cluster.

    Args:
        options: what SLURM is asked for.
        threads: blocks that a worker may have in hand.

    Raises:
        InputError: dask-jobqueue is not installed.
    """
    try:
        from dask_jobqueue.slurm import SLURMJob
    except ImportError as error:
        raise InputError(_MISSING) from error
    job = SLURMJob(
        scheduler="tls://THIS-MACHINE:PORT",
        name=JOB_NAME,
        **_job_arguments(options, threads),
    )
    return str(job.job_script())


def slurm_cluster(options: SlurmOptions, threads: int) -> "SLURMCluster":
    """Starts a scheduler in this process and submits the jobs.

    All connections are encrypted with keys made for this job, because Dask's messages carry
    programs and the scheduler listens to other machines.

    Args:
        options: what SLURM is asked for.
        threads: blocks that a worker may have in hand.

    Raises:
        InputError: dask-jobqueue, cryptography or sbatch is not here.
    """
    try:
        import cryptography  # noqa: F401 -- Dask makes keys with it
        from dask_jobqueue.slurm import SLURMCluster
        from distributed.security import Security
    except ImportError as error:
        raise InputError(_MISSING) from error
    if shutil.which("sbatch") is None:
        raise InputError(
            "There is no sbatch here: start --slurm on a machine that submits jobs to the cluster, "
            "or add --dry-run to see the job's script."
        )
    folder = Path(options.log_dir).absolute()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    cluster = SLURMCluster(
        n_workers=0,
        security=Security.temporary(),
        shared_temp_directory=str(folder),
        scheduler_options={"dashboard": False},
        **_job_arguments(options, threads),
    )
    cluster.adapt(minimum_jobs=options.jobs, maximum_jobs=options.jobs)
    return cluster


def _job_arguments(options: SlurmOptions, threads: int) -> dict[str, Any]:
    log = shlex.quote(f"{Path(options.log_dir).absolute()}/{JOB_NAME}-%J.log")
    directives = [f"-o {log}", *options.extra]
    if options.qos:
        directives.append(f"--qos={options.qos}")
    if options.gpus:
        directives.append(f"--gres=gpu:{options.gpus}")
    spare = min(_LAST_SECONDS, _LAST_SHARE * options.seconds)
    exports = [f"export {name}={shlex.quote(value)}" for name, value in WORKER_ENVIRONMENT.items()]
    return {
        "job_name": JOB_NAME,
        # Nothing of a person's own Dask configuration: a script is what is shown of it.
        "config_name": "slurm",
        "queue": options.partition or None,
        "account": options.account or None,
        "walltime": options.time,
        "memory": f"{options.memory}iB",
        "job_mem": options.memory,
        "job_cpu": options.cores,
        "processes": options.processes,
        "cores": options.processes * threads,
        "python": shlex.quote(sys.executable),
        "interface": options.interface or None,
        "local_directory": shlex.quote(options.local_dir) if options.local_dir else None,
        "job_extra_directives": directives,
        "job_script_prologue": [*options.prologue, *exports],
        # What a worker holds is bounded by its blocks in hand, which Dask cannot see.
        "worker_extra_args": [
            "--memory-limit",
            "0",
            "--lifetime",
            f"{options.seconds - spare:.0f}s",
        ],
    }
