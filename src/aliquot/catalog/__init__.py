"""Facts about accelerators (what a model can do, how much it holds, how it can be partitioned) and the levels
of service.

Data only, from vendors' documents: the files in `data/` name the document of each group of figures. No
discovery and no decisions live here. The simulated GPU's table of cards is generated from the same files.
"""

from aliquot.catalog.loading import CATALOG_DIRECTORY, catalog
from aliquot.catalog.lookup import UnknownModelError, by_key, by_product_name
from aliquot.catalog.models import (
    Board,
    Capability,
    Compute,
    Memory,
    MigLayout,
    MigProfile,
    Model,
    Vendor,
)
from aliquot.catalog.qos import default_qos_level, qos_level, qos_levels

__all__ = [
    "CATALOG_DIRECTORY",
    "Board",
    "Capability",
    "Compute",
    "Memory",
    "MigLayout",
    "MigProfile",
    "Model",
    "UnknownModelError",
    "Vendor",
    "by_key",
    "by_product_name",
    "catalog",
    "default_qos_level",
    "qos_level",
    "qos_levels",
]
