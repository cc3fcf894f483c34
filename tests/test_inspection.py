"""What is read from files: the documented readings, and what is refused with a line and clear words."""

import io
import os
import pickle
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from service.errors import FieldProblem, InvalidInput
from service.inspection import archives, tables, texts
from service.inspection.found import Asked, Found
from service.inspection.writing import BLOCK_BYTES

MIB = 1 << 20
INSPECT = {"csv": tables.inspect, "parquet": tables.inspect, "npz": archives.inspect, "text": texts.inspect}

Read = Callable[..., tuple[Found, dict[str, NDArray[Any]]]]
Refused = Callable[..., list[FieldProblem]]


def asked(form: str, **changes: Any) -> Asked:
    usual: dict[str, Any] = {"target": None, "task": None, "mapped": False, "cpu_seconds": 20}
    sizes = {"copies_bytes": 1 << 30, "decoded_bytes": 1 << 30, "memory_bytes": 1 << 30}
    return Asked(**{"format": form, **usual, **sizes, **changes})


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Read:
    """Inspects a file in this process; the limits of the child are tested over HTTP."""
    monkeypatch.chdir(tmp_path)

    def inspect(content: bytes | str, form: str = "csv", **changes: Any) -> tuple[Found, dict[str, NDArray[Any]]]:
        source = tmp_path / "source"
        source.write_bytes(content.encode() if isinstance(content, str) else content)
        for old in tmp_path.glob("*.npy"):
            old.unlink()
        found = INSPECT[form](str(source), asked(form, **changes))
        return found, {path.stem: np.load(path) for path in tmp_path.glob("*.npy")}

    return inspect


@pytest.fixture
def refused(read: Read) -> Refused:
    """The problems of a file that is not taken."""

    def inspect(content: bytes | str, form: str = "csv", **changes: Any) -> list[FieldProblem]:
        with pytest.raises(InvalidInput) as caught:
            read(content, form, **changes)
        return caught.value.problems

    return inspect


def npz(**given: Any) -> bytes:
    file = io.BytesIO()
    np.savez(file, **given)
    return file.getvalue()


def parquet(table: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    pq.write_table(table, file, **options)
    return file.getvalue()


def npy(header: bytes, body: bytes = b"") -> bytes:
    """An NPY file of version 1.0 with any text as its head."""
    head = header + b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + body


def archive(**members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        for name, content in members.items():
            made.writestr(f"{name}.npy", content)
    return file.getvalue()


def test_a_csv_file_has_numbers_categories_dates_and_a_target(read: Read) -> None:
    content = 'age,city,since,label\n31,Rome,2024-01-02,yes\n,"Paris, FR",2024-01-03T12:00:00,no\n4.5,,2024-01-04,no\n'
    found, stored = read(content)
    assert (found.kind, found.task, found.shape, found.rows, found.target) == (
        "table",
        "classification",
        [3],
        3,
        "label",
    )
    assert found.columns == [
        {"name": "age", "type": "number", "missing": 1},
        {"name": "city", "type": "category", "missing": 1, "values": ["Paris, FR", "Rome"]},
        {"name": "since", "type": "date", "missing": 0},
    ]
    assert found.classes == [{"value": 0, "name": "no", "rows": 2}, {"value": 1, "name": "yes", "rows": 1}]
    wanted = [[31, 1, 19724], [np.nan, 0, 19725.5], [4.5, np.nan, 19726]]
    np.testing.assert_array_equal(stored["x"], np.array(wanted, np.float32))
    assert stored["x"].dtype == np.float32
    assert stored["y"].dtype == np.int64
    assert stored["y"].tolist() == [1, 0, 0]


def test_csv_is_read_as_documented(read: Read) -> None:
    """U08: a mark of byte order, CR LF, quotes, empty lines, spaces and empty cells."""
    found, stored = read('\ufeffa, b ,y\r\n 1 ,"two\r\nlines",p\r\n\r\nNA,"say ""hi""",q\r\n"3",,q\r\n')
    assert [column["name"] for column in found.columns] == ["a", "b"]
    assert found.columns[1]["values"] == ['say "hi"', "two\r\nlines"]
    np.testing.assert_array_equal(stored["x"], np.array([[1, 1], [np.nan, 0], [3, np.nan]], np.float32))


def test_a_word_far_below_numbers_makes_their_column_a_category(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.inspection.csv_files.ROW_BYTES", 64)  # several batches
    rows = "".join(f"{row % 7},{row % 2}\n" for row in range(200))
    found, stored = read(f"code,y\n{rows}x1,0\n,1\n")
    assert found.columns == [{"name": "code", "type": "category", "missing": 1, "values": [*"0123456", "x1"]}]
    assert stored["x"][:8, 0].tolist() == [0, 1, 2, 3, 4, 5, 6, 0]
    assert (stored["x"][200, 0], np.isnan(stored["x"][201, 0])) == (7, True)
    zoned = "".join(f"2024-01-0{day}T06:00:00+06:00,{day}\n" for day in (1, 2, 3))
    assert read(f"d,y\n{zoned}")[1]["x"][:, 0].tolist() == [19723, 19724, 19725]
    dates = "".join("2024-01-01,0\n" for _ in range(20))
    assert read(f"d,y\n{rows}{dates}")[0].columns[0]["type"] == "category"


@pytest.mark.parametrize(
    ("target", "options", "task"),
    [
        ([0.5, 1.5, 2.5, 3.5], {}, "regression"),
        ([1.0, 2.0, 1.0, 2.0], {}, "regression"),
        (["b", "a", "b", "a"], {}, "classification"),
        ([True, False, True, True], {}, "classification"),
        ([3, 7, 3, 7], {}, "classification"),
        ([3, 7, 3, 7], {"task": "regression"}, "regression"),
        ([1, 2, 3, 4], {}, "regression"),
        ([1, 2, 3, 4], {"task": "classification"}, "classification"),
    ],
)
def test_the_target_says_what_is_learned(read: Read, target: list[Any], options: dict[str, Any], task: str) -> None:
    """Texts and few integers are classes, other numbers are numbers, and the user has the last word."""
    lines = "\n".join(f"{value},{row}" for row, value in enumerate(target))
    for content, form in (
        (f"y,x\n{lines}".replace("True", "true").replace("False", "false"), "csv"),
        (parquet(pa.table({"y": target, "x": range(4)})), "parquet"),
    ):
        found, stored = read(content, form, **options)
        assert found.task == task
        assert stored["y"].dtype == (np.int64 if task == "classification" else np.float32)
    if target == [3, 7, 3, 7] and task == "classification":
        assert [each["name"] for each in found.classes or ()] == ["3", "7"]


def test_the_target_is_named_or_has_a_usual_name(read: Read, refused: Refused) -> None:
    assert read("a,Label\n1,p\n2,q\n")[0].target == "Label"
    assert read("a,b\n1,p\n2,q\n", target="b")[0].target == "b"
    for content in ("a,b\n1,p\n", "y,label\n1,p\n"):
        (problem,) = refused(content)
        assert (problem.param, problem.code) == ("target", "missing")
        assert problem.hint == f"known here: {content.splitlines()[0].replace(',', ', ')}"
    (problem,) = refused("a,b\n1,p\n", target="c")
    assert (problem.param, problem.code, problem.hint) == ("target", "unknown_column", "known here: a, b")
    assert refused("a,y\n1,p\n2,p\n")[0].code == "one_class"
    assert refused("a,y\n1,p\n2,q\n", task="regression")[0].code == "not_a_number"


@pytest.mark.parametrize(
    ("content", "code", "where"),
    [
        ("", "no_header", "line 1"),
        ("\n1,2\n", "no_header", "line 1"),
        ("a,y\n", "no_rows", ""),
        ("a;y\n1;2\n", "too_few_columns", "line 1"),
        ("a,a,y\n1,2,3\n", "repeated_column", "line 1"),
        (",a,y\n0,1,2\n", "unnamed_column", "line 1"),
        ('"a,y\n1,2\n', "quote", "line 1"),
        ("a\x1b,y\n1,2\n", "column_name", "line 1"),
        (",".join(f"c{number}" for number in range(10_001)), "too_many_columns", "line 1"),
        (",".join(f"c{number}" for number in range(10**6)), "too_many_columns", "line 1"),
        ('a,y\n1,p\n"2\n3,q\n', "quote", "line 3"),
        ('a,y\n1,"p"\n2,"q\n3,r\n', "quote", "line 3"),
        ("a,y\n1,p\n2\n3,q\n", "ragged", "line 3"),
        ('a,y\n"1\n1",p\n2,q,r\n', "ragged", "line 4"),
        ("a,y\n1,p\n\x00,q\n", "nul", "line 3"),
        (b"a,y\n1,p\n\xff,q\n", "not_utf8", "line 3"),
        (b"a,y\n1,p\n2,\xc3", "not_utf8", "line 3"),
        ("a,y\n1,p\n2,q\n".encode("utf-16"), "nul", "line 1"),
        (f"a,y\n1,p\n{'x' * 200_000},q\n", "too_long", "line 3"),
        (f"a,y\n1,p\n2,{'q' * 300}\n", "too_long", "line 3"),
        ("a,y\n1,p\n\n1e39,q\n", "not_finite", "line 4"),
        ("a,y\n1,p\n-inf,q\n", "not_finite", "line 3"),
        ("a,y\n1,p\n2,\n", "missing_values", "line 3"),
        ("a,y\n1,0.5\n2,inf\n", "not_finite", ""),
    ],
)
def test_a_csv_file_that_is_wrong_is_refused_with_its_line(
    refused: Refused, content: str | bytes, code: str, where: str
) -> None:
    """U08."""
    (problem,) = refused(content)
    assert (problem.code, problem.message.startswith(f"{where}: ") or not where) == (code, True), problem
    assert problem.param == ("target" if code == "missing_values" or "0.5" in str(content) else "body")


def test_a_file_that_ends_within_a_character_is_refused_where_a_block_ends_too(refused: Refused) -> None:
    (problem,) = refused(b"a,y\n1,p\n2,".ljust(BLOCK_BYTES - 1, b"\n") + b"\xc3")
    assert (problem.code, problem.message.startswith(f"line {BLOCK_BYTES - 8}: ")) == ("not_utf8", True)


def test_a_column_of_too_many_texts_is_told_with_the_first_that_is_no_number(refused: Refused) -> None:
    rows = "".join(f"{row},{row % 2}\n" for row in range(1200))
    (problem,) = refused(f"price,y\n{rows}1O5,0\n")
    assert problem.code == "too_many_categories"
    assert problem.message.startswith("price has more than 1,000")
    assert problem.hint == "the first that is no number is in line 1202"


def test_parquet_columns_keep_their_types(read: Read) -> None:
    table = pa.table(
        {
            "a": pa.array([1, None, 3], pa.int16()),
            "b": pa.array([0.5, float("nan"), 1.5]),
            "c": pa.array(["x", None, ""]),
            "d": pa.array(["u", "v", "u"]).dictionary_encode(),
            "e": pa.array([True, False, None]),
            "f": pa.array([0, 86_400_000, 43_200_000], pa.timestamp("ms")),
            "target": ["q", "p", "q"],
        }
    )
    found, stored = read(parquet(table), "parquet")
    assert [(column["name"], column["type"], column["missing"]) for column in found.columns] == [
        ("a", "number", 1),
        ("b", "number", 1),
        ("c", "category", 2),
        ("d", "category", 0),
        ("e", "category", 1),
        ("f", "date", 0),
    ]
    nan = np.nan
    wanted = [[1, 0.5, 0, 0, 1, 0], [nan, nan, nan, 1, 0, 1], [3, 1.5, nan, 0, nan, 0.5]]
    np.testing.assert_array_equal(stored["x"], np.array(wanted, np.float32))
    assert stored["y"].tolist() == [1, 0, 1]


class Evil(pa.ExtensionType):  # type: ignore[misc]
    """A type whose bytes a reader may be tempted to make something of."""

    def __init__(self) -> None:
        super().__init__(pa.int64(), "trainbox.evil")

    def __arrow_ext_serialize__(self) -> bytes:
        return b"x"

    @classmethod
    def __arrow_ext_deserialize__(cls, _storage: Any, _serialized: bytes) -> "Evil":
        return cls()


@pytest.mark.parametrize("registered", [True, False])
def test_parquet_with_an_extension_type_is_refused(refused: Refused, registered: bool) -> None:
    column = pa.ExtensionArray.from_storage(Evil(), pa.array([1, 2]))
    content = parquet(pa.table({"a": column, "y": [1, 2]}))
    if registered:
        pa.register_extension_type(Evil())
    try:
        (problem,) = refused(content, "parquet")
    finally:
        if registered:
            pa.unregister_extension_type("trainbox.evil")
    assert problem.code == "extension_type"


def test_parquet_that_is_wrong_or_too_large_is_refused(refused: Refused) -> None:
    """U05."""
    assert refused(b"PAR1 is how it begins", "parquet")[0].code == "damaged"
    whole = parquet(pa.table({"a": range(1000), "y": range(1000)}))
    assert refused(whole[:200] + bytes(len(whole) - 208) + whole[-8:], "parquet")[0].code == "damaged"
    assert refused(parquet(pa.table({"a": [[1], [2]], "y": [1, 2]})), "parquet")[0].code == "wrong_type"
    bomb = parquet(pa.table({"a": np.zeros(10_000_000), "y": np.zeros(10_000_000)}), compression="zstd")
    assert len(bomb) < MIB
    assert refused(bomb, "parquet")[0].code == "too_large"


def test_arrays_of_images_stay_bytes(read: Read) -> None:
    pixels = np.arange(4 * 6 * 5, dtype=np.uint8).reshape(4, 6, 5)
    found, stored = read(npz(x=pixels, y=[7, 3, 7, 5]), "npz")
    assert (found.kind, found.task, found.shape, found.rows) == ("images", "classification", [1, 6, 5], 4)
    assert stored["x"].dtype == np.uint8
    assert stored["x"].shape == (4, 1, 6, 5)
    np.testing.assert_array_equal(stored["x"][:, 0], pixels)
    assert stored["y"].tolist() == [2, 0, 2, 1]
    colours = np.random.default_rng(0).normal(size=(4, 3, 6, 5))
    found, stored = read(npz(x=np.asfortranarray(colours), y=[0.5, 1, 2, 3]), "npz")
    assert (found.task, found.shape) == ("regression", [3, 6, 5])
    assert stored["x"].dtype == np.float32
    np.testing.assert_array_equal(stored["x"], colours.astype(np.float32))


def test_an_archive_may_bring_its_own_validation_split(read: Read) -> None:
    x = np.arange(12, dtype=np.float64).reshape(4, 3)
    x[1, 2] = np.nan
    given = {"x": x, "y": np.array(["b", "a", "b", "a"]), "x_val": x[:2], "y_val": np.array(["c", "a"])}
    found, stored = read(npz(**given), "npz")
    assert (found.rows, found.validation_rows, found.shape) == (4, 2, [3])
    assert [column["missing"] for column in found.columns] == [0, 0, 2]
    assert [each["name"] for each in found.classes or ()] == ["a", "b", "c"]
    assert (stored["y"].tolist(), stored["y_val"].tolist()) == ([1, 0, 1, 0], [2, 0])
    np.testing.assert_array_equal(stored["x_val"], x[:2].astype(np.float32))


def test_plain_arrays_may_stay_in_their_file(read: Read, tmp_path: Path) -> None:
    x = np.arange(12, dtype=np.float32).reshape(4, 3)
    found, stored = read(npz(x=x, y=[0, 1, 0, 1]), "npz", mapped=True)
    assert set(stored) == {"y"}
    place = found.places["x"]
    mapped: NDArray[Any] = np.memmap(tmp_path / "source", place["dtype"], "r", place["offset"], tuple(place["shape"]))
    np.testing.assert_array_equal(mapped, x)
    for other in (x.astype(np.float64), np.asfortranarray(x)):
        assert set(read(npz(x=other, y=[0, 1, 0, 1]), "npz", mapped=True)[1]) == {"x", "y"}


@pytest.mark.parametrize(
    ("given", "param", "code"),
    [
        ({"y": [1, 2]}, "x", "missing"),
        ({"x": np.eye(2)}, "y", "missing"),
        ({"x": np.eye(2), "y": [1, 2], "x_val": np.eye(2)}, "y_val", "missing"),
        ({"x": np.eye(2), "y": [1, 2], "names": [1]}, "body", "unknown_key"),
        ({"x": np.eye(2), "y": [1, 2, 3]}, "y", "wrong_shape"),
        ({"x": np.eye(2), "y": np.eye(2)}, "y", "wrong_shape"),
        ({"x": np.eye(2), "y": np.array(1)}, "y", "wrong_shape"),
        ({"x": np.arange(2), "y": [1, 2]}, "x", "wrong_shape"),
        ({"x": np.zeros((0, 3)), "y": np.zeros(0)}, "x", "wrong_shape"),
        ({"x": np.zeros((2, 8, 8, 3), np.uint8), "y": [1, 2]}, "x", "wrong_shape"),
        ({"x": np.zeros((1, 10_001), np.uint8), "y": [1]}, "x", "too_many_columns"),
        ({"x": np.eye(2), "y": [1, 2], "x_val": np.eye(3), "y_val": [1, 2, 1]}, "x_val", "wrong_shape"),
        ({"x": np.eye(2), "y": [1, 2], "x_val": np.eye(2), "y_val": ["a", "b"]}, "y_val", "wrong_type"),
        ({"x": np.array([["a"], ["b"]]), "y": [1, 2]}, "x", "wrong_type"),
        ({"x": np.eye(2, dtype=complex), "y": [1, 2]}, "x", "wrong_type"),
        ({"x": np.zeros(2, [("a", "f4")]), "y": [1, 2]}, "x", "wrong_type"),
        ({"x": np.array([[1e300], [1]]), "y": [1, 2]}, "x", "not_finite"),
        ({"x": np.full((2, 2, 2), np.nan, np.float32), "y": [1, 2]}, "x", "not_finite"),
        ({"x": np.eye(2), "y": [1, np.nan]}, "y", "missing_values"),
        ({"x": np.eye(2), "y": [1e300, 1]}, "y", "not_finite"),
    ],
)
def test_arrays_that_are_wrong_are_named(refused: Refused, given: dict[str, Any], param: str, code: str) -> None:
    """U06."""
    assert (param, code) in {(problem.param, problem.code) for problem in refused(npz(**given), "npz")}


class Canary:
    """Leaves a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def test_nothing_is_ever_unpickled(refused: Refused, tmp_path: Path) -> None:
    """U06, U09."""
    canary = tmp_path / "canary"
    objects = np.empty(2, object)
    objects[:] = [Canary(canary), Canary(canary)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        content = npz(x=np.eye(2), y=objects)
    assert refused(content, "npz")[0].code == "objects"
    for form in ("npz", "parquet", "csv"):
        assert refused(pickle.dumps(Canary(canary)), form)
    assert refused(archive(x=pickle.dumps(Canary(canary)), y=pickle.dumps(Canary(canary))), "npz")[0].code == "damaged"
    assert not canary.exists()


@pytest.mark.parametrize(
    "header",
    [
        b"{'descr': '<f8', 'fortran_order': False, 'shape': (4000000000, 1000), }",  # 29 TiB
        b"{'descr': '<f8', 'fortran_order': False, 'shape': (-1, 3), }",
        b"{'descr': '<f8', 'fortran_order': False, 'shape': (-1, -1), }",
        b"{'descr': '<f8', 'fortran_order': False, 'shape': (True, 1), }",
        b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }",
        b"{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (1,), }",
        b"{'descr': ('<f8', (4,)), 'fortran_order': False, 'shape': (1, 1), }",
        b"{'descr': '<f8', 'shape': (1, 1), }",
        b"__import__('os').mkdir('canary')",
        b"(" * 9000,
        b"{'descr': '<f8', 'fortran_order': False, 'shape': (1, 1), 'x': " + b"[" * 50 + b"]" * 50 + b"}",
    ],
)
def test_the_head_of_an_array_is_not_believed(refused: Refused, header: bytes, tmp_path: Path) -> None:
    """U06."""
    problems = refused(archive(x=npy(header, b"12345678"), y=npy(header)), "npz")
    assert {problem.param for problem in problems} == {"x", "y"}
    assert not (tmp_path / "canary").exists()


def test_an_archive_that_expands_is_refused_before_it_is_decoded(refused: Refused) -> None:
    """U05: 40 MB in 39 KB, a million members, an archive within an archive, a directory that lies."""
    bomb = io.BytesIO()
    np.savez_compressed(bomb, x=np.zeros((10, 1000, 1000), np.float32), y=np.zeros(10))
    assert refused(bomb.getvalue(), "npz")[0].code == "too_large"
    plain = npz(x=np.eye(2), y=[1, 2])
    assert refused(plain, "npz", decoded_bytes=100)[0].code == "too_large"
    assert refused(archive(x=bomb.getvalue()), "npz")[0].code == "damaged"

    members = io.BytesIO()
    with zipfile.ZipFile(members, "w") as made:
        for number in range(1001):
            made.writestr(str(number), b"")
    assert refused(members.getvalue(), "npz")[0].code == "too_many_members"
    # The end of the archive may say less than its directory holds.
    end = members.getvalue().rfind(b"PK\x05\x06")
    lying = members.getvalue()[: end + 8] + struct.pack("<HH", 1, 1) + members.getvalue()[end + 12 :]
    assert refused(lying, "npz")[0].code in ("unknown_key", "too_many_members", "damaged")
    million = b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 1, 1, 50_000_000, 0, 0)
    assert refused(million, "npz")[0].code == "too_many_members"

    number = plain.find(b"\x93NUMPY") + 130  # of x: its sum is not right any more
    assert refused(plain[:number] + b"!" + plain[number + 1 :], "npz")[0].code == "damaged"
    assert refused(plain[:-30], "npz")[0].code == "damaged"


def test_a_text_is_its_bytes(read: Read, refused: Refused) -> None:
    content = "Grüße\n".encode("latin-1") + bytes(range(256))
    found, stored = read(content, "text")
    assert (found.kind, found.task, found.shape, found.rows) == ("text", "language_modeling", [], len(content))
    assert stored["text"].dtype == np.uint8
    assert stored["text"].tobytes() == content
    found, stored = read(content, "text", mapped=True)
    assert (found.places["text"], stored) == ({"offset": 0, "dtype": "|u1", "shape": [len(content)]}, {})
    assert refused(b"a", "text")[0].code == "too_short"
