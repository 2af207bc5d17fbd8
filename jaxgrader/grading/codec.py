"""One frame as bytes, and back: pure, no socket.

A frame: magic and version, length of the header, length of the payload; the header,
JSON that holds the structure and the numbers; the payload, bytes of strings and arrays
in the order of the header. A node of the header is null, true, false, a number, or a
list:

    ["t"|"l", node, …]        tuple, list       ["u"|"b", length]  str, bytes
    ["d", key, value, …]      dict              ["i", hex]         int over 64 bits
    ["c", real, imag]         complex           ["f", hex]         float by its bits
    ["n"|"j", dtype, shape]   NumPy, JAX array  ["s", dtype]       NumPy scalar
    ["k", kind, shape]        PRNG keys         ["w", dtype]       weak scalar of JAX

Reading is written for hostile bytes: look at each `WireError`, and at what precedes it.
"""

import json
import math
import re
import struct
from collections.abc import Callable
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np

from jaxgrader.grading import values
from jaxgrader.grading.values import DTYPES, KEYS, Bounds, Refused, WireError

Node = Any
Array = np.ndarray[Any, Any]
Bytes = bytes | bytearray | memoryview

BOUNDS = Bounds()
PREFIX = struct.Struct("!4sIQ")
MAGIC = b"JGW1"
_KIND = re.compile(r"[a-z][a-z_]{0,31}")
#: Ints beyond 64 bits travel as hexadecimal digits, which are cheap to read.
_BIG = re.compile(r"-?[0-9a-f]{1,1024}")
_FLOAT = struct.Struct("!d")
_FLOAT_BITS = re.compile(r"[0-9a-f]{16}")


def encode(kind: str, body: Any, bounds: Bounds = BOUNDS) -> list[bytes | memoryview]:
    """Return one frame, in parts to be sent one after the other.

    Large arrays are not copied: send the parts before you change them.

    Raises:
        Refused: if `body` holds what cannot cross, or too much.
    """
    if not _KIND.fullmatch(kind):
        raise ValueError(f"{kind!r} is no kind of frame")
    writer = _Writer(bounds)
    header = _ENCODER.encode([kind, writer.write(body)]).encode("ascii")
    writer.make_room(len(header), "structure")
    if len(header) > bounds.header:
        writer.refuse("structure", f"{len(header)} bytes of structure cannot cross")
    prefix = PREFIX.pack(MAGIC, len(header), writer.payload)
    return [prefix + header, *writer.parts, bytes(writer.small)]


def split(frame: bytes) -> tuple[bytes, bytes]:
    """Return the header and the payload of a frame of our own."""
    end = PREFIX.size + PREFIX.unpack_from(frame)[1]
    return frame[PREFIX.size : end], frame[end:]


def decode(header: Bytes, payload: Bytes, bounds: Bounds = BOUNDS) -> tuple[str, Any]:
    """Return kind and body of a frame whose header and payload these are.

    Raises:
        WireError: if they are not what `encode` makes.
    """
    check_lengths(len(header), len(payload), bounds)
    match _parse(bytes(header), bounds):
        case [str(kind), node] if _KIND.fullmatch(kind):
            return kind, _Reader(memoryview(payload), bounds).read_body(node)
    raise WireError("the header is not a kind and a body")


def check_lengths(header: int, payload: int, bounds: Bounds) -> None:
    """Refuse a frame by what its prefix says of it."""
    if header > bounds.header:
        raise WireError(f"a header of {header} bytes; at most {bounds.header}")
    if PREFIX.size + header + payload > bounds.frame:
        raise WireError(f"a payload of {payload} bytes; a frame has {bounds.frame}")


# Encoding

_ENCODER = json.JSONEncoder(separators=(",", ":"), check_circular=False)
#: Bytes; what is smaller travels together, what is larger is not copied.
_SMALL = 1 << 14


class _Writer:
    """Turns one body into nodes, and collects the payload."""

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.leaves = 0
        self.payload = 0
        self.parts: list[bytes | memoryview] = []
        self.small = bytearray()
        self.path: list[str] = []

    def refuse(self, kind: str, why: str) -> NoReturn:
        raise Refused("".join(self.path), kind, why)

    def make_room(self, count: int, kind: str) -> None:
        """Refuse `count` bytes where the frame cannot take them."""
        total, limit = PREFIX.size + self.payload + count, self.bounds.frame
        if total > limit:
            self.refuse(kind, f"{total} bytes up to here; at most {limit} can cross")

    def put(self, data: bytes | memoryview, kind: str) -> int:
        """Append to the payload; return the number of bytes."""
        self.make_room(len(data), kind)
        self.payload += len(data)
        if len(data) <= _SMALL:
            self.small += data
        else:
            self.parts += [bytes(self.small), data]
            self.small.clear()
        return len(data)

    def count(self, leaves: int) -> None:
        self.leaves += leaves
        if self.leaves > self.bounds.leaves:
            self.refuse("value", f"more than {self.bounds.leaves} values cannot cross")

    def write(self, value: Any) -> Node:
        """Return the node of any value."""
        self.count(1)
        return _WRITERS.get(type(value), _Writer.write_other)(self, value)

    def write_plain(self, value: bool | None) -> Node:
        return value

    def write_int(self, value: int) -> Node:
        if _fits(value):
            return value
        if value.bit_length() > values.INT_BITS:
            why = f"an int of more than {values.INT_BITS} bits cannot cross"
            self.refuse("int", why)
        return ["i", f"{value:x}"]

    def write_float(self, value: float) -> Node:
        return value if math.isfinite(value) else ["f", _FLOAT.pack(value).hex()]

    def write_complex(self, value: complex) -> Node:
        return ["c", self.write_float(value.real), self.write_float(value.imag)]

    def write_str(self, value: str) -> Node:
        try:
            return ["u", self.put(value.encode(), "str")]
        except UnicodeEncodeError as error:
            half = ascii(value[error.start])
            self.refuse("str", f"a string with half a character, {half}, cannot cross")

    def write_bytes(self, value: bytes) -> Node:
        return ["b", self.put(value, "bytes")]

    def write_sequence(self, value: Any) -> Node:
        node: Node = ["t" if type(value) is tuple else "l"]
        self.enter(type(value).__name__)
        for index, item in enumerate(value):
            self.path[-1] = f"[{index}]"
            node.append(self.write(item))
        self.path.pop()
        return node

    def write_dict(self, value: dict[Any, Any]) -> Node:
        node: Node = ["d"]
        self.enter("dict")
        for key, item in value.items():
            self.path[-1] = ""
            self.check_key(key)
            node.append(self.write(key))
            self.path[-1] = f"[{values.shorten(repr(key), 40)}]"
            node.append(self.write(item))
        self.path.pop()
        return node

    def enter(self, kind: str) -> None:
        """Go into a container."""
        if len(self.path) == self.bounds.depth:
            self.refuse(kind, f"more than {self.bounds.depth} levels cannot cross")
        self.path.append("")

    def check_key(self, key: Any) -> None:
        if type(key) not in _KEY_TYPES or (type(key) is int and not _fits(key)):
            kind, _ = values.describe(key)
            what = values.with_article(kind)
            self.refuse(kind, f"{what} as a key cannot cross; use strings or numbers")

    def write_array(self, value: Array, tag: str = "n") -> Node:
        name = self.dtype(value.dtype)
        if value.ndim > values.DIMENSIONS:
            self.refuse("array", f"more than {values.DIMENSIONS} axes cannot cross")
        self.make_room(values.extent(value.shape, value.dtype), "array")
        data = np.ascontiguousarray(value, DTYPES[name]).reshape(-1).view(np.uint8)
        if values.has_odd_bytes(data, name):
            self.refuse("array", f"an array of {name} with bytes that are no {name}")
        self.put(data.data, "array")
        return [tag, name, list(value.shape)]

    def dtype(self, dtype: np.dtype[Any]) -> str:
        """Return the name of a dtype that can cross."""
        name = values.NAMES.get(dtype if dtype.isnative else dtype.newbyteorder("="))
        if name is None:
            kind = f"array of {values.shorten(str(dtype), 60)}"
            self.refuse(kind, f"an {kind} cannot cross; {values.OTHER_DTYPE}")
        return name

    def write_other(self, value: Any) -> Node:
        """Return the node of NumPy's scalars and JAX's arrays."""
        if isinstance(value, jax.core.Tracer):
            self.refuse("traced value", values.TRACED)
        if isinstance(value, np.generic) and _is_number(value):
            self.put(value.tobytes(), "scalar")
            return ["s", self.dtype(value.dtype)]
        if isinstance(value, jax.Array):
            return self.write_jax(value)
        self.refuse(*values.describe(value))

    def write_jax(self, value: jax.Array) -> Node:
        self.count(values.JAX_LEAVES - 1)
        if value.is_deleted():
            self.refuse("deleted array", values.DELETED)
        if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
            return self.write_keys(value)
        node = self.write_array(self.fetch(value), "j")
        weak = value.ndim == 0 and value.weak_type and node[1] in values.WEAK
        return ["w", node[1]] if weak else node

    def write_keys(self, value: jax.Array) -> Node:
        kind = jax.random.key_impl(value)
        if not isinstance(kind, str) or kind not in KEYS:
            self.refuse("PRNG key", "a PRNG key that is none of JAX's cannot cross")
        self.write_array(self.fetch(jax.random.key_data(value)))
        return ["k", kind, list(value.shape)]

    def fetch(self, value: jax.Array) -> Array:
        """Return what a JAX array holds, and wait for it."""
        try:
            return np.asarray(value)
        except RuntimeError as error:
            why = values.shorten(str(error), 300)
            self.refuse("array", f"an array that JAX cannot read: {why}")


def _is_number(value: np.generic) -> bool:
    """Tell whether it is NumPy's own scalar of a dtype that can cross."""
    return type(value) is value.dtype.type and value.dtype in values.NAMES


def _fits(value: int) -> bool:
    """Tell whether a JSON number may hold it."""
    return -(1 << 63) <= value < 1 << 63


_WRITERS: dict[type, Callable[[_Writer, Any], Node]] = {
    type(None): _Writer.write_plain,
    bool: _Writer.write_plain,
    int: _Writer.write_int,
    float: _Writer.write_float,
    complex: _Writer.write_complex,
    str: _Writer.write_str,
    bytes: _Writer.write_bytes,
    tuple: _Writer.write_sequence,
    list: _Writer.write_sequence,
    dict: _Writer.write_dict,
    np.ndarray: _Writer.write_array,
}
_KEY_TYPES = (str, int, float, bool, type(None))


# Decoding


def _parse(header: bytes, bounds: Bounds) -> Any:
    """Return the JSON of a header, once it is certain that reading it is harmless."""
    if header.count(b"[") > 2 * bounds.leaves + 1 or b"{" in header:
        raise WireError("the header has too many parts")
    # Each round removes the innermost lists. A list of dimensions in an array in
    # `depth` containers in the frame's own list: that deep, and no deeper.
    brackets = header.translate(None, _NO_BRACKETS)
    for _ in range(bounds.depth + 3):
        brackets = brackets.replace(b"[]", b"")
    if brackets:
        raise WireError("the header is nested too deeply, or not closed")
    try:
        return _DECODER.decode(header.decode("ascii"))
    except ValueError as error:
        raise WireError(f"the header is not JSON: {error}") from None


def _parse_int(text: str) -> int:
    if len(text) > 20:
        raise WireError(f"a number of {len(text)} digits")
    return int(text)


def _parse_float(text: str) -> float:
    if len(text) > 32 or not math.isfinite(number := float(text)):
        raise WireError(f"a number {values.shorten(text, 40)}")
    return number


def _refuse_constant(text: str) -> NoReturn:
    raise WireError(f"a number {text}")


_NO_BRACKETS = bytes(set(range(256)) - set(b"[]"))
_DECODER = json.JSONDecoder(
    parse_int=_parse_int, parse_float=_parse_float, parse_constant=_refuse_constant
)


class _Reader:
    """Turns nodes into values, and uses up the payload."""

    def __init__(self, payload: memoryview, bounds: Bounds) -> None:
        self.payload = payload
        self.bounds = bounds
        self.offset = 0
        self.leaves = 0

    def take(self, count: object) -> memoryview:
        """Return the next `count` bytes of the payload."""
        if type(count) is not int or not 0 <= count <= len(self.payload) - self.offset:
            raise WireError("the payload is shorter than the header says")
        self.offset += count
        return self.payload[self.offset - count : self.offset]

    def read_body(self, node: Node) -> Any:
        value = self.read(node, 0)
        if self.offset < len(self.payload):
            raise WireError("the payload is longer than the header says")
        return value

    def count(self, leaves: int) -> None:
        self.leaves += leaves
        if self.leaves > self.bounds.leaves:
            raise WireError(f"more than {self.bounds.leaves} values")

    def read(self, node: Node, depth: int) -> Any:
        """Return the value of any node, `depth` containers down."""
        self.count(1)
        match node:
            case None | bool() | int() | float():
                return node
            case [str(tag), *items] if tag in _CONTAINERS:
                if depth >= self.bounds.depth:
                    raise WireError(f"more than {self.bounds.depth} levels")
                return _CONTAINERS[tag](self, items, depth + 1)
            case [str(tag), item] if tag in _LEAVES:
                return _LEAVES[tag](self, item)
            case [str(tag), first, second] if tag in _PAIRS:
                return _PAIRS[tag](self, first, second)
        raise WireError("the header has a node of no known form")

    def read_tuple(self, nodes: list[Node], depth: int) -> tuple[Any, ...]:
        return tuple([self.read(node, depth) for node in nodes])

    def read_list(self, nodes: list[Node], depth: int) -> list[Any]:
        return [self.read(node, depth) for node in nodes]

    def read_dict(self, nodes: list[Node], depth: int) -> dict[Any, Any]:
        if len(nodes) % 2:
            raise WireError("a dict with a key and no value")
        result: dict[Any, Any] = {}
        for key_node, node in zip(nodes[::2], nodes[1::2], strict=True):
            key = self.read_key(key_node, depth)
            if key in result:
                raise WireError("a dict with the same key twice")
            result[key] = self.read(node, depth)
        return result

    def read_key(self, node: Node, depth: int) -> Any:
        """Return a key. No int over 64 bits: so many of those share one hash."""
        match node:
            case [str(tag), *_] if tag not in ("u", "f"):
                raise WireError("a dict with a key that is no string or number")
        return self.read(node, depth)

    def read_str(self, length: Node) -> str:
        try:
            return str(self.take(length), "utf-8")
        except UnicodeDecodeError as error:
            raise WireError(f"a string that is not UTF-8: {error.reason}") from None

    def read_bytes(self, length: Node) -> bytes:
        return bytes(self.take(length))

    def read_int(self, digits: Node) -> int:
        if type(digits) is not str or not _BIG.fullmatch(digits):
            raise WireError("an int that is not in hexadecimal digits")
        return int(digits, 16)

    def read_float(self, bits: Node) -> float:
        if type(bits) is not str or not _FLOAT_BITS.fullmatch(bits):
            raise WireError("a float that is not 64 bits")
        (value,) = _FLOAT.unpack(bytes.fromhex(bits))
        return float(value)

    def read_complex(self, *nodes: Node) -> complex:
        real, imag = [self.read_part(node) for node in nodes]
        return complex(real, imag)

    def read_part(self, node: Node) -> float:
        match node:
            case float():
                return node
            case ["f", bits]:
                return self.read_float(bits)
        raise WireError("a complex number without a float in it")

    def read_array(self, name: Node, shape: Node) -> Array:
        if type(name) is not str or name not in DTYPES:
            raise WireError("an array of no known dtype")
        dtype = DTYPES[name]
        _check_shape(shape)
        if values.extent(shape, dtype) > self.bounds.frame:
            raise WireError("an array that is larger than a frame")
        data = np.frombuffer(self.take(math.prod(shape) * dtype.itemsize), np.uint8)
        if values.has_odd_bytes(data, name):
            raise WireError(f"an array of {name} with bytes that are no {name}")
        array: Array = np.empty(shape, dtype)
        array.reshape(-1).view(np.uint8)[:] = data
        return array

    def read_scalar(self, name: Node) -> Any:
        return self.read_array(name, [])[()]

    def read_jax(self, name: Node, shape: Node) -> jax.Array:
        return self.put(self.read_array(name, shape), name)

    def read_weak(self, name: Node) -> jax.Array:
        array = self.read_array(name, [])
        if name not in values.WEAK:
            raise WireError("a weak scalar of a dtype that cannot be weak")
        return self.put(array.item(), name)

    def read_keys(self, kind: Node, shape: Node) -> jax.Array:
        if type(kind) is not str or kind not in KEYS:
            raise WireError("a PRNG key of no known kind")
        _check_shape(shape)
        data = self.put(self.read_array("uint32", [*shape, KEYS[kind]]), "uint32")
        keys: jax.Array = jax.random.wrap_key_data(data, impl=kind)
        return keys

    def put(self, value: Any, name: str) -> jax.Array:
        """Return a JAX array of a fresh value.

        jnp.asarray would compile a program for every new shape, 50 ms each.
        """
        self.count(values.JAX_LEAVES - 1)
        with jax.enable_x64(name in values.WIDE):
            array: jax.Array = jax.device_put(value)
        return array


def _check_shape(shape: Node) -> None:
    lengths = shape if type(shape) is list else [None]
    if any(type(length) is not int or length < 0 for length in lengths):
        raise WireError("an array whose shape is not a list of lengths")
    if len(lengths) > values.DIMENSIONS:
        raise WireError(f"an array with more than {values.DIMENSIONS} axes")


_CONTAINERS: dict[str, Callable[[_Reader, list[Node], int], Any]] = {
    "t": _Reader.read_tuple,
    "l": _Reader.read_list,
    "d": _Reader.read_dict,
}
_LEAVES: dict[str, Callable[[_Reader, Node], Any]] = {
    "u": _Reader.read_str,
    "b": _Reader.read_bytes,
    "i": _Reader.read_int,
    "f": _Reader.read_float,
    "s": _Reader.read_scalar,
    "w": _Reader.read_weak,
}
_PAIRS: dict[str, Callable[[_Reader, Node, Node], Any]] = {
    "c": _Reader.read_complex,
    "n": _Reader.read_array,
    "j": _Reader.read_jax,
    "k": _Reader.read_keys,
}
