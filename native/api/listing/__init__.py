"""The list of entry points: its data model, its TOML form, and what reads vendor headers into it.

Only `headers` may import libclang; everything else needs nothing but the standard library, because the build
runs it. `c_types` and `c_entry_points` write C; `emit.py` beside this package puts their text into files.
"""
