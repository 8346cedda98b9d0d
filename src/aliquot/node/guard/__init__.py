"""The guard of this machine's cards: looks who is on them, compares, reports, and stops by the rules.

What is wrong is decided by `aliquot.policy.guard`. Here are the looks at the driver, at the slices and at
/proc, the signals, and the loop; no terminal.

    with Guard.of(cards, rules, report=print) as guard:
        guard.run(until=stop)         # or guard.look() now and then
"""

from aliquot.node.guard.events import Event
from aliquot.node.guard.guarding import Guard, GuardError

__all__ = ["Event", "Guard", "GuardError"]
