"""How names are written: the patterns, and what each says in words."""

from service.ids import ID_PATTERN

NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"
DATASET = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}(@[1-9][0-9]{0,8})?$"
METRIC = r"^[A-Za-z0-9_./:@%()+=, -]{1,128}$"

WORDS = {
    NAME: "a name has 1 to 64 letters, digits, dots, hyphens and underscores, and begins with a letter or a digit",
    DATASET: "write NAME or NAME@VERSION; a name has letters, digits, dots, hyphens and underscores",
    METRIC: "the name of a metric has 1 to 128 letters, digits, spaces and _./:@%()+=,-",
    ID_PATTERN: "an id has 8 to 36 lower-case letters, digits and hyphens",
}
