"""Any share of any accelerator, enforced, measured and billed.

This package holds the control plane; the libraries that enforce a share inside other programs are native and
lie in `aliquot._native` (see `aliquot.native`). Imports go downward only: cli -> node -> mechanisms, vendors
-> catalog -> model. `pyproject.toml` states the layers as contracts, and `make lint` and a test check them.
"""

from importlib import metadata

try:
    __version__: str = metadata.version("aliquot")
except metadata.PackageNotFoundError:  # the tree on PYTHONPATH, without an installation
    __version__ = "0+uninstalled"

__all__ = ["__version__"]
