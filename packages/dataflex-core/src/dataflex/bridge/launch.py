"""Starting ``dataflex train`` or ``dataflex score`` again under torchrun, with LlamaFactory's environment variables."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from types import FrameType

import psutil

from dataflex.config.theirs import is_enabled

_RANK_VARIABLE = "LOCAL_RANK"


def is_rank(environ: Mapping[str, str]) -> bool:
    """Whether this process was started by torchrun."""
    return _RANK_VARIABLE in environ


def wants_torchrun(environ: Mapping[str, str], device_count: Callable[[], int]) -> bool:
    """Whether to start ranks, by LlamaFactory's rule: when forced, or when there are several devices."""
    if is_rank(environ):
        return False
    if any(is_enabled(name, environ=environ) for name in ("FORCE_TORCHRUN", "USE_MCA")):
        return True
    return (
        not is_enabled("USE_RAY", environ=environ) and not is_enabled("USE_KT", environ=environ) and device_count() > 1
    )


def torchrun_command(
    arguments: Sequence[str], environ: Mapping[str, str], device_count: Callable[[], int]
) -> list[str]:
    """The torchrun call that starts this command's ranks, as an argument list.

    Honours NNODES, NODE_RANK, NPROC_PER_NODE, MASTER_ADDR, MASTER_PORT, and RDZV_ID with MIN_NNODES, MAX_NNODES and
    MAX_RESTARTS for elastic runs.

    Args:
        arguments: What each rank's ``dataflex`` gets.
        environ: The environment.
        device_count: Called for NPROC_PER_NODE when it is not set; one process when there is no device.
    """
    nodes = environ.get("NNODES", "1")
    processes = environ.get("NPROC_PER_NODE") or str(max(device_count(), 1))
    address = environ.get("MASTER_ADDR", "127.0.0.1")
    port = environ.get("MASTER_PORT") or str(_free_port())
    head = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", processes]
    if environ.get("RDZV_ID"):
        least, most = environ.get("MIN_NNODES"), environ.get("MAX_NNODES")
        head += ["--nnodes", f"{least}:{most}" if least and most else nodes]
        head += ["--rdzv-id", environ["RDZV_ID"], "--rdzv-backend", "c10d", "--rdzv-endpoint", f"{address}:{port}"]
        head += ["--max-restarts", environ.get("MAX_RESTARTS", "0")]
    else:
        head += ["--nnodes", nodes, "--node-rank", environ.get("NODE_RANK", "0")]
        head += ["--master-addr", address, "--master-port", port]
    return [*head, "-m", "dataflex", *arguments]


def run_ranks(command: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run torchrun and return its exit code.

    SIGTERM goes to the ranks and not to torchrun, which would kill them 30 seconds later, in the middle of a long step
    or of a checkpoint. A rank that was told stops after a whole step, and torchrun ends when all have.
    """
    child = dict(environ)
    if is_enabled("OPTIM_TORCH", "1", environ):
        child["PYTORCH_CUDA_ALLOC_CONF"] = "expandable_segments:True"
        child["TORCH_NCCL_AVOID_RECORD_STREAMS"] = "1"
    torchrun = subprocess.Popen(list(command), env=child)

    def tell_ranks(number: int, frame: FrameType | None) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in psutil.Process(torchrun.pid).children() or [torchrun]:
                process.terminate()

    before = signal.signal(signal.SIGTERM, tell_ranks)
    try:
        return torchrun.wait()
    except KeyboardInterrupt:  # torchrun was interrupted too, and gives its ranks 30 seconds
        with contextlib.suppress(subprocess.TimeoutExpired):
            torchrun.wait(timeout=40)
        raise
    finally:
        torchrun.kill()
        signal.signal(signal.SIGTERM, before)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])
