"""Runs the functions `check_*` of a script, all or those named, and prints one line of JSON about each."""

from __future__ import annotations

import json
import runpy
import sys
import traceback


def main(script: str, *wanted: str) -> int:
    """Status 0 if every feature holds."""
    failed = 0
    for name, check in list(runpy.run_path(script).items()):
        feature = name.removeprefix("check_")
        if feature == name or (wanted and feature not in wanted):
            continue
        failure = None
        try:
            check()
        except Exception:  # noqa: BLE001  whatever the client raises is the answer
            failure = traceback.format_exc()
            failed += 1
        report = {"name": feature, "failure": failure}
        print(f"\nfeature: {json.dumps(report)}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
