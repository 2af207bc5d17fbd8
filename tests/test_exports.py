"""Calls as programs that are carried elsewhere, judged and run."""

import json
from contextlib import suppress
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from jaxgrader.errors import ProgramError
from jaxgrader.exports import MAGIC, export_call, load_program, read_packed
from jaxgrader.testing import assert_allclose
from tests.traced import X, power_loop, power_unrolled, text

KEY = jax.random.key(5)
OTHER_KEY = jax.random.key(6)


def pack(header: object, program: bytes) -> bytes:
    """Pack as export_call does, but anything."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return MAGIC + len(text).to_bytes(4, "little") + text + program


class TestRun:
    """The very program that was judged runs on inputs that it never saw."""

    @pytest.mark.parametrize(
        ("fn", "args", "others"),
        [
            (power_loop, (X, 5), (X + 1, 5)),
            (lambda s, xs: s * xs["a"][0], (2.0, {"a": [X]}), (2.0, {"a": [X + 1]})),
            (lambda n: n * 2, (np.array(3.0),), (jnp.array(4.0),)),
            (lambda k: jax.random.normal(k, (3,)), (KEY,), (OTHER_KEY,)),
            (lambda k: jax.random.split(k)[0], (KEY,), (OTHER_KEY,)),
            (lambda: jnp.arange(3), (), ()),
            (lambda x: jnp.linalg.solve(jnp.diag(x), x), (X,), (X + 3,)),
            (lambda x: jax.lax.top_k(x, 2), (X,), (-X,)),
            (lambda x: x.astype(jnp.bfloat16), (X,), (-X,)),
            (lambda x: x + 1j, (X,), (-X,)),
        ],
    )
    def test_agrees_with_the_function(self, fn: Any, args: Any, others: Any) -> None:
        wanted = fn(*others)
        if hasattr(wanted, "dtype") and jnp.issubdtype(
            wanted.dtype, jax.dtypes.prng_key
        ):
            wanted = jax.random.key_data(wanted)
        if isinstance(wanted, list):
            wanted = tuple(wanted)
        got = load_program(export_call(fn, args), args).run(others)
        got = tuple(got) if isinstance(got, list) else got
        assert_allclose(got, wanted)

    def test_keywords(self) -> None:
        def scale(x: Any, *, by: Any) -> Any:
            return x * by

        data = export_call(scale, (X,), {"by": jnp.array(3.0)})
        loaded = load_program(data, (X,), {"by": jnp.array(3.0)})
        assert_allclose(loaded.run((X,), {"by": jnp.array(4.0)}), X * 4)

    def test_results_keep_their_nesting(self) -> None:
        def nested(x: Any) -> Any:
            return {"a": (x, None), 2: [], "c": [1, (2.5, True)]}

        got = load_program(export_call(nested, (X,)), (X,)).run((X,))
        assert_allclose(got, nested(X))

    def test_it_is_the_program_that_was_judged(self) -> None:
        for fn, loops in ((power_loop, 1), (power_unrolled, 0)):
            loaded = load_program(export_call(fn, (X, 5)), (X, 5))
            assert len(loaded.program.loops) == loops
            assert_allclose(loaded.run((2 * X, 5)), power_unrolled(2 * X, 5))

    def test_scalars_are_part_of_the_program(self) -> None:
        loaded = load_program(export_call(power_loop, (X, 5)), (X, 5))
        assert_allclose(loaded.run((X, 99)), power_unrolled(X, 5))

    def test_other_shapes_are_refused(self) -> None:
        loaded = load_program(export_call(power_loop, (X, 5)), (X, 5))
        with pytest.raises(
            ProgramError, match=r"takes float32\[4\], and the test gives"
        ):
            loaded.run((X[:2], 5))

    def test_a_program_that_does_not_compile(self) -> None:
        main = (
            "%y = stablehlo.custom_call @lapack_spotrf_ffi(%x) {api_version = 4 : i32} "
            ": (tensor<4xf32>) -> tensor<4xf32> return %y : tensor<4xf32>"
        )
        data = pack(0, text(main).encode())
        with pytest.raises(ProgramError, match="cannot be compiled or run"):
            load_program(data, (X,)).run((X,))


PROGRAM = export_call(jnp.tanh, (X,)).partition(b"0")[2]


class TestLoad:
    """Bytes of a stranger: whatever is wrong is a ProgramError."""

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"JXG",
            MAGIC,
            MAGIC + b"\xff\xff\xff\xff",
            PROGRAM,
            pack(0, b"\x80\x04."),
            pack(0, export.export(jax.jit(jnp.tanh))(X).mlir_module_serialized),
            b"NOPE" + pack(0, PROGRAM)[4:],
            pack(b"{", PROGRAM),
            pack(b"\xff\xfe\x00", PROGRAM),
            pack(b"[" * 30_000 + b"0" + b"]" * 30_000, PROGRAM),
            pack(b"[" * 900 + b"0" + b"]" * 900, PROGRAM),
            pack(b"[" + b"0," * 40_000 + b"0]", PROGRAM),
            *[
                pack(header, PROGRAM)
                for header in (
                    *(1, True, False, 0.0, "0", [0, 0], [], None),
                    *({}, {"tuple": 0}, {"tuple": [0], "dict": []}),
                    *({"dict": {"a": 0}}, {"dict": [["a"]]}, {"dict": [[[], 0]]}),
                )
            ],
        ],
    )
    def test_not_packed_by_us(self, data: bytes) -> None:
        with pytest.raises(ProgramError, match="not a program that jaxgrader packed"):
            load_program(data, (X,))

    @pytest.mark.parametrize("program", [b"", b"import os", b"module {}"])
    def test_no_program_inside(self, program: bytes) -> None:
        with pytest.raises(ProgramError, match="not a program that JAX traced"):
            load_program(pack(0, program), (X,))

    def test_too_large(self) -> None:
        data = export_call(power_unrolled, (X, 50))
        assert load_program(data, (X, 50), max_bytes=len(data)).program.size == 50
        with pytest.raises(ProgramError, match="larger than 500 bytes"):
            load_program(data, (X, 50), max_bytes=500)

    def test_a_table_of_answers(self) -> None:
        table = np.random.default_rng(1).normal(size=(1000, 4)).astype(np.float32)
        data = export_call(lambda x: x + table[:, 0].sum() + table, (X,))
        assert load_program(data, (X,)).program.constant_bytes >= table.nbytes
        with pytest.raises(ProgramError, match="more than 100 bytes of constants"):
            load_program(data, (X,), max_constant_bytes=100)

    def test_the_program_of_another_call(self) -> None:
        data = export_call(power_loop, (X, 5))
        with pytest.raises(ProgramError, match=r"takes float32\[4\], .* int32\[3\]"):
            load_program(data, (jnp.arange(3), 5))

    def test_64_bits(self) -> None:
        with jax.enable_x64(True):
            data = export_call(lambda x: x.astype("float64"), (X,))
        with pytest.raises(ProgramError, match="64-bit numbers"):
            load_program(data, (X,))

    def test_every_byte_counts(self) -> None:
        """No change of one byte makes another error than ours, or a crash."""
        data = export_call(power_loop, (X, 3))
        for place in range(0, len(data), 29):
            for flip in (0x01, 0x80):
                forged = bytearray(data)
                forged[place] ^= flip
                with suppress(ProgramError):
                    load_program(bytes(forged), (X, 3))


class TestExport:
    def test_it_reads_as_it_was_made(self) -> None:
        data = export_call(power_loop, (X, 5))
        there = load_program(data, (X, 5)).program
        assert read_packed(data).to_value() == there.to_value()

    def test_inputs_that_nobody_uses_stay(self) -> None:
        data = export_call(lambda x, unused: x, (X, X))
        assert_allclose(load_program(data, (X, X)).run((X + 1, X)), X + 1)

    def test_composites_are_what_they_are_made_of(self) -> None:
        """XLA has an operation of its own for this name; it must not run that."""

        def seven(x: Any) -> Any:
            return jax.lax.fori_loop(0, 7, lambda _, c: jnp.tanh(c), x)

        composite = jax.lax.composite(seven, name="chlo.erf", version=1)
        loaded = load_program(export_call(composite, (X,)), (X,))
        assert loaded.program.operations["tanh"] == 1
        for values in (loaded.run((X,)), loaded.interpret((X,))):
            assert_allclose(values, seven(X))

    def test_input_arrays_are_as_jax_takes_them(self) -> None:
        wide = np.arange(4.0).astype(">f8")
        loaded = load_program(export_call(jnp.sin, (wide,)), (wide,))
        assert_allclose(loaded.run((X,)), jnp.sin(X))

    @pytest.mark.parametrize("result", [object(), "text", {1.5: 0}, {3}, np.dtype])
    def test_results_that_are_no_arrays(self, result: object) -> None:
        with pytest.raises(
            ProgramError, match=r"your function returned a .*, expected"
        ):
            export_call(lambda x: (x, result), (X,))

    def test_callbacks(self) -> None:
        def shows(x: Any) -> Any:
            jax.debug.print("{}", x)
            return x

        def calls(x: Any) -> Any:
            return jax.pure_callback(np.sin, jax.ShapeDtypeStruct(x.shape, x.dtype), x)

        for function in (shows, calls):
            with pytest.raises(
                ProgramError, match=r"Remove callbacks and jax\.debug\.print"
            ):
                export_call(function, (X,))

    def test_left_overs_of_an_earlier_trace(self) -> None:
        kept: list[Any] = []

        def keeps(x: Any) -> Any:
            kept.append(x * 2)
            return x

        def in_loop(x: Any) -> Any:
            own: list[Any] = []

            def turn(c: Any, v: Any) -> Any:
                own.append(c * 2)
                return c + v, v

            jax.lax.scan(turn, x[0], x)
            return own[0] + x

        export_call(keeps, (X,))
        outside = jax.new_ref(jnp.asarray(X))
        for function in (
            lambda x: x + kept[0],
            in_loop,
            lambda x: x + outside[...],
        ):
            with pytest.raises(ProgramError, match="left over from an earlier trace"):
                export_call(function, (X,))
