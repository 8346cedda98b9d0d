"""Runs every function `check_*` of a script, in order, and prints one line of JSON about each."""

from __future__ import annotations

import json
import runpy
import sys
import traceback


def main(script: str) -> int:
    """Status 0 if every feature holds."""
    failed = 0
    for name, check in list(runpy.run_path(script).items()):
        if not name.startswith("check_"):
            continue
        failure = None
        try:
            check()
        except Exception:  # noqa: BLE001  whatever the client raises is the answer
            failure = traceback.format_exc()
            failed += 1
        report = {"name": name.removeprefix("check_"), "failure": failure}
        print(f"\nfeature: {json.dumps(report)}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
