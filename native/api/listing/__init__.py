"""The list of entry points: its data model, its TOML form, and what reads vendor headers into it.

Only `headers` may import libclang; everything else needs nothing but the standard library, because the build runs it.
Nothing here generates C: that is `emit.py` beside this package.
"""
