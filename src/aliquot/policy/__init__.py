"""Decisions over time, as pure functions: what was seen and what the rules say go in, what follows comes out.

No files but the rules that ship with the package, no processes, sockets or clocks: time is an argument. Who
looks at the world, and who acts on what follows, is in `node` and above.
"""
