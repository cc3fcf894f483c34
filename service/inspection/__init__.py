"""Looks into files that others have made, in a process with little memory, little time and no secrets.

`limited` is the service's side of it. The child, `python -m service.inspection`, turns what it reads into plain arrays.
"""
