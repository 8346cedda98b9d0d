"""The loop: look, compare, tell what is new, stop by the rules."""

from __future__ import annotations

import os
import resource
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from aliquot.errors import AliquotError, UnavailableError
from aliquot.mechanisms import limiter
from aliquot.model import Device
from aliquot.node.guard.events import Event, of_finding
from aliquot.node.guard.looking import Looker
from aliquot.node.guard.stopping import Stopper
from aliquot.policy.guard import Action, Finding, History, Rules, judge
from aliquot.policy.guard.findings import Key

_MOUNTED_SLICE: Final = Path("/run/aliquot/slice")
_STEP_NS: Final = 50_000_000
"""How often those are looked after who were told to end."""


_BEFORE_WINDOW_NS: Final = 1_200_000_000
"""The driver's figure of compute is of the second before, and looks are not on the dot."""
_OUTCOMES: Final = {Action.REPORT: "reported", Action.STOP: "stopped"}


class GuardError(UnavailableError):
    """The cards cannot be guarded from here."""

    code = "guard-impossible"


class Guard:
    """Compares the processes on some cards with the slices, again and again. A context manager."""

    def __init__(self, devices: Sequence[Device], rules: Rules, report: Callable[[Event], object]) -> None:
        """`report` is called for each event, from within `look`. Raises `GuardError`."""
        _check_outside(os.environ)
        _allow_many_files()
        self.rules = rules
        self.findings: list[Finding] = []
        """Of the last look."""
        self.looks = 0
        self._report = report
        self._looker = Looker(devices, rules)
        self._stopper = Stopper(self._looker, kill_after_ns=rules.kill_after_ns, report=report)
        self._history = History()
        self._told: dict[Key, Finding] = {}
        self._faults: dict[str, str] = {}
        self._unjudged: set[str] = set()

    def __enter__(self) -> Guard:
        return self

    def __exit__(self, *_: object) -> None:
        self._stopper.close()
        self._looker.__exit__()

    @property
    def busy(self) -> bool:
        """Whether somebody has been told to end and has not."""
        return self._stopper.busy

    def look(self) -> list[Finding]:
        """One look, and what follows from it. Never fails for what a process or a card does."""
        snapshot = self._looker.look()
        self._history, self.findings = judge(self._history, snapshot, self.rules)
        if self.looks == 0:
            self._report(self._beginning())
        self.looks += 1
        self._tell_faults()
        self._tell_findings()
        self._stopper.forget(each.process for each in snapshot.occupants)
        for each in self.findings:
            if each.action is Action.STOP:
                self._stopper.stop(each, snapshot.at_ns)
        self._stopper.advance(time.monotonic_ns())
        return self.findings

    def run(self, until: threading.Event) -> None:
        """Looks at the rules' interval until told to end."""
        while not until.is_set():
            next_ns = time.monotonic_ns() + self.rules.interval_ns
            self.look()
            self._wait(until, next_ns)

    def run_once(self) -> list[Finding]:
        """Looks for the grace and the window of compute, and until everybody has ended who is to be stopped.

        Returns all that were found.
        """
        never = threading.Event()
        found = {each.suspicion.key: each for each in self.look()}
        window_ns = self.rules.compute_window_ns + _BEFORE_WINDOW_NS
        end_ns = time.monotonic_ns() + max(self.rules.grace_ns, window_ns)
        begun_ns = 0
        while begun_ns <= end_ns or self.busy:
            self._wait(never, time.monotonic_ns() + self.rules.interval_ns)
            begun_ns = time.monotonic_ns()
            found |= {each.suspicion.key: each for each in self.look()}
        return list(found.values())

    def _beginning(self) -> Event:
        cards = self._looker.cards
        facts = {
            "cards": [each.uuid for each in cards],
            "action": str(self.rules.action),
            "interval_ms": self.rules.interval_ns // 1_000_000,
            "grace_ms": self.rules.grace_ns // 1_000_000,
            "only_uid": self.rules.only_uid,
        }
        whose = "everybody's programs" if self.rules.only_uid is None else "the programs of this user"
        names = ", ".join(f"{each.index} ({each.name})" for each in cards) or "no card"
        text = f"{names} against {whose}; who is found is {_OUTCOMES[self.rules.action]}"
        return Event(name="guarding", text=text, facts=facts)

    def _wait(self, until: threading.Event, next_ns: int) -> None:
        while (left := next_ns - time.monotonic_ns()) > 0:
            if until.wait(min(left, _STEP_NS if self.busy else left) / 1e9):
                return
            self._stopper.advance(time.monotonic_ns())

    def _tell_findings(self) -> None:
        now = {each.suspicion.key: each for each in self.findings}
        for key, finding in now.items():
            if key not in self._told:
                self._report(of_finding("found", finding))
        for key, finding in self._told.items():
            if key not in now:
                self._report(of_finding("gone", finding, "is so no more"))
        self._told = now

    def _tell_faults(self) -> None:
        for card, reason in self._looker.faults.items():
            if card not in self._faults:
                self._report(_of_card("card-lost", card, f"cannot be looked at: {reason}"))
        for card in self._faults:
            if card not in self._looker.faults:
                self._report(_of_card("card-back", card, "can be looked at again"))
        self._faults = dict(self._looker.faults)
        for path in sorted(set(self._looker.unjudged) - self._unjudged):
            text = f"{path}: another version's, or damaged by its owner; its processes are left alone"
            self._report(Event(name="slice-unreadable", text=text, facts={"slice": path}))
        self._unjudged = set(self._looker.unjudged)


def _of_card(name: str, card: str, text: str) -> Event:
    return Event(name=name, text=f"{card}: {text}", facts={"card": card})


def _check_outside(environment: Mapping[str, str]) -> None:
    """Inside a slice NVML shows the slice alone, and everybody else would be overlooked."""
    preloaded = environment.get("LD_PRELOAD", "")
    try:
        ours = any(str(path) in preloaded for path in limiter.libraries())
    except AliquotError:
        ours = False
    if ours or limiter.SLICE_VARIABLE in environment or _MOUNTED_SLICE.exists():
        raise GuardError(
            "this program runs on a slice and sees nothing but that", hint="start the guard outside of slices"
        )


def _allow_many_files() -> None:
    """Each process on a card takes a descriptor: as many as this process may have at all."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
