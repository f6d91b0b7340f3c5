"""Describe the machine and write tables between the marks of a document."""

import os
import platform
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

HERE = Path(__file__).parent
PERFORMANCE = HERE.parent / "docs" / "performance.md"


def busy_seconds() -> float:
    """Return the processor time of all programs since the machine started (Linux)."""
    user, nice, system, _, _, irq, soft, *_ = map(
        int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    )
    return (user + nice + system + irq + soft) / os.sysconf("SC_CLK_TCK")


def cores_of_others() -> float:
    """Return how many cores other programs keep busy, watched for a second.

    Not the load average, which a benchmark itself raises for minutes. Elsewhere than on
    Linux it has to do.
    """
    if not Path("/proc/stat").is_file():
        return os.getloadavg()[0]
    busy, begin = busy_seconds(), time.perf_counter()
    time.sleep(1)
    return (busy_seconds() - busy) / (time.perf_counter() - begin)


def machine() -> dict[str, object]:
    """Return what a result file says of the machine."""
    flags, name = "", platform.processor()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        lines = [line.partition(":") for line in info.read_text().splitlines()]
        known = {key.strip(): value.strip() for key, _, value in lines}
        flags, name = known.get("flags", ""), known.get("model name", name)
    return {
        "processor": name,
        "avx512": "avx512f" in flags.split(),
        "native_bfloat16": "avx512_bf16" in flags.split(),
        "cores": os.cpu_count(),
        "platform": platform.platform(),
        "python": platform.python_version(),
    }


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def rewrite(path: Path, name: str, text: str) -> None:
    """Put text between the marks of `name` in a document.

    Raises
    ------
    SystemExit
        If the marks are not there.
    """
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    whole = path.read_text(encoding="utf-8")
    if begin not in whole or end not in whole:
        raise SystemExit(f"{path} has no marks {begin} and {end}.")
    before, rest = whole.split(begin)
    after = rest.split(end)[1]
    path.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")
