"""One GPU for each notebook that runs, where there are several."""

import fcntl
import os
import tempfile
from pathlib import Path

DEVICES = Path("/dev")
LOCKS = Path(tempfile.gettempdir())


def visible_gpus() -> list[str]:
    """The NVIDIA GPUs that may be used, as CUDA_VISIBLE_DEVICES names them; without that, all of this machine."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip()]
    return sorted((path.name.removeprefix("nvidia") for path in DEVICES.glob("nvidia[0-9]*")), key=int)


def take_gpu() -> int | None:
    """Leave this process, and those it starts, one of several GPUs: the first that no other of this user's has taken.

    It is held until the returned file descriptor is closed, or the process ends.  None, and nothing changed, where
    there are fewer than two, or all are taken.
    """
    gpus = visible_gpus()
    for gpu in gpus if len(gpus) > 1 else ():
        path = LOCKS / f"zooming_in_{os.getuid()}_gpu_{gpu.replace('/', '_')}.lock"  # another user's cannot be opened
        held = os.open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(held)
        else:
            os.environ["CUDA_VISIBLE_DEVICES"] = gpu
            return held
    return None
