"""A process that has imported everything, and runs commands in forks of itself.

Each request, a line of JSON on standard input, is one command of cellunet with the
moment at which something happens to it; the answer, a line of JSON, tells how it ended.
A fork begins within milliseconds, where a new process would import torch for seconds.

What happens, happens at one of the events that Python and cellunet raise anyway
(`sys.addaudithook`): a file opened for writing, renamed or removed, a folder made, and
``cellunet.write`` and ``cellunet.commit``. So nothing is built into cellunet for it.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGES = {
    "open",
    "os.rename",
    "os.remove",
    "os.mkdir",
    "os.rmdir",
    "os.truncate",
    "cellunet.write",
    "cellunet.commit",
}


class Moments:
    """Counts the events below a folder, and does something at one of them."""

    def __init__(self, request: dict[str, Any], told: int) -> None:
        self.root, self.at = request["root"], request.get("at")
        self.what = request.get("what", "kill")
        self.told, self.count = told, 0
        self.matching = request.get("matching", "")
        self.happened = False

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        """Take note of an event; the audit hook."""
        if event not in CHANGES or not args or self.happened:
            return
        path = os.fsdecode(args[0]) if isinstance(args[0], str | bytes) else ""
        if not path.startswith(self.root) or self.matching not in f"{event} {path}":
            return
        if event == "open" and not (isinstance(args[2], int) and args[2] & WRITING):
            return
        self.count += 1
        if self.told >= 0:
            below = path[len(self.root) :]
            os.write(self.told, f"{event} {below}\n".encode())
        if self.count == self.at or self.at == "all":
            # Once, lest the tidying up is hit as well; a full disk stays full.
            self.happened = self.at != "all"
            self.happen(path)

    def happen(self, path: str) -> None:
        """Kill the process, send it a signal, or let the system refuse."""
        if self.what == "remove":
            shutil.rmtree(self.root)
        elif self.what == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif self.what.startswith("SIG"):
            name, *twice = self.what.split()
            for _ in range(1 + len(twice)):
                signal.raise_signal(getattr(signal, name))
        else:
            number = getattr(errno, self.what)
            raise OSError(number, os.strerror(number), path)


def tiny_presets() -> None:
    """Add a preset whose training takes a blink, and few constants to choose from."""
    from cellunet.config import AugmentConfig
    from cellunet.presets import PRESETS
    from tests.networks import TINY, few_candidates

    PRESETS["tiny"] = TINY.replace(
        preset="tiny",
        augment=AugmentConfig(intensity_probability=0.2),
        epochs=3,
        steps_per_epoch=3,
        average_decay=0.9,
    )
    few_candidates(setattr)


def child(request: dict[str, Any], told: int) -> int:
    """Run the command; the fork's whole life."""
    from cellunet.cli.app import main

    os.environ.update(request.get("env", {}))
    for number, name in ((1, "out"), (2, "err")):
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        os.dup2(os.open(request[name], flags, 0o600), number)
    sys.addaudithook(Moments(request, told))
    return main(request["argv"])


def processor_s(pid: int) -> float:
    """Return the seconds of the processor that a process took so far."""
    stat = Path(f"/proc/{pid}/stat")
    if not stat.exists():
        return 0.0
    fields = stat.read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def serve(request: dict[str, Any]) -> dict[str, Any]:
    """Fork, wait, and tell how it ended."""
    told = os.open(request["events"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    begin = time.monotonic()
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            code = child(request, told)
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)
    os.close(told)
    due = [begin + s for s in request.get("after_s", [])]
    number = getattr(signal, request.get("signal", "SIGKILL"))
    sent: list[float] = []
    limit = begin + request.get("limit_s", 60)
    while True:
        done, status, used = os.wait4(pid, os.WNOHANG)
        now = time.monotonic()
        if done:
            break
        if due and now >= due[0]:
            due.pop(0)
            sent.append(processor_s(pid))
            os.kill(pid, number)
        if now > limit:
            limit += 3600
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.001)
    return {
        "code": os.waitstatus_to_exitcode(status),
        "seconds": now - begin,
        "after_signal_s": used.ru_utime + used.ru_stime - sent[-1] if sent else None,
    }


def work() -> None:
    """Answer requests until there are no more."""
    import torch
    from matplotlib.figure import Figure

    import cellunet.core.checkpoint
    import cellunet.tasks.predict.batch
    import cellunet.tasks.train.train  # noqa: F401
    from cellunet.cli.app import make_app
    from cellunet.engine import runtimes as ort
    from cellunet.outputs.charts import svg

    # What a training loads when it gets there: once, not in every fork.
    torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))])
    figure = Figure()
    figure.text(0, 0, "a")
    svg(figure, "")
    ort.load_onnxruntime()
    # All commands are imported with it.
    make_app()
    torch.set_num_threads(1)
    tiny_presets()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        sys.stdout.write(json.dumps(serve(json.loads(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    work()
