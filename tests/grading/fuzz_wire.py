"""Coverage-guided fuzzing of the wire: `make fuzz`, which gives the seconds.

libFuzzer makes the bytes. An exception other than WireError ends it, and leaves the
bytes in a file `crash-…`; so does a frame that takes ten seconds or two gigabytes.
"""

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["jaxgrader.grading", "json"]):
    from jaxgrader.grading import codec, wire

from tests.grading.frames import ODD, check_types, grow, seeds


def one_input(data: bytes) -> None:
    """Read one frame as `receive` does, without a socket.

    The first byte says whether the others are the frame, or describe one: the bytes of
    JSON are hard to guess, those of a tree are not.
    """
    data = grow(data[1:]) if data[:1] > b"\x7f" else data[1:]
    prefix, rest = data[: codec.PREFIX.size], data[codec.PREFIX.size :]
    if len(prefix) < codec.PREFIX.size:
        return
    _, length, _ = codec.PREFIX.unpack(prefix)
    try:
        check_types(wire.decode(rest[:length], rest[length:])[1])
    except wire.WireError:
        return


def main() -> None:
    """Fuzz until libFuzzer's limits are reached."""
    corpus = Path(sys.argv[1])
    corpus.mkdir(parents=True, exist_ok=True)
    for index, data in enumerate(seeds()):
        (corpus / f"seed-{index}").write_bytes(b"\0" + data)
    for byte in range(len(ODD)):
        (corpus / f"tree-{byte}").write_bytes(bytes([255, 255, byte, byte, 254, 254]))
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
