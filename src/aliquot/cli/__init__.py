"""The `aliquot` command. It reads arguments, calls the layers below, and shows what they return.

No decision about devices, shares or programs is taken here; only this package and `aliquot.bench` know a
terminal.
"""
