"""Discovery and telemetry, a module for each vendor: which devices this machine has, and how they are.

Nothing here decides anything, starts a program or writes a file.
"""
