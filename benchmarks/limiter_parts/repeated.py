"""Runs a program's `main()` in one process, again and again, as it is told.

    python repeated.py PROGRAM.py [ARGUMENT...]

Prints "ready" once the program is imported, and then, for each line that it reads, the seconds that one run
took. Two such processes, one bare and one limited, are compared run by run in turn: whatever else a machine
does meanwhile hits both alike. Started by `programs.py`.
"""

from __future__ import annotations

import contextlib
import gc
import importlib.util
import io
import sys
import time
from collections.abc import Callable
from pathlib import Path


def load(file: Path) -> Callable[[], object]:
    """The `main` of a program. Raises what the program raises when it is imported."""
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = module  # as an import does; numba and dataclasses look there
    spec.loader.exec_module(module)
    return module.main


def run(main: Callable[[], object]) -> float:
    """Seconds that one run took. Ends the process where the program says that it failed."""
    gc.collect()
    said = io.StringIO()
    begin = time.perf_counter()
    with contextlib.redirect_stdout(said):
        status = main()
    took = time.perf_counter() - begin
    if status:
        sys.exit(f"it ended with {status}: {said.getvalue()[-500:]}")
    return took


def serve() -> None:
    """Until the input ends."""
    sys.argv = sys.argv[1:]
    main = load(Path(sys.argv[0]))
    print("ready", flush=True)
    for _ in sys.stdin:
        print(run(main), flush=True)


if __name__ == "__main__":
    serve()
