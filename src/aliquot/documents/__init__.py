"""What people write, as YAML: claims, and the state of a cluster. Documents are parsed into the model here,
at the edge, or refused with the place and the reason; nothing behind this package sees text.

No files are opened here: text comes in. No decisions.
"""

from aliquot.documents.claims import read_claims
from aliquot.documents.reading import DocumentError
from aliquot.documents.states import Standing, State, read_state
from aliquot.documents.vocabulary import Vocabulary

__all__ = ["DocumentError", "Standing", "State", "Vocabulary", "read_claims", "read_state"]
