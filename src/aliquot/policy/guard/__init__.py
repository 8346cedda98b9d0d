"""Who is on a card, by the driver's own figures, against who holds a slice of it: a pure comparison.

Preloading the limiter is for the willing. Whoever goes past it is on the card nevertheless, and the driver
says so. `Snapshot` is what was seen at one moment, by the driver and in the slices' accounts; `judge` adds it
to a `History` and says who has been in the wrong for longer than the rules' grace. Nothing here looks or
acts: `aliquot.node.guard` does.

    history = History()
    history, findings = judge(history, snapshot, rules)
"""

from aliquot.policy.guard.data import CardTerms, Claim, FileId, Identity, Occupant, SliceView, Snapshot
from aliquot.policy.guard.findings import Finding, Kind
from aliquot.policy.guard.history import History
from aliquot.policy.guard.judging import judge
from aliquot.policy.guard.membership import slice_of
from aliquot.policy.guard.rules import Action, DeviceRule, Exemption, Rules, default_rules, parse_rules

__all__ = [
    "Action",
    "CardTerms",
    "Claim",
    "DeviceRule",
    "Exemption",
    "FileId",
    "Finding",
    "History",
    "Identity",
    "Kind",
    "Occupant",
    "Rules",
    "SliceView",
    "Snapshot",
    "default_rules",
    "judge",
    "parse_rules",
    "slice_of",
]
