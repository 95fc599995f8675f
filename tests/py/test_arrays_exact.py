"""Arrays arrive as they were sent, item for item and byte for byte, or are refused."""

from __future__ import annotations

import array
import ctypes
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from atoll import Channel, Interpreter, NotShareableError, SharedArray, SharedBuffer

np: Any = pytest.importorskip("numpy")

# From this size on a buffer is a block of its own, and is lent where it is read-only.
LARGE = 40_000
SIZES = (1, 7, LARGE)
FORMATS = "?bBhHiIlLqQnNefd"


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[Interpreter]:
    with Interpreter() as interpreter:
        yield interpreter


def sent(value: Any) -> Any:
    channel = Channel()
    channel.send(value)
    return channel.recv()


# ---- the items of shared arrays --------------------------------------------------------

HELD = [
    *(f"{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8)),
    *("b1", "f2", "f4", "f8", "c8", "c16"),
]


@pytest.mark.parametrize("code", HELD)
def test_a_type_that_is_held_is_that_type(code: str) -> None:
    dtype = np.dtype(code)
    spellings = [code, "<" + code, "=" + code, dtype, dtype.type, dtype.name]
    spellings += [dtype.char, dtype.newbyteorder("<")]
    for spelling in spellings:
        shared = SharedArray((2, 3), spelling)
        for view in (
            np.asarray(shared),
            np.from_dlpack(shared),
            sent(np.array(shared)),
        ):
            assert view.dtype == dtype and view.dtype.isnative, spelling
            assert view.shape == (2, 3) and view.nbytes == shared.nbytes
        assert np.dtype(shared.dtype) == dtype
        values = np.arange(6).reshape(2, 3).astype(dtype)
        np.asarray(shared)[:] = values
        assert np.asarray(sent(shared)).tobytes() == values.tobytes()


@pytest.mark.parametrize("format", FORMATS)
def test_the_formats_of_the_struct_module(format: str) -> None:
    shared = SharedArray(3, format)
    view = memoryview(shared)
    assert view.itemsize == memoryview(bytes(8)).cast(format).itemsize  # type: ignore[call-overload]
    wanted = np.frombuffer(memoryview(bytes(8)).cast(format), format).dtype  # type: ignore[call-overload]
    assert np.asarray(shared).dtype == wanted


@pytest.mark.parametrize("code", ["i2", "u4", "i8", "f2", "f8", "c8", "c16"])
def test_the_other_byte_order_is_refused_with_ways_out(code: str) -> None:
    foreign = np.dtype(code).newbyteorder(">")
    for spelling in (foreign, ">" + code, "!" + code):
        with pytest.raises(TypeError, match="other byte order") as caught:
            SharedArray(4, spelling)
        assert np.dtype(code).name in str(caught.value)
    values = np.arange(4).astype(foreign)
    # Both ways out that the message names.
    shared = SharedArray(4, np.dtype(code).name)
    np.asarray(shared)[:] = values
    assert (np.asarray(shared) == values).all()
    buffer = SharedBuffer(values.nbytes)
    np.frombuffer(buffer, foreign)[:] = values
    assert bytes(sent(buffer)) == values.tobytes()


def test_an_order_of_single_bytes_is_none() -> None:
    for code in (">u1", ">b", "|i1", ">?", np.dtype(">i1")):
        assert memoryview(SharedArray(2, code)).itemsize == 1


def not_held() -> list[Any]:
    return [
        *("U5", "S5", "S1", "c", "O", "V8", "M8[ns]", "m8", "g", "f16", "c32", "<l"),
        *("=L", ">n", "", " ", "int8\0", "\ud800", "f8 ", "i 4", "f08", "float128"),
        *(object, str, bytes, None, 3, 1.5, b"f8", ["f8"], np.float64(3), np.zeros(2)),
        *(np.longdouble, np.clongdouble, np.number, np.str_, np.datetime64),
        *map(np.dtype, ("U5", "S5", "O", "V8", "M8[D]", "m8[s]", "longdouble")),
        np.dtype([("a", "i4"), ("b", "f8")]),
        np.dtype(("f8", (2,))),
        # A float64 for all that its name and size say.
        np.dtype((np.float64, [("low", "i4"), ("high", "i4")])),
        type("float64", (), {"name": "float64"})(),
    ]


@pytest.mark.parametrize("dtype", not_held(), ids=repr)
def test_what_is_not_held_is_refused(dtype: Any) -> None:
    with pytest.raises(TypeError, match="no item type that can be shared: bool, "):
        SharedArray(2, dtype)


@pytest.mark.parametrize("spelling", ["U5", "M8[ns]", "g", [("a", ">i4"), ("b", "f8")]])
def test_a_shared_buffer_holds_what_an_array_does_not(
    spelling: Any, elsewhere: Interpreter
) -> None:
    dtype = np.dtype(spelling)
    buffer = SharedBuffer(3 * dtype.itemsize)
    np.frombuffer(buffer, dtype)[1] = np.ones(1, dtype)[0]

    def read(buffer: SharedBuffer, dtype: Any) -> Any:
        import numpy

        return numpy.frombuffer(buffer, dtype).copy()

    there = elsewhere.call(read, buffer, dtype)
    assert there.dtype == dtype
    assert (there == np.frombuffer(buffer, dtype)).all()


def test_an_error_of_an_attribute_is_told() -> None:
    class Broken:
        @property
        def name(self) -> str:
            raise LookupError("no name today")

    with pytest.raises(LookupError):
        SharedArray(2, Broken())


def test_dlpack_is_of_this_memory_and_this_device() -> None:
    shared = SharedArray(3, "f4")
    for wanted in (None, (1, 0)):
        assert np.from_dlpack(shared).dtype == np.float32
        assert shared.__dlpack__(dl_device=wanted) is not None
    with pytest.raises(BufferError):
        shared.__dlpack__(dl_device=(2, 0))
    with pytest.raises(TypeError):
        shared.__dlpack__(dl_device="cuda")
    shared.release()
    with pytest.raises(ValueError, match="transferred or released"):
        shared.__dlpack__()


# ---- arrays in messages ----------------------------------------------------------------


def bits(given: Any) -> Any:
    """Every bit of every item, without what lies between fields: a copy leaves that."""
    if given.dtype.names is None:
        return given.tobytes()
    return {name: bits(given[name]) for name in given.dtype.names}


def exact(got: Any, given: Any) -> None:
    """The same array, though it may lie otherwise in memory."""
    assert type(got) is type(given)
    assert got.dtype == given.dtype and got.dtype.str == given.dtype.str
    assert got.shape == given.shape
    assert got.flags.writeable == given.flags.writeable
    if given.dtype.hasobject:
        assert got.tolist() == given.tolist()
    else:
        assert bits(got) == bits(given)


def frozen(given: Any) -> Any:
    given.flags.writeable = False
    return given


CODES = [
    *HELD,
    ">i2",
    ">f8",
    ">c16",
    "g",
    ">f16",
    "G",
    "U3",
    ">U3",
    "S5",
    "V5",
    "M8[ns]",
]
CODES += [">M8[25s]", "m8[D]", ">m8[ms]"]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("code", CODES)
def test_an_array_of_any_type_and_layout(code: str, size: int) -> None:
    numbers = np.arange(2 * size, dtype="i8") % 1000
    flat = numbers.astype("S5" if code == "V5" else code)
    flat = flat.view(code) if code == "V5" else flat
    table = flat.reshape(2, size)
    padded = np.frombuffer(bytearray(flat.nbytes + 1), flat.dtype, 2 * size, 1)
    for given in (
        flat,
        flat[::2],
        flat[::-1],
        table,
        table.T,
        np.asfortranarray(table),
        table[:, ::-1],
        table[1:, ::2],
        flat.reshape(2, size, 1).transpose(1, 2, 0),
        np.broadcast_to(flat[:1], (3, size)),
        flat[:0],
        flat[:0].reshape(0, 5),
        flat[:1].reshape(()),
        padded,
        padded[::3],
    ):
        exact(sent(given), given)
        still = frozen(given[...])
        exact(sent(still), still)


def test_structured_arrays() -> None:
    for dtype in (
        np.dtype([("a", "i1"), ("b", ">f8"), ("c", "U3")]),
        np.dtype([("a", "i1"), ("b", "f8")], align=True),
        np.dtype([(("title", "a"), ">i2"), ("b", "f8", (2, 3))]),
        np.dtype({"names": ["a", "b"], "formats": ["i4", "i4"], "offsets": [0, 2]}),
        np.dtype([("when", ">M8[us]"), ("g", "g")]),
        np.dtype([("inner", [("x", ">i4"), ("y", "S3")])]),
    ):
        for size in SIZES:
            random = np.random.default_rng(5).bytes(size * dtype.itemsize)
            given = np.frombuffer(bytearray(random), dtype)
            for each in (given, given[::2], frozen(given.copy())):
                got = sent(each)
                exact(got, each)
                assert got.dtype.isalignedstruct == dtype.isalignedstruct
                assert got.dtype.fields.keys() == dtype.fields.keys()


def test_arrays_of_objects_and_strings() -> None:
    for given in (
        np.array([None, 1, "a", [1]], dtype=object),
        np.array([[None, 1], ["a", (1,)]], dtype=object)[::-1, ::-1],
        np.array(None, dtype=object),
        np.array([(1, None), (2, "x")], dtype=[("a", ">i4"), ("o", "O")]),
        np.array([], dtype=object),
    ):
        exact(sent(given), given)
    if hasattr(np.dtypes, "StringDType"):
        given = np.array(["a", "b" * 100, ""], dtype=np.dtypes.StringDType())
        got = sent(given)
        assert got.dtype == given.dtype and got.tolist() == given.tolist()


@pytest.mark.parametrize("size", SIZES)
def test_subclasses_go_as_pickle_takes_them(size: int, tmp_path: Path) -> None:
    values = np.arange(2.0 * size)
    matrix = values.reshape(2, size).view(np.matrix)
    got = sent(matrix)
    exact(got, matrix)
    masked = np.ma.masked_array(values, mask=values % 2 == 0, fill_value=7)
    got = sent(masked)
    assert type(got) is type(masked) and got.fill_value == 7
    assert (got.mask == masked.mask).all() and (got.data == masked.data).all()
    records = np.rec.array(np.zeros(size, [("a", ">i4")]))
    got = sent(records)
    assert type(got) is np.recarray and got.a.dtype.str == ">i4"
    # A copy, which knows of no file: what is written to it is in no file.
    path = tmp_path / "values"
    path.write_bytes(values.tobytes())
    mapped = np.memmap(path, "f8", "r+")
    got = sent(mapped)
    assert type(got) is np.memmap and got.filename is None
    got[0] = 99
    assert mapped[0] == 0


def test_scalars_and_types() -> None:
    values = [np.float64(1.5), np.longdouble(1) / 3, np.datetime64("2020-01-01", "ns")]
    values += [np.timedelta64(3, "25s"), np.str_("a"), np.void(b"abc"), np.float16(1)]
    for value in values:
        got = sent(value)
        assert type(got) is type(value) and got == value and got.dtype == value.dtype
    for dtype in (">f8", ">M8[7us]", [("a", ">i4")], "U5", "O"):
        assert sent(np.dtype(dtype)) == np.dtype(dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy pickles metadata, and warns of it
        assert sent(np.dtype("f8", metadata={"a": 1})).metadata == {"a": 1}
    bits = np.array([0x7FF8000000000123, 0xFFF0000000000001, 1 << 63], "u8")
    assert (sent(bits.view("f8")[::2]).view("u8") == bits[::2]).all()


def test_to_another_interpreter_and_back(elsewhere: Interpreter) -> None:
    def look(given: Any) -> Any:
        flags = given.flags
        return given.dtype.str, given.shape, flags.writeable, given.tobytes(), given

    for size in SIZES:
        for code in (">f8", ">M8[us]", "g", "U3"):
            given = np.arange(2 * size).astype("i8").astype(code)
            for each in (given, given[::-2], frozen(given.copy()), frozen(given[::2])):
                *seen, back = elsewhere.call(look, each)
                wanted = [each.dtype.str, each.shape, each.flags.writeable]
                assert seen == [*wanted, each.tobytes()]
                exact(back, each)


def test_shared_arrays_stay_one() -> None:
    given = np.arange(9, dtype=">i4")[::3]
    first, second = sent([given, given])
    assert first is second
    first[0] = 5
    assert second[0] == 5 and given[0] == 0


# ---- memoryviews -----------------------------------------------------------------------


@pytest.mark.parametrize("format", [*FORMATS, "c", "P"])
@pytest.mark.parametrize("size", [1, 12, LARGE])
def test_memoryviews(format: str, size: int) -> None:
    itemsize = memoryview(bytes(8)).cast(format).itemsize  # type: ignore[call-overload]
    for memory in (bytes(range(12)), bytearray(range(12))):
        whole = memoryview(memory * size * itemsize)
        for given in (
            whole.cast(format),  # type: ignore[call-overload]
            whole.cast(format, (size, 12)),  # type: ignore[call-overload]
            whole.cast(format, (size, 2, 3, 2)),  # type: ignore[call-overload]
            whole.cast(format)[3:7],  # type: ignore[call-overload]
            whole.cast(format)[:0],  # type: ignore[call-overload]
        ):
            got = sent(given)
            assert got.format == given.format and got.shape == given.shape
            assert got.tobytes() == given.tobytes()
            assert got.readonly == given.readonly


def test_a_memoryview_in_fortrans_order() -> None:
    for size in (2, 200):
        table = np.arange(3.0 * size).reshape(3, size)
        for given in (np.asfortranarray(table), table.T, frozen(table.copy().T)):
            got = sent(memoryview(given))
            assert got.tolist() == given.tolist() and got.shape == given.shape
            assert got.readonly == (not given.flags.writeable)


def test_memoryviews_of_other_makers() -> None:
    numbers = (ctypes.c_int * 3)(1, 2, 3)
    assert sent(memoryview(numbers)).tolist() == [1, 2, 3]
    shorts = ((ctypes.c_short * 2) * 2)((1, 2), (3, 4))
    assert sent(memoryview(shorts)).tolist() == [[1, 2], [3, 4]]
    assert sent(memoryview(array.array("l", [1, -2]))).tolist() == [1, -2]
    assert sent(memoryview(np.array(2.5))).tolist() == 2.5
    assert sent(memoryview(np.zeros(0))).shape == (0,)


@pytest.mark.parametrize(
    "given",
    [
        np.zeros(2, ">f8"),
        np.zeros(2, "c16"),
        np.zeros(2, "g"),
        np.zeros(2, "U3"),
        np.zeros(2, [("a", "i4")]),
        np.zeros((0, 3)),
        np.zeros((3, 0)),
    ],
    ids=lambda given: f"{given.dtype}-{given.shape}",
)
def test_a_memoryview_that_cannot_be_made_again_is_refused(given: Any) -> None:
    channel = Channel()
    with pytest.raises(NotShareableError, match=r"object\['view'\].*send the array"):
        channel.send({"view": memoryview(given)})
    assert len(channel) == 0
    exact(sent(given), given)
