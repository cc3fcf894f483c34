"""The limited child: the file on standard input, the arrays into the working folder, what was found to standard output.

It begins by giving up what it does not need, before a byte of the file is looked at.
"""

import errno
import json
import resource
import sys
from dataclasses import asdict
from typing import Any

from service.errors import FieldProblem, InvalidInput
from service.inspection.found import Asked, Found

SOURCE = "/dev/stdin"
OPEN_FILES = 64


def main() -> None:
    asked = Asked.from_json(sys.argv[1])
    for limit, most in (
        (resource.RLIMIT_CPU, asked.cpu_seconds),
        # Of the data segment, not of addresses: a file that is only mapped takes none.
        (resource.RLIMIT_DATA, asked.memory_bytes),
        (resource.RLIMIT_FSIZE, asked.copies_bytes),
        (resource.RLIMIT_NOFILE, OPEN_FILES),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (most, most))
    answer: dict[str, Any]
    try:
        answer = {"found": asdict(_inspect(asked))}
    except InvalidInput as error:
        answer = {"problems": [problem.as_dict() for problem in error.problems]}
    except MemoryError:
        answer = {"problems": [_too_large(asked).as_dict()]}
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        answer = {"full": True}
    json.dump(answer, sys.stdout)


def _inspect(asked: Asked) -> Found:
    # Each imported alone: pyarrow takes a third of a second and many megabytes, and only tables need it.
    match asked.format:
        case "csv" | "parquet":
            from service.inspection import tables

            return tables.inspect(SOURCE, asked)
        case "npz":
            from service.inspection import archives

            return archives.inspect(SOURCE, asked)
        case _:
            from service.inspection import texts

            return texts.inspect(SOURCE, asked)


def _too_large(asked: Asked) -> FieldProblem:
    message = f"to read it takes more than {asked.memory_bytes >> 20} MiB of memory"
    return FieldProblem("body", "too_large", message, "write it with smaller row groups or pages, or uncompressed")


if __name__ == "__main__":
    main()
