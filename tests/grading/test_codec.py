"""What crosses arrives as it was sent; what cannot is refused by name."""

import collections
import enum
import subprocess
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxgrader.grading import wire
from jaxgrader.grading.codec import PREFIX
from jaxgrader.grading.values import DTYPES, WIDE
from tests.grading.frames import bare, cross, frame, same, split

PLAIN: list[Any] = [
    *(None, True, False, 0, -1, 2**63 - 1, -(2**63), 2**63, -(2**4095), 2**4096 - 1),
    *(0.0, -0.0, 0.1, 5e-324, float("inf"), float("-inf"), float("nan")),
    *(1j, complex(-0.0, float("nan")), complex("inf")),
    *("", "ä\0\n\"'\\[[{", "\U0001f600", "x" * 10**5, b"", b"\0\xff"),
    *((), [], {}, ((),), [[], ()], {"b": 1, "a": 2}, {"": {1: [2.5]}}),
    {1: "int", 2.5: "float", False: "bool", None: "none", "1": "str", -1: 0},
]


@pytest.mark.parametrize("value", PLAIN, ids=lambda value: repr(value)[:30])
def test_pythons_own_values_arrive_as_they_were(value: Any) -> None:
    assert same(cross(value), value)


def test_a_nan_arrives_to_the_bit() -> None:
    odd = np.array([0xFFF8000000000123], np.uint64).view(np.float64).item()
    assert np.float64(cross(odd)).tobytes() == np.float64(odd).tobytes()


def every_byte(name: str) -> np.ndarray[Any, Any]:
    """Return an array of a dtype with many bit patterns in it, in two axes."""
    dtype = DTYPES[name]
    if name == "bool" or name.endswith(("int2", "int4", "e2m1fn")):
        bits = {"bool": 2, "int2": 4, "uint2": 4}.get(name, 16)
        return (np.arange(16, dtype=np.uint8) % bits).view(dtype).reshape(4, 4)
    raw = np.arange(256, dtype=np.uint8).view(dtype)
    return raw.reshape(2, -1)


@pytest.mark.parametrize("name", DTYPES)
def test_arrays_of_every_dtype_arrive(name: str) -> None:
    array = every_byte(name)
    arrived = cross(
        [array, array[0, 0], array[:, ::-2], array.T, array[:0], array[0, 1]]
    )
    assert same(arrived[0], array)
    assert same(arrived[1], array[0, 0])
    assert same(arrived[2], np.ascontiguousarray(array[:, ::-2]))
    assert same(arrived[3], np.ascontiguousarray(array.T))
    assert same(arrived[4], array[:0])
    assert arrived[0].flags.writeable
    assert arrived[0].flags.owndata


@pytest.mark.parametrize("name", DTYPES)
def test_jax_arrays_of_every_dtype_arrive(name: str) -> None:
    with jax.enable_x64(name in WIDE):
        array = jnp.asarray(every_byte(name))
        values = [array, array[1, 1], array[:0], array.reshape((1,) * 30 + array.shape)]
    assert array.dtype == DTYPES[name]
    assert same(cross(values), values)


@pytest.mark.parametrize("scalar", [2, 2.5, 1j, True, float("nan")])
def test_a_weak_scalar_of_jax_stays_weak(scalar: complex) -> None:
    weak = jnp.asarray(scalar)
    assert same(cross(weak), weak)
    with jax.enable_x64(True):
        wide = jnp.asarray(scalar)
    assert same(cross(wide), wide)


def test_a_larger_weak_array_arrives_strong() -> None:
    weak = jnp.full((2,), 0.5)
    assert weak.weak_type
    arrived = cross(weak)
    assert not arrived.weak_type
    assert same(bare(arrived), bare(weak))


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg", "unsafe_rbg"])
def test_prng_keys_arrive_as_keys_of_their_kind(impl: str) -> None:
    key = jax.random.key(7, impl=impl)
    for keys in (key, jax.random.split(key, (2, 3)), jax.random.split(key, 0)):
        arrived = cross(keys)
        assert same(arrived, keys)
        assert arrived.dtype == keys.dtype
        assert jax.random.key_impl(arrived) == impl


def test_an_old_raw_key_is_an_array() -> None:
    key = jax.random.PRNGKey(7)
    assert same(cross(key), key)


@pytest.mark.parametrize("dtype", [">i2", ">f8", ">c16", ">u4", "longlong", "intc"])
def test_foreign_byte_order_arrives_native(dtype: str) -> None:
    array = np.arange(6).astype(dtype).reshape(2, 3)
    native = array.astype(DTYPES[array.dtype.newbyteorder("=").name])
    assert same(cross(array), native)
    assert same(cross(array[()][::-1, ::2]), np.ascontiguousarray(native[::-1, ::2]))


def test_arrays_without_axes_elements_or_copies_arrive() -> None:
    values = [np.array(3), np.zeros((0, 5, 0)), np.broadcast_to(1.0, (3, 4))]
    assert same(cross(values), [*values[:2], np.ones((3, 4))])
    large = np.arange(10**5)
    assert same(cross([1, large, "a", large[::2], "b"])[3], large[::2].copy())


def test_what_arrives_shares_nothing_with_what_was_sent() -> None:
    data = bytearray(frame(np.arange(3)))
    header, payload = split(bytes(data))
    buffer = bytearray(payload)
    _, arrived = wire.decode(header, buffer)
    buffer[:] = bytes(len(buffer))
    assert arrived.tolist() == [0, 1, 2]


class Colour(enum.IntEnum):
    RED = 1


class Word(str):
    __slots__ = ()


class Measure(np.float64):
    pass


class Liar(np.ndarray):
    pass


Point = collections.namedtuple("Point", "x y")
MODULE = nnx.Linear(2, 2, rngs=nnx.Rngs(0))
DELETED = jnp.ones(3)
DELETED.delete()
LOOP: list[Any] = []
LOOP.append(LOOP)

REFUSED: list[tuple[Any, str]] = [
    (object(), "an object cannot cross; return arrays, numbers, strings, None, or"),
    (MODULE.kernel, "a Param cannot cross; return variable[...]"),
    (MODULE, "a Linear cannot cross; return nnx.to_pure_dict(nnx.state(module))"),
    (nnx.state(MODULE), "a State cannot cross; return nnx.to_pure_dict(state)"),
    (Point(1, 2), "a Point cannot cross; return tuple(...) of it"),
    (collections.OrderedDict(), "an OrderedDict cannot cross; return dict(...) of it"),
    (Colour.RED, "a Colour cannot cross; return int(...) of it"),
    (Word("a"), "a Word cannot cross; return str(...) of it"),
    (Measure(1), "a Measure cannot cross; return float(...) of it"),
    (np.str_("a"), "a str_ cannot cross; return str(...) of it"),
    (np.longdouble(1), "a longdouble cannot cross; return a number"),
    (np.datetime64("2020"), "a datetime64 cannot cross; return a number"),
    ({1, 2}, "a set cannot cross; return sorted(...) of it"),
    (bytearray(b"a"), "a bytearray cannot cross"),
    (np.arange(3).view(Liar), "a Liar cannot cross; return numpy.asarray(...) of it"),
    (np.ma.array([1]), "a MaskedArray cannot cross; return its filled()"),
    (np.array([None]), "an array of object cannot cross"),
    (np.array(["a"]), "an array of <U1 cannot cross"),
    (np.array([b"a"]), "an array of |S1 cannot cross"),
    (
        np.array(["a"], np.dtypes.StringDType()),
        "an array of StringDType() cannot cross",
    ),
    (np.zeros(1, [("a", "f4")]), "an array of [('a', '<f4')] cannot cross"),
    (np.zeros(1, "M8[s]"), "an array of datetime64[s] cannot cross"),
    (np.zeros(1, np.longdouble), "an array of float128 cannot cross"),
    (np.zeros(1, jax.dtypes.float0), "an array of [('float0', 'V')] cannot cross"),
    (np.array([2], np.uint8).view(bool), "an array of bool with bytes that are no"),
    (np.array([16], np.uint8).view(jnp.int4), "an array of int4 with bytes that are"),
    (np.zeros((1,) * 33), "more than 32 axes cannot cross"),
    (DELETED, "an array that was deleted cannot cross"),
    ("\ud83d\ude00", "a string with half a character, '\\ud83d', cannot cross"),
    (2**4096, "an int of more than 4096 bits cannot cross"),
    ({(1,): 2}, "a tuple as a key cannot cross; use strings or numbers"),
    ({2**64: 2}, "an int as a key cannot cross"),
    ([[0] * 400] * 400, "more than 100000 values cannot cross"),
    ([["\0"] * 40_000] * 2 + [b"a" * 2**28], "at most 268435456 can cross"),
    (np.broadcast_to(1.0, (10**6, 10**6)), "at most 268435456 can cross"),
    (np.zeros((0, 2**40)), "at most 268435456 can cross"),
    (LOOP, "more than 32 levels cannot cross"),
]


@pytest.mark.parametrize(("value", "why"), REFUSED, ids=[why for _, why in REFUSED])
def test_what_cannot_cross_is_refused_by_name(value: Any, why: str) -> None:
    with pytest.raises(wire.Refused) as refused:
        frame(value)
    assert why in refused.value.why


def test_a_refusal_says_where_the_value_is() -> None:
    with pytest.raises(wire.Refused) as refused:
        frame([{"v": 1, "w": (2, object())}])
    assert (refused.value.path, refused.value.kind) == ("[0]['w'][1]", "object")
    assert str(refused.value).startswith("result[0]['w'][1]: an object cannot cross; ")


@pytest.mark.parametrize("transform", [jax.jit, jax.grad, jax.vmap])
def test_a_traced_value_is_refused(transform: Any) -> None:
    x = jnp.ones(1) if transform is jax.vmap else 1.0
    with pytest.raises(wire.Refused, match="under jit, vmap or grad"):
        transform(lambda x: frame((x,)))(x)


def test_a_long_name_is_cut() -> None:
    with pytest.raises(wire.Refused) as refused:
        frame({"k" * 10**5: type("F" * 10**5, (), {})()})
    assert len(str(refused.value)) < 250


@pytest.mark.parametrize("kind", ["", "Call", "a b", "é", "x" * 40, "a\n"])
def test_a_kind_is_a_short_word(kind: str) -> None:
    with pytest.raises(ValueError, match="no kind of frame"):
        wire.encode(kind, None)


def test_bounds_hold_on_both_ends() -> None:
    nested: list[Any] = []
    for value, bounds in (
        ([[nested]], wire.Bounds(depth=2)),
        ([1, 2], wire.Bounds(leaves=2)),
        ([0.5, 0.25], wire.Bounds(header=12)),
        (b"abc", wire.Bounds(frame=30)),
        (np.zeros((0, 9)), wire.Bounds(frame=60)),
    ):
        with pytest.raises(wire.Refused):
            wire.encode("value", value, bounds)
        with pytest.raises(wire.WireError):
            wire.decode(*split(frame(value)), bounds)
    just = wire.Bounds(depth=3, leaves=3)
    assert wire.decode(*split(frame([[nested]])), just) == ("value", [[[]]])


MALFORMED: list[tuple[str, bytes, bytes]] = [
    ("empty", b"", b""),
    ("not a pair", b'["value"]', b""),
    ("no kind", b'["VALUE",null]', b""),
    ("two documents", b'["value",null]null', b""),
    ("an object", b'["value",{"a":1,"a":2}]', b""),
    ("a string", b'["value","text"]', b""),
    ("not ASCII", '["value",["u","ä"]]'.encode(), b""),
    ("NaN", b'["value",NaN]', b""),
    ("infinite", b'["value",1e999]', b""),
    ("long int", b'["value",' + b"1" * 10**6 + b"]", b""),
    ("long float", b'["value",0.' + b"1" * 10**6 + b"]", b""),
    ("long hex", b'["value",["i","' + b"1" * 10**6 + b'"]]', b""),
    ("deep", b'["value",' + b"[" * 10**6 + b"]" * 10**6 + b"]", b""),
    ("deep, open", b"[" * 10**5, b""),
    ("deep, in between", b"[" * 10**5 + b'"]["' + b"]" * 10**5, b""),
    ("many", b'["value",["l"' + b",[]" * 200_001 + b"]]", b""),
    ("unknown tag", b'["value",["x",1]]', b""),
    ("tag is a list", b'["value",[["t"],1]]', b""),
    ("no tag", b'["value",[]]', b""),
    ("dict, odd", b'["value",["d",1]]', b""),
    ("dict, twice", b'["value",["d",1,2,1.0,3]]', b""),
    ("dict, twice true", b'["value",["d",1,2,true,3]]', b""),
    ("dict, key a list", b'["value",["d",["l"],1]]', b""),
    ("dict, key empty", b'["value",["d",[],1]]', b""),
    ("dict, key an array", b'["value",["d",["n","bool",[]],1]]', b"\0"),
    ("dict, key a big int", b'["value",["d",["i","ff"],1]]', b""),
    ("complex of ints", b'["value",["c",1,2]]', b""),
    ("float bits", b'["value",["f","7ff0"]]', b""),
    ("float bits spaced", b'["value",["f","7f f0 00 00 0000"]]', b""),
    ("int not hex", b'["value",["i","0x10"]]', b""),
    ("int spaced", b'["value",["i"," 1_0"]]', b""),
    ("not UTF-8", b'["value",["u",1]]', b"\xff"),
    ("half a character", b'["value",["u",3]]', b"\xed\xb0\x80"),
    ("negative length", b'["value",["b",-1]]', b""),
    ("bool length", b'["value",["b",true]]', b"a"),
    ("too short", b'["value",["b",2]]', b"a"),
    ("too long", b'["value",["b",1]]', b"ab"),
    ("object dtype", b'["value",["n","object",[1]]]', b"\0" * 8),
    ("dtype a list", b'["value",["n",["f4"],[1]]]', b"\0" * 4),
    ("dtype of two", b'["value",["n","f4,f4",[1]]]', b"\0" * 8),
    ("shape an int", b'["value",["n","bool",1]]', b"\0"),
    ("shape of bools", b'["value",["n","bool",[true]]]', b"\0"),
    ("shape of floats", b'["value",["n","bool",[1.0]]]', b"\0"),
    ("negative shape", b'["value",["n","bool",[-1,-1]]]', b"\0"),
    ("shape lies", b'["value",["n","float64",[100000000000]]]', b"\0"),
    ("shape overflows", b'["value",["n","uint8",[4294967296,4294967296]]]', b""),
    ("shape empty, huge", b'["value",["n","uint8",[0,4294967296]]]', b""),
    ("33 axes", b'["value",["n","uint8",[' + b"1," * 32 + b"1]]]", b"\0"),
    ("bool of 2", b'["value",["n","bool",[1]]]', b"\2"),
    ("scalar bool of 2", b'["value",["s","bool"]]', b"\2"),
    ("int4 of 16", b'["value",["j","int4",[1]]]', b"\x10"),
    ("weak of uint8", b'["value",["w","uint8"]]', b"\0"),
    ("key of a kind", b'["value",["k","mine",[]]]', b"\0" * 8),
    ("key of a shape", b'["value",["k","rbg",["a"]]]', b"\0" * 16),
    ("key, too short", b'["value",["k","rbg",[]]]', b"\0" * 8),
]


@pytest.mark.parametrize(
    ("header", "payload"),
    [case[1:] for case in MALFORMED],
    ids=[case[0] for case in MALFORMED],
)
def test_a_malformed_frame_is_a_wire_error(header: bytes, payload: bytes) -> None:
    with pytest.raises(wire.WireError) as error:
        wire.decode(header, payload)
    assert len(str(error.value)) < 200


def test_depth_does_not_depend_on_the_recursion_limit() -> None:
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(10**8)
    try:
        with pytest.raises(wire.WireError, match="nested too deeply"):
            wire.decode(b"[" * 199_000, b"")
    finally:
        sys.setrecursionlimit(before)


def test_ints_with_one_hash_do_not_stop_the_clock() -> None:
    keys = b",".join(b'["i","%x"],0' % (i * (2**61 - 1)) for i in range(1, 20_000))
    with pytest.raises(wire.WireError, match="no string or number"):
        wire.decode(b'["value",["d",' + keys + b"]]", b"")


def test_a_new_shape_compiles_nothing() -> None:
    nodes = ",".join(f'["j","int8",[{length}]]' for length in range(1, 4000))
    started = time.process_time()
    header = f'["value",["l",{nodes}]]'.encode()
    _, arrived = wire.decode(header, bytes(sum(range(4000))))
    assert len(arrived) == 3999
    assert time.process_time() - started < 30


def test_jax_arrays_count_for_more() -> None:
    bounds = wire.Bounds(leaves=1 + 3 * 16)
    three = [jnp.ones(1), jnp.asarray(1.0), jax.random.key(0)]
    data = frame(three)
    wire.encode("value", three, bounds)
    wire.decode(*split(data), bounds)
    bounds = wire.Bounds(leaves=3 * 16)
    with pytest.raises(wire.Refused, match="more than 48 values"):
        wire.encode("value", three, bounds)
    with pytest.raises(wire.WireError, match="more than 48 values"):
        wire.decode(*split(data), bounds)


def test_importing_the_wire_starts_no_thread() -> None:
    program = (
        "import os; import jaxgrader.grading.wire; "
        "raise SystemExit(len(os.listdir('/proc/self/task')))"
    )
    bare = {"OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", program], env=bare, check=False)
    assert done.returncode == 1


def test_the_prefix_holds_the_lengths() -> None:
    data = frame(["text", np.arange(3, dtype=np.uint8)])
    magic, header, payload = PREFIX.unpack(data[: PREFIX.size])
    assert magic == b"JGW1"
    assert payload == 7
    assert PREFIX.size + header + payload == len(data)
