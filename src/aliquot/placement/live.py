"""Answers about each device that are kept up to date by looking again at those that changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable


class Touched:
    """Which devices changed, in order, so that many can follow at their own pace."""

    def __init__(self, devices: int) -> None:
        self._log: list[int] = []
        self._keep = 4 * devices + 1024
        self.epoch = 0
        """Rises when the log begins anew; who has followed an older one looks at everything again."""

    def add(self, flat: int) -> None:
        """A device changed."""
        if len(self._log) >= self._keep:
            self._log.clear()
            self.epoch += 1
        self._log.append(flat)

    def since(self, position: int) -> list[int]:
        """Those that changed after a position of the same epoch."""
        return self._log[position:]

    @property
    def position(self) -> int:
        """Where the log ends now."""
        return len(self._log)


class Live:
    """One byte for each device, by a function of the device's state."""

    def __init__(
        self,
        touched: Touched,
        devices: int,
        value: Callable[[int], int],
        *,
        also: Callable[[int], Iterable[int]] | None = None,
    ) -> None:
        """`also` names the devices whose value depends on the one that changed."""
        self._touched, self._value, self._also = touched, value, also
        self._values = bytearray(devices)
        self._position, self._epoch = 0, -1
        self._bytes = b""

    def values(self) -> bytes:
        """As of now."""
        if self._epoch != self._touched.epoch:
            self._values = bytearray(self._value(flat) for flat in range(len(self._values)))
            self._bytes = bytes(self._values)
        elif self._position != self._touched.position:
            self._follow()
        self._position, self._epoch = self._touched.position, self._touched.epoch
        return self._bytes

    def _follow(self) -> None:
        changed = False
        for flat in dict.fromkeys(self._touched.since(self._position)):
            for each in (flat, *self._also(flat)) if self._also else (flat,):
                value = self._value(each)
                changed |= value != self._values[each]
                self._values[each] = value
        if changed:
            self._bytes = bytes(self._values)
