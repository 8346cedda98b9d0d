"""The main job, shown: programs that know nothing of each other share one simulated card.

Two examples run side by side on slices of one card while a table shows what each uses. A third program asks
for more than its share and is refused, and the other two do not notice. The programs check their results
against NumPy. The demonstration ends by itself, with status 0 only if all of that was so.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from rich.console import Console
from rich.live import Live
from rich.table import Table

from aliquot.model import Bytes, Device, Share, format_bytes, format_duration
from aliquot.node import cards, tenancy
from aliquot.vendors import simgpu

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "out"
MIB = 1 << 20
CONTEXT = 512 * MIB  # what a driver takes for a context of a large card, and some room
REFRESH_S = 0.5
LIMIT_S = 240
"""Longer than the slowest machine needs; past it the demonstration has failed."""

console = Console(width=None if sys.stdout.isatty() else 110, highlight=False)


@dataclass
class Tenant:
    """One program, its share, and what is to be shown of it."""

    title: str
    client: str
    share: int
    command: Sequence[str]
    waits: bool = False
    """Starts only when all before it have work on the card."""
    stay: tenancy.Tenancy | None = None
    process: subprocess.Popen[str] | None = None
    output: IO[str] | None = None
    saw_neighbours: bool = False
    """Whether it ran while all the others had work on the card."""
    use: tenancy.Use | None = None

    @property
    def ended(self) -> bool:
        """Whether it ran and has come to its end."""
        return self.process is not None and self.process.poll() is not None

    @property
    def at_work(self) -> bool:
        """Whether it runs and has launched something; one that only takes memory need not launch."""
        launched = self.use is not None and self.use.launches > 0
        return self.process is not None and not self.ended and (launched or self.waits)

    @property
    def state(self) -> str:
        """For the table."""
        if self.process is None:
            return "waits"
        status = self.process.poll()
        return "runs" if status is None else "done" if status == 0 else f"failed ({status})"

    def text(self) -> str:
        """All that it has printed."""
        if self.output is None:
            return ""
        self.output.seek(0)
        return self.output.read()


def python(*arguments: str) -> list[str]:
    """A command that runs an example, as a person would type it."""
    return [sys.executable, *arguments]


def tenants() -> list[Tenant]:
    """Who shares the card."""
    examples = ROOT / "examples"
    return [
        Tenant(
            "nbody.py",
            "numba-cuda",
            CONTEXT + 8 * MIB,
            python(
                str(examples / "nbody.py"),
                "--size",
                "1536",
                "--steps",
                "160",
                "--out",
                str(OUT / "nbody.png"),
            ),
        ),
        Tenant(
            "fluid.py",
            "cuda.core + NVRTC",
            CONTEXT + 8 * MIB,
            python(
                str(examples / "fluid.py"), "--size", "256", "--steps", "120", "--out", str(OUT / "fluid.png")
            ),
        ),
        Tenant(
            "greedy.py",
            "cuda-bindings",
            CONTEXT + 256 * MIB,
            python(str(examples / "greedy.py"), "--ask", "1024", "--piece", "32"),
            waits=True,
        ),
    ]


@contextmanager
def own_machine() -> Iterator[None]:
    """A simulated machine of this demonstration's own, with one card; gone afterwards."""
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    home = tempfile.mkdtemp(prefix="aliquot-demo-", dir=base)
    os.environ["ALIQUOT_SIMGPU_HOME"] = home
    os.environ["ALIQUOT_SIMGPU"] = "h100"
    try:
        yield
    finally:
        shutil.rmtree(home, ignore_errors=True)


def start(tenant: Tenant, device: Device, number: int, stack: ExitStack) -> None:
    """Makes the slice and starts the program on it."""
    tenant.stay = stack.enter_context(tenancy.prepare(device, Share(vram=Bytes(tenant.share)), number=number))
    output = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - the stack closes it
    tenant.output = stack.enter_context(output)
    tenant.process = subprocess.Popen(
        tenant.command,
        env=tenant.stay.environment(os.environ),
        stdout=tenant.output,
        stderr=subprocess.STDOUT,
        text=True,
    )
    stack.callback(stop, tenant.process)


def stop(process: subprocess.Popen[str]) -> None:
    """Ends a program that is still there, as after an interrupt."""
    if process.poll() is None:
        process.kill()
        process.wait()


def bar(part: int, whole: int, width: int = 12) -> str:
    """A part of a whole, drawn."""
    filled = min(width, round(width * part / whole)) if whole else 0
    return "█" * filled + "░" * (width - filled)


def picture(everyone: Sequence[Tenant], elapsed_ns: int) -> Table:
    """The table as it is now. On a narrow terminal the clients' names give way."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    columns = ["program", "client", "", "memory of its limit", "peak", "GPU time", "of the card", "state"]
    wide = console.width >= 100
    for column in columns:
        if wide or column != "client":
            table.add_column(column, no_wrap=True)
    for tenant in everyone:
        cells = row(tenant, elapsed_ns)
        table.add_row(*(cells if wide else [cells[0], *cells[2:]]))
    return table


def row(tenant: Tenant, elapsed_ns: int) -> list[str]:
    """One program's line. When it has ended, the bar shows what it held at most."""
    use = tenant.use
    if use is None:
        nothing = f"0 B of {format_bytes(tenant.share)}"
        return [tenant.title, tenant.client, bar(0, 1), nothing, "", "", "", tenant.state]
    gpu_time = use.gpu_time_ns or 0
    return [
        tenant.title,
        tenant.client,
        bar(use.vram_peak if tenant.ended else use.vram_used, use.vram_limit),
        f"{format_bytes(use.vram_used)} of {format_bytes(use.vram_limit)}",
        format_bytes(use.vram_peak),
        format_duration(gpu_time),
        f"{gpu_time / max(1, elapsed_ns):.0%}",
        tenant.state,
    ]


def run_together(everyone: Sequence[Tenant], device: Device, stack: ExitStack) -> None:
    """Starts each at its time and shows all of them until the last has ended."""
    begin = time.monotonic()
    live = stack.enter_context(Live(console=console, auto_refresh=False)) if console.is_terminal else None
    shown = ""
    while not all(tenant.ended for tenant in everyone):
        elapsed = time.monotonic() - begin
        if elapsed > LIMIT_S:
            raise TimeoutError(f"not done after {LIMIT_S} s")
        for number, tenant in enumerate(everyone, start=1):
            if tenant.process is None and (not tenant.waits or all_work(everyone[: number - 1])):
                start(tenant, device, number, stack)
            if tenant.stay is not None:
                tenant.use = tenant.stay.use()
            others = [other for other in everyone if other is not tenant and not other.waits]
            tenant.saw_neighbours |= tenant.at_work and all(other.at_work for other in others)
        if live:
            live.update(picture(everyone, int(elapsed * 1e9)), refresh=True)
        else:
            shown = say_changes(everyone, elapsed, shown)
        time.sleep(REFRESH_S)
    for tenant in everyone:
        assert tenant.stay is not None
        tenant.use = tenant.stay.use()
    final = picture(everyone, int((time.monotonic() - begin) * 1e9))
    if live:
        live.update(final, refresh=True)
        live.stop()
    else:
        console.print(final)


def all_work(others: Sequence[Tenant]) -> bool:
    """Whether each of them has launched something on the card, or has ended."""
    return all(other.ended or other.at_work for other in others)


def say_changes(everyone: Sequence[Tenant], elapsed: float, before: str) -> str:
    """Where no person watches a terminal: one line whenever a program starts or ends."""
    now = ", ".join(f"{tenant.title} {tenant.state}" for tenant in everyone)
    if now != before:
        console.print(f"{elapsed:5.1f} s  {now}")
    return now


def judge(everyone: Sequence[Tenant]) -> list[str]:
    """What was not as it should be; empty where all was well."""
    faults: list[str] = []
    workers, greedy = everyone[:-1], everyone[-1]
    for tenant in everyone:
        assert tenant.process is not None
        assert tenant.use is not None
        if tenant.process.returncode != 0:
            faults.append(f"{tenant.title} ended with status {tenant.process.returncode}:\n{tenant.text()}")
        if tenant.use.vram_peak > tenant.use.vram_limit:
            faults.append(f"{tenant.title} held more than its limit: {format_bytes(tenant.use.vram_peak)}")
        if not tenant.use.launches and tenant is not greedy:
            faults.append(f"{tenant.title} launched nothing")
        if not tenant.use.gpu_time_ns and tenant is not greedy:
            faults.append(f"{tenant.title} used no time of the card, by the card's own record")
    unchecked = [tenant.title for tenant in workers if "NumPy" not in tenant.text()]
    faults += [f"{title} does not say that it was checked" for title in unchecked]
    if "CUDA_ERROR_OUT_OF_MEMORY" not in greedy.text():
        faults.append(f"{greedy.title} was not refused with CUDA_ERROR_OUT_OF_MEMORY:\n{greedy.text()}")
    faults += [
        f"{each.title} was never on the card with the others" for each in everyone if not each.saw_neighbours
    ]
    left = simgpu.machine().cards[0].vram_used_bytes
    if left:
        faults.append(f"{format_bytes(left)} of the card are still taken though nobody is there")
    return faults


def quote(tenant: Tenant) -> None:
    """What a program said, set off."""
    for line in tenant.text().strip().splitlines():
        console.print(f"  [dim]{tenant.title}:[/] {line}")


def main() -> int:
    """Runs the demonstration; 0 if everything was as it should be."""
    OUT.mkdir(exist_ok=True)
    everyone = tenants()
    with own_machine(), ExitStack() as stack:
        device = cards.available_cards(simulate=True).devices[0]
        title = f"One card for three programs: [bold]{device.name}[/], {format_bytes(device.vram)}\n"
        console.print(title)
        run_together(everyone, device, stack)
        faults = judge(everyone)
        console.print()
        for tenant in everyone:
            quote(tenant)
    console.print()
    if faults:
        for fault in faults:
            console.print(f"[red]wrong:[/] {fault}")
        return 1
    console.print(
        "Both results agree with NumPy; the third got a clean out-of-memory error that harmed nobody."
    )
    console.print("Pictures: out/nbody.png, out/fluid.png. Try next:")
    for command in (
        ". .venv/bin/activate",
        "aliquot run --vram 1Gi -- python examples/reaction_diffusion.py",
        "aliquot simgpu set h100:2 t4:4; aliquot devices",
        "aliquot simgpu processes --all",
    ):
        console.print(f"  {command}", style="cyan")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
