"""NPZ archives: x, y and, where the file holds back its own validation split, x_val and y_val. Nothing is unpickled.

Every size is read from the archive's directory and the arrays' heads, and judged, before anything is decoded.
"""

import math
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from service.errors import FieldProblem, InvalidInput
from service.inspection import targets
from service.inspection.found import Asked, Found
from service.inspection.refusals import MOST_COLUMNS, refused, require_decodable
from service.inspection.writing import Writer, blocks, save

KEYS = ("x", "y", "x_val", "y_val")
MOST_MEMBERS = 1000
MOST_DIRECTORY_BYTES = 1 << 20
WHOLE_BYTES = 256 << 20  # of an array that cannot be taken in blocks
HEAD_BYTES = 10_000

# The ends of an archive (PKWARE's APPNOTE, 4.3.14 to 4.3.16), read here because zipfile believes any number in them.
END, END64 = b"PK\x05\x06", b"PK\x06\x06"
LONGEST_END = 22 + 65_535 + 20 + 56


def inspect(path: str, asked: Asked) -> Found:
    """Writes the arrays, those left out that may stay in the file. Raises InvalidInput."""
    with _refusing_damage(), open(path, "rb") as file:
        _check_directory(file)
        with zipfile.ZipFile(file) as archive:
            members = _members(archive, asked, file.seek(0, 2))
            _check_shapes(members)
            learned = _learned(archive, members, asked)
            found = _found(members, learned)
            for name in ("x", "x_val"):
                if name in members:
                    _take(archive, file, members[name], asked, found)
    train = len(members["y"])
    save("y", learned.y[:train])
    if "y_val" in members:
        save("y_val", learned.y[train:])
    return found


@dataclass(frozen=True)
class Member:
    """One array of an archive. head: bytes before its numbers."""

    name: str
    info: zipfile.ZipInfo
    dtype: np.dtype[Any]
    fortran: bool
    shape: tuple[int, ...]
    head: int

    def __len__(self) -> int:
        return self.shape[0] if self.shape else 0

    @property
    def size(self) -> int:
        """Bytes of its numbers."""
        return math.prod(self.shape) * self.dtype.itemsize


@contextmanager
def _refusing_damage() -> Iterator[None]:
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, EOFError, struct.error, NotImplementedError, RuntimeError) as error:
        raise refused(
            "body", "damaged", "this is no NPZ archive, or it is damaged", "numpy.savez writes one"
        ) from error


def _check_directory(file: IO[bytes]) -> None:
    """Before zipfile reads the directory, and makes an object of each entry."""
    size = file.seek(0, 2)
    file.seek(max(0, size - LONGEST_END))
    tail = file.read()
    at = tail.rfind(END)
    if at < 0:
        raise zipfile.BadZipFile
    entries, directory = struct.unpack_from("<HI", tail, at + 10)
    if (at64 := tail.rfind(END64, 0, at)) >= 0:
        entries, directory = struct.unpack_from("<QQ", tail, at64 + 32)
    if entries > MOST_MEMBERS or directory > MOST_DIRECTORY_BYTES:
        raise refused("body", "too_many_members", f"an archive may have {MOST_MEMBERS:,} members")


def _members(archive: zipfile.ZipFile, asked: Asked, file_bytes: int) -> dict[str, Member]:
    members: dict[str, Member] = {}
    problems = []
    for info in archive.infolist():
        name = info.filename.removesuffix(".npy")
        if name not in KEYS or name in members or name == info.filename:
            problems.append(FieldProblem("body", "unknown_key", "it holds more than the arrays x, y, x_val and y_val"))
            continue
        try:
            members[name] = _member(archive, info, name)
        except InvalidInput as error:
            problems += error.problems
    problems += [
        FieldProblem(name, "missing", f"there is no array {name}")
        for name in ("x", "y", *(("x_val", "y_val") if members.keys() & {"x_val", "y_val"} else ()))
        if name not in members and not any(problem.param == name for problem in problems)
    ]
    if problems:
        raise InvalidInput(list({(problem.param, problem.code): problem for problem in problems}.values()))
    decoded = sum(member.info.file_size for member in members.values())
    if not (asked.mapped and all(member.info.compress_type == zipfile.ZIP_STORED for member in members.values())):
        require_decodable(decoded, file_bytes, asked, "numpy.savez writes it without compression")
    return members


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str) -> Member:
    """Its head, which says how large it is. Raises InvalidInput."""
    with archive.open(info) as file:
        try:
            version = np.lib.format.read_magic(file)
            read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
            shape, fortran, dtype = read(file, max_header_size=HEAD_BYTES)
        except Exception as error:  # NumPy evaluates it as a literal, and says in many ways that it is none
            raise refused(name, "damaged", "its head is not that of an array") from error
        head = file.tell()
    if dtype.hasobject:
        raise refused(name, "objects", "it holds Python objects, and nothing is unpickled here", "save plain numbers")
    if dtype.names or dtype.subdtype or dtype.kind not in "biufU":
        raise refused(name, "wrong_type", "it must hold numbers" + (", or texts" if name.startswith("y") else ""))
    member = Member(name, info, dtype, fortran, shape, head)
    if any(type(length) is not int or length < 0 for length in shape) or member.size != info.file_size - head:
        raise refused(name, "wrong_size", "it has not as many bytes as its head says")
    return member


def _check_shapes(members: dict[str, Member]) -> None:
    problems: list[FieldProblem] = []
    for part in ("", "_val") if "x_val" in members else ("",):
        inputs, outputs = members[f"x{part}"], members[f"y{part}"]
        problems += _input_problems(inputs)
        if inputs.shape[1:] != members["x"].shape[1:]:
            problems.append(FieldProblem(inputs.name, "wrong_shape", "its samples have not the shape of those in x"))
        problems += _output_problems(outputs, len(inputs))
    if problems:
        raise InvalidInput(problems)


def _output_problems(outputs: Member, samples: int) -> Iterator[FieldProblem]:
    """y is (samples,), or a column of them."""
    if math.prod(outputs.shape) != len(outputs):
        yield FieldProblem(outputs.name, "wrong_shape", "it must have one value for each sample")
    elif len(outputs) != samples:
        message = f"it has {len(outputs)} values, and there are {samples} samples"
        yield FieldProblem(outputs.name, "wrong_shape", message)
    elif outputs.size > WHOLE_BYTES:
        yield FieldProblem(outputs.name, "too_large", f"it has more than {WHOLE_BYTES >> 20} MiB")


def _input_problems(inputs: Member) -> Iterator[FieldProblem]:
    """x is (samples, columns), (samples, height, width) or (samples, channels, height, width)."""
    shape = inputs.shape
    if inputs.dtype.kind == "U":
        yield FieldProblem(inputs.name, "wrong_type", "it must hold numbers")
    elif len(shape) not in (2, 3, 4) or 0 in shape:
        message = "it must be (samples, columns), (samples, height, width) or (samples, channels, height, width)"
        yield FieldProblem(inputs.name, "wrong_shape", message)
    elif len(shape) == 2 and shape[1] > MOST_COLUMNS:
        yield FieldProblem(inputs.name, "too_many_columns", f"a table may have {MOST_COLUMNS:,} columns")
    elif len(shape) == 4 and shape[3] in (1, 3, 4) and shape[1] > 4:
        hint = "x.transpose(0, 3, 1, 2)"
        yield FieldProblem(inputs.name, "wrong_shape", "the channels come before height and width", hint)
    elif inputs.fortran and inputs.size > WHOLE_BYTES:
        hint = "numpy.ascontiguousarray(x)"
        yield FieldProblem(inputs.name, "too_large", "an array this large must be in C order", hint)


def _learned(archive: zipfile.ZipFile, members: dict[str, Member], asked: Asked) -> targets.Target:
    """The targets of both splits, one behind the other, so that a class has one number in both."""
    values = [_whole(archive, members[name]).reshape(-1) for name in ("y", "y_val") if name in members]
    if len({part.dtype.kind == "U" for part in values}) > 1:
        raise refused("y_val", "wrong_type", "it is not of the type of y")
    both = np.concatenate(values)
    if both.dtype.kind == "b":
        both = both.astype(np.int64)
    if both.dtype.kind == "f" and not np.isfinite(both).all():
        raise refused("y", "missing_values", "a value is NaN or infinite, and cannot be learned")
    return targets.of(both, asked.task, "y", always_classes=len(members["x"].shape) > 2)


def _whole(archive: zipfile.ZipFile, member: Member) -> NDArray[Any]:
    with archive.open(member.info) as file:
        file.read(member.head)
        content = file.read(member.size)
    array: NDArray[Any] = np.frombuffer(content, member.dtype).reshape(
        member.shape, order="F" if member.fortran else "C"
    )
    return array


def _found(members: dict[str, Member], learned: targets.Target) -> Found:
    x = members["x"]
    images = len(x.shape) > 2
    shape = list(x.shape[1:]) if len(x.shape) != 3 else [1, *x.shape[1:]]
    return Found(
        kind="images" if images else "table",
        task=learned.task,
        shape=shape,
        rows=len(x),
        validation_rows=len(members["x_val"]) if "x_val" in members else None,
        columns=[] if images else [{"name": f"x{at}", "type": "number", "missing": 0} for at in range(x.shape[1])],
        classes=learned.classes,
        target="y",
    )


def _take(archive: zipfile.ZipFile, file: IO[bytes], member: Member, asked: Asked, found: Found) -> None:
    """Writes the inputs as they will be read, or only looks through them where they can be read in the file itself."""
    shape = (len(member), *found.shape)
    bytes_stay = found.kind == "images" and member.dtype.kind in "bu" and member.dtype.itemsize == 1
    dtype = np.dtype(np.uint8) if bytes_stay else np.dtype("<f4")
    plain = member.dtype == dtype and not member.fortran and member.info.compress_type == zipfile.ZIP_STORED
    stays = asked.mapped and plain
    with _Nowhere() if stays else Writer(member.name, dtype.str, shape) as writer:
        for block in _rows(archive, member):
            with np.errstate(over="ignore"):  # told by `_look_at`
                samples = np.ascontiguousarray(block, dtype)
            if dtype.kind == "f":
                _look_at(samples, member.name, found)
            writer.write(samples.data)
    if stays:
        offset = _offset(file, member.info) + member.head
        found.places[member.name] = {"offset": offset, "dtype": dtype.str, "shape": list(shape)}


def _look_at(samples: NDArray[Any], name: str, found: Found) -> None:
    """Counts the empty cells of a table. Raises InvalidInput for what no model can take."""
    empty = np.isnan(samples)
    if np.isinf(samples).any() or (found.kind == "images" and empty.any()):
        raise refused(name, "not_finite", "a number is not finite, or too large for float32")
    if found.kind == "table":
        for column, count in zip(found.columns, empty.sum(axis=0).tolist(), strict=True):
            column["missing"] += count


class _Nowhere:
    """A writer for an array that stays where it is."""

    def write(self, content: bytes | memoryview) -> None:
        pass

    def __enter__(self) -> "_Nowhere":
        return self

    def __exit__(self, *_: object) -> None:
        pass


def _rows(archive: zipfile.ZipFile, member: Member) -> Iterator[NDArray[Any]]:
    """The samples, some at a time: arrays of shape (some, ...)."""
    if member.fortran:
        yield _whole(archive, member)
        return
    sample = member.size // len(member)
    with archive.open(member.info) as file:
        file.read(member.head)
        for block in blocks(file, member.size, sample):
            yield np.frombuffer(block, member.dtype).reshape(-1, *member.shape[1:])


def _offset(file: IO[bytes], info: zipfile.ZipInfo) -> int:
    """Where the content of a stored member begins, behind its own header (APPNOTE 4.3.7)."""
    file.seek(info.header_offset + 26)
    name, extra = struct.unpack("<HH", file.read(4))
    return info.header_offset + 30 + int(name) + int(extra)
