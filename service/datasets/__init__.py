"""Named, versioned, immutable training data: arrays in a folder of their own, what they are in a table.

`catalogue` knows which there are, `arrivals` how a file becomes one, `arrays` where the numbers lie, `built_in` those
that come with the program.
"""

from service.datasets.built_in import BUILT_IN, furnish
from service.datasets.catalogue import find, names, newest, remove, require_owner, versions

__all__ = ["BUILT_IN", "find", "furnish", "names", "newest", "remove", "require_owner", "versions"]
