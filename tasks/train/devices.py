"""The devices of this machine and their free memory, and this process's place among those that train together."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from tasks.train.config import Device

MIB = 2**20
QUERY = ["nvidia-smi", "--query-gpu=name,memory.total,memory.free", "--format=csv,noheader,nounits"]
CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class MemoryDevice:
    """A GPU, or the processor with its main memory; sizes in bytes."""

    name: str
    kind: Device
    total: int
    free: int


def devices_present() -> tuple[MemoryDevice, ...]:
    return (*_gpus(), _processor())


def training_device(devices: tuple[MemoryDevice, ...]) -> MemoryDevice:
    """The device that training uses: the first GPU, or the processor."""
    return devices[0]


def rank() -> int:
    """This process's number among those that train together; process 0 writes the results."""
    return int(os.environ.get("RANK", "0"))


def local_rank() -> int:
    """This process's number on its machine, which is also its GPU's."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def limit_of_the_container(cgroup: Path) -> tuple[int, int]:
    """Limit and free bytes of the container's memory (the kernel's cgroup-v2.rst); cached files count as free."""
    unlimited = 2**63
    try:
        limit = int((cgroup / "memory.max").read_text(encoding="ascii"))
        used = int((cgroup / "memory.current").read_text(encoding="ascii"))
        lines = (cgroup / "memory.stat").read_text(encoding="ascii").splitlines()
    except (OSError, ValueError):  # no cgroup v2, or "max": no limit
        return unlimited, unlimited
    cached = sum(int(line.split()[1]) for line in lines if line.split()[0] in ("inactive_file", "active_file"))
    return limit, limit - used + cached


def _gpus() -> Iterator[MemoryDevice]:
    if not shutil.which(QUERY[0]):
        return
    done = subprocess.run(QUERY, capture_output=True, text=True, check=False)
    for line in done.stdout.splitlines() if done.returncode == 0 else ():
        name, total, free = (part.strip() for part in line.rsplit(",", 2))
        if total.isdigit() and free.isdigit():
            yield MemoryDevice(name, "cuda", int(total) * MIB, int(free) * MIB)


def _processor() -> MemoryDevice:
    memory = psutil.virtual_memory()
    limit, free = limit_of_the_container(CGROUP)
    total, available = min(memory.total, limit), max(0, min(memory.available, free))
    return MemoryDevice(f"CPU, {os.cpu_count()} cores", "cpu", total, available)
