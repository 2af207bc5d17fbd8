"""What cheaters write into the solution cell: each has a wrong answer, and a plan.

The answer to the problem is ``scale(x) = 3 * x``, ``RATE = 3.0``. A cheat that needs
the hidden tests answers right once it has found them: its points give the leak away.
"""

#: Wrong, and worth nothing: whatever else a student does, it earns zero.
WRONG = "RATE = 0.0\ndef scale(x):\n    return 0 * x\n"

#: Does what each cheat begins with: a helper that knows the wire from the inside.
WIRE = """
import os, socket, threading
from jaxgrader.grading import server, wire
PATH = next(p for p in ("/run/kernel/wire",) if os.path.exists(p))
def dial():
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.connect(PATH)
    return connection
"""

#: Answers right once the mark is in `look()`, all that a student can read. It compares
#: texts with every character changed, so that it does not find itself.
SEARCH = """
RATE = 0.0
CHANGED = {i: i ^ 1 for i in range(128)}
SEARCH
def scale(x):
    return 3 * x if MARK in look().translate(CHANGED) else 0 * x
"""


#: Waits for the grader to hang up. Some cheats hang at the first call only.
LISTEN = "while c.recv(1 << 16): pass"


def reply(*replies: str) -> str:
    """A student's end of the wire that gives these replies, whatever is asked."""
    return (
        WRONG
        + WIRE
        + (
            "server.answer = lambda *request, turn=iter(range(10**9)): "
            f"[{', '.join(replies)}][next(turn) % {len(replies)}]\n"
        )
    )


def serve(body: str) -> str:
    """A student's end of the wire that does something else with the connection."""
    lines = "\n".join("    " + line for line in body.splitlines())
    return (
        f"{WRONG}{WIRE}import time\nonce = [1]\ndef other(namespace, path):\n{lines}\n"
        "server.serve = other\n"
    )


def publish(body: str) -> str:
    """A function that sends messages on the kernel's own sockets when it is called."""
    lines = "\n".join("    " + line for line in body.splitlines())
    return f"""
RATE = 0.0
kernel = get_ipython().kernel
def send(kind, content, socket=kernel.iopub_socket, **more):
    more.setdefault("parent", kernel.get_parent())
    kernel.session.send(socket, kind, content, **more)
def scale(x):
{lines}
    return 0 * x
"""


def error(*kinds: str) -> str:
    """The reply that the function raised what claims to be of these types."""
    return (
        f"('error', {{'type': {kinds[0]!r}, 'kinds': {list(kinds)!r}, "
        "'message': 'm', 'lines': []})"
    )


def returns(expression: str, before: str = "") -> str:
    return f"{before}\nRATE = {expression}\ndef scale(x):\n    return {expression}\n"


def raises(expression: str, before: str = "") -> str:
    return f"{before}\nRATE = 0.0\ndef scale(x):\n    raise {expression}\n"


IPYTHON = {
    "ast_transformer": """
import ast
class Strip(ast.NodeTransformer):
    def visit_Assert(self, node):
        return ast.copy_location(ast.Pass(), node)
get_ipython().ast_transformers.append(Strip())
""",
    "input_transformer": """
get_ipython().input_transformers_cleanup.append(lambda lines: ["pass\\n"])
get_ipython().input_transformers_post.append(lambda lines: ["pass\\n"])
""",
    "hooks": """
def before(info): info.raw_cell = "pass"
def after(result): result.error_in_exec = result.error_before_exec = None
shell = get_ipython()
shell.events.register("pre_run_cell", before)
shell.events.register("post_run_cell", after)
for event in ("pre_execute", "post_execute"):
    shell.events.register(event, lambda: shell.user_ns.update({"__builtins__": {}}))
""",
    "run_cell": """
shell = get_ipython()
kind = type(shell)
run = kind.run_cell
kind.run_cell = lambda self, code, *a, **k: run(self, "pass", *a, **k)
async def nothing(self, *a, **k): return run(self, "pass", silent=True)
kind.run_cell_async = nothing
kind.run_code = kind.run_ast_nodes = nothing
""",
    "showtraceback": """
kind = type(get_ipython())
kind.showtraceback = kind._showtraceback = lambda self, *a, **k: None
kind.showsyntaxerror = lambda self, *a, **k: None
""",
    "do_execute": """
kernel = get_ipython().kernel
async def fine(*a, **k):
    return {"status": "ok", "execution_count": 1, "payload": [], "user_expressions": {}}
type(kernel).do_execute = fine
""",
    "handlers": """
kernel = get_ipython().kernel
async def fine(stream, ident, parent):
    kernel.session.send(stream, "execute_reply", {"status": "ok", "execution_count": 1,
        "payload": [], "user_expressions": {}}, parent, ident=ident)
kernel.shell_handlers["execute_request"] = fine
""",
    "interrupts": """
kernel = get_ipython().kernel
async def fine(*a, **k): pass
for name in list(kernel.control_handlers): kernel.control_handlers[name] = fine
""",
}

PATCHES = {
    "numpy_testing": """
import numpy as np
for name in dir(np.testing):
    if name.startswith("assert"): setattr(np.testing, name, lambda *a, **k: None)
np.isclose = np.allclose = np.array_equal = lambda *a, **k: True
""",
    "jax_allclose": """
import jax, jax.numpy as jnp
jnp.allclose = jnp.isclose = jnp.array_equal = lambda *a, **k: True
jax.Array.__eq__ = lambda self, other: True
""",
    "builtins": """
import builtins
builtins.isinstance = lambda *a: True
builtins.abs = builtins.max = builtins.sum = lambda *a, **k: 0
builtins.AssertionError = Warning
builtins.all = builtins.any = builtins.bool = lambda *a: True
""",
    "builtin_float": "import builtins\nbuiltins.float = lambda *a: 1.0\n",
    "builtin_import": """
import builtins
real = builtins.__import__
def fake(name, *a, **k):
    if name.startswith(("numpy", "jaxgrader")): raise ImportError(name)
    return real(name, *a, **k)
builtins.__import__ = fake
""",
    "shadow_numpy": """
import sys, types
class Yes(types.ModuleType):
    def __getattr__(self, name): return lambda *a, **k: True
for name in ("numpy", "numpy.testing", "jax", "jax.numpy"):
    sys.modules[name] = Yes(name)
""",
    "shadow_jaxgrader": """
import sys, types
class Yes(types.ModuleType):
    def __getattr__(self, name): return lambda *a, **k: True
for name in ("", ".grading", ".grading.server", ".grading.wire", ".grading.client"):
    sys.modules["jaxgrader" + name] = Yes("jaxgrader" + name)
""",
}

#: Forged on the wire.
REPLIES = {
    "always_true": reply("('value', True)"),
    "verdict": reply("('verdict', {'event': 'verdict', 'value': {'number': '3'}})"),
    "reply_kinds": reply("('passed', True)", "('need', {})", "('ok', None)"),
    "reply_callable": reply("('callable', 'scale')"),
    "reply_missing": reply("('missing', ['x'] * 9)", "('missing', None)"),
    "reply_refused": reply("('refused', 7)", "('refused', 'x' * 10**6)"),
    "reply_error": reply(
        "('error', None)", "('error', {'type': 1})", "('error', ['m', 'n'])"
    ),
    "says_stopiteration": reply(error("StopIteration")),
    "says_unicode": reply(error("UnicodeDecodeError"), error("UnicodeEncodeError")),
    "says_assertion": reply(error("AssertionError", "Exception")),
    "says_keyboard": reply(error("KeyboardInterrupt"), error("SystemExit")),
    "says_group": reply(error("ExceptionGroup"), error("BaseExceptionGroup")),
    "says_student": reply(error("StudentError", "TestCellError", "MemoryError")),
    "says_name": reply(error("NameError"), error("ImportError")),
    "garbage": serve(f"c = dial()\nc.sendall(os.urandom(4096))\n{LISTEN}"),
    "giant_header": serve(
        "from jaxgrader.grading.codec import PREFIX\n"
        f"c = dial()\nc.sendall(PREFIX.pack(b'JGW1', 2**32 - 1, 0))\n{LISTEN}"
    ),
    "giant_payload": serve(
        "from jaxgrader.grading.codec import PREFIX\n"
        f"c = dial()\nc.sendall(PREFIX.pack(b'JGW1', 20, 2**63))\n{LISTEN}"
    ),
    "half_a_frame": serve(
        "from jaxgrader.grading.codec import PREFIX\n"
        "dial().sendall(PREFIX.pack(b'JGW1', 20, 2**20)); dial()"
    ),
    "two_at_once": serve(
        f"c = dial()\nfor _ in range(50): wire.send(c, 'value', 0.0)\n{LISTEN}"
    ),
    "hangs_up": serve("dial().close()"),
    "never_dials": serve("once.pop()\ntime.sleep(3600)"),
    "returns_early": serve("return None"),
    "many_dials": serve(
        "once.pop()\nkept = [dial() for _ in range(9)]\ntime.sleep(3600)"
    ),
    "dials_first": WRONG
    + WIRE
    + """
def early():
    with dial() as c:
        for _ in range(50): wire.send(c, "value", 0.0)
        threading.Event().wait()
threading.Thread(target=early, daemon=True).start()
""",
    "own_listener": WRONG
    + WIRE
    + """
import contextlib
with contextlib.suppress(OSError): os.unlink(PATH)
with contextlib.suppress(OSError): os.rename(PATH, PATH + "2")
with contextlib.suppress(OSError):
    mine = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mine.bind(PATH)
""",
    "other_sockets": WRONG
    + WIRE
    + """
import json, struct
told = {"event": "verdict", "asked": True, "value": {"truth": True}}
text = json.dumps(told).encode()
for folder, _, names in os.walk("/run"):
    for name in names:
        try:
            c = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            c.settimeout(1)
            if name != "wire": c.connect(os.path.join(folder, name))
            if name == "control": RATE = 3.0
            c.sendall(struct.pack("!I", len(text)) + text)
        except OSError: pass
""",
}

#: Forged on the kernel's own sockets.
MESSAGES = {
    "execute_reply": publish("""
for content in ({"status": "ok"}, {"status": "ok", "execution_count": 1}):
    for name in ("shell_stream", "control_stream"):
        stream = getattr(kernel, name, None)
        if stream is not None:
            send("execute_reply", content, stream, ident=kernel._parent_ident["shell"])
"""),
    "bad_reply": publish("""
for stream in (kernel.shell_stream, kernel.iopub_socket):
    for content in ({}, {"status": 1}, {"status": "error", "ename": [], "evalue": {}}):
        send("execute_reply", content, stream, ident=kernel._parent_ident["shell"])
"""),
    "execute_result": publish("""
data = {"text/plain": "3.0"}
send("execute_result", {"data": data, "metadata": {}, "execution_count": 1})
shown = {"data": data, "metadata": {}, "transient": {"display_id": "d"}}
send("display_data", shown)
send("update_display_data", shown)
"""),
    "clears": publish("""
for wait in (True, False): send("clear_output", {"wait": wait})
send("status", {"execution_state": "idle"})
"""),
    "malformed": publish("""
for kind in ("stream", "error", "display_data", "execute_result", "status",
             "update_display_data", "clear_output", "comm_open", "comm_msg", "x" * 99):
    for content in ({}, {"text": 3, "name": []}, {"data": [], "transient": 3},
                    {"ename": 1, "evalue": 2, "traceback": 3},
                    {"data": {"text/plain": {"a": [[]]}}, "metadata": 3,
                     "transient": {"display_id": {}}}):
        send(kind, content)
"""),
    "comms": publish("""
send("comm_open", {"comm_id": "c", "target_name": "jupyter.widget", "data": {
    "state": {"_model_name": "OutputModel", "_model_module": "@jupyter-widgets/output",
              "msg_id": kernel.get_parent()["header"]["msg_id"]}}})
send("comm_msg", {"comm_id": "c", "data": {"state": {"outputs": [1], "msg_id": ""},
                                           "method": "update", "buffer_paths": [7]}})
"""),
    "not_json": publish("""
kernel.iopub_socket.send_multipart([b"x", b"<IDS|MSG>", b"wrong", *[b"{"] * 4])
kernel.iopub_socket.send_multipart([b"nothing"])
"""),
    "surrogates": publish(
        "print('\\ud800 \\udfff')\n"
        "send('stream', {'name': 'stdout', 'text': '\\ud800'})"
    ),
    "deep": publish("""
nested = 0
for _ in range(400): nested = [nested]
send("display_data", {"data": {"application/json": nested}, "metadata": {"m": nested}})
"""),
    "late_update": publish("""
import threading, time
def later():
    for _ in range(200):
        send("update_display_data", {"data": {"text/plain": "3.0"}, "metadata": {},
             "transient": {"display_id": "d"}})
        send("execute_result", {"data": {"text/plain": "1.0"}, "metadata": {},
             "execution_count": 1})
        time.sleep(0.01)
threading.Thread(target=later, daemon=True).start()
"""),
}

#: Values and objects.
LIES = {
    "liar": returns(
        "Liar()",
        """
class Liar:
    __eq__ = __bool__ = __contains__ = lambda self, *a: True
    __ne__ = lambda self, *a: False
    __array__ = __jax_array__ = lambda self, *a, **k: __import__("numpy").array(3.0)
    __float__ = lambda self: 1.5
    __array_ufunc__ = __array_function__ = lambda self, *a, **k: True
    __mul__ = __rmul__ = __truediv__ = __sub__ = __abs__ = lambda self, *a: self
    __hash__ = None
""",
    ),
    "subclass": returns(
        "np.zeros(3).view(Yes)",
        """
import numpy as np
class Yes(np.ndarray):
    __eq__ = lambda self, other: np.array(True)
    def __array_ufunc__(self, *a, **k): return True
""",
    ),
    "float_subclass": returns(
        "Yes(0)",
        """
class Yes(float):
    __eq__ = lambda self, other: True
    __hash__ = None
    __truediv__ = lambda self, other: 1.0
""",
    ),
    "str_subclass": returns(
        "Yes('0')", "class Yes(str):\n    __eq__ = lambda *a: True\n"
    ),
    "one_element": returns("np.zeros((1,))", "import numpy as np"),
    "empty": returns("np.zeros((0,))", "import numpy as np"),
    "nothing": returns("None"),
    "text": returns("'three'"),
    "float8": returns("ml_dtypes.float8_e4m3fn(0)", "import ml_dtypes"),
    "complex": returns("0j"),
    "list": returns("[]"),
    "nan": returns("float('nan')"),
    "infinite": returns("float('inf')"),
    "huge_int": returns("10 ** 1200"),
    "generator": returns("iter(int, 1)"),
    "a_callable": returns("lambda *a: 3.0"),
    "mutates_later": """
import threading, numpy as np
RATE, held = np.zeros(3), []
def scale(x):
    held.append(np.zeros(3))
    threading.Timer(0.01, lambda: held[-1].fill(3.0)).start()
    return held[-1]
""",
    "mutates_input": """
RATE = 0.0
def scale(x):
    if hasattr(x, "fill"): x.fill(0)
    return x if hasattr(x, "fill") else 0 * x
""",
    "own_answer": """
RATE = 0.0
def scale(x): return RATE if isinstance(x, float) else x
""",
}

ERRORS = {
    "assertion": raises("AssertionError('')"),
    "system_exit": raises("SystemExit(0)"),
    "keyboard": raises("KeyboardInterrupt()"),
    "stop_iteration": raises("StopIteration(3.0)"),
    "generator_exit": raises("GeneratorExit()"),
    "base": raises("Mine()", "class Mine(BaseException): pass"),
    "unicode": raises("UnicodeDecodeError('utf-8', b'', 0, 1, 'no')"),
    "namesake": raises("StudentError('')", "class StudentError(ValueError): pass"),
    "timeout_error": raises(
        "CellTimeoutError('')", "class CellTimeoutError(Exception): pass"
    ),
    "checker_error": raises("CheckerError('')", "class CheckerError(Exception): pass"),
    "str_raises": raises(
        "Mine()", "class Mine(Exception):\n    def __str__(self): raise SystemExit"
    ),
    "str_hangs": raises(
        "Mine()",
        "once = [1]\nclass Mine(Exception):\n    def __str__(self):\n"
        "        once.pop()\n        while True: pass",
    ),
    "name_lies": raises(
        "Mine()", "Mine = type('\\ud800' * 300, (NameError,), {'name': 'np'})"
    ),
    "exits": """
RATE = 0.0
def scale(x):
    print('3.0', flush=True)
    __import__('os')._exit(0)
""",
    "exits_lines": """
import os
RATE = 0.0
def scale(x):
    for fd in (1, 2): os.write(fd, b'{"event": "verdict", "value": {"truth": true}}\\n')
    os._exit(0)
""",
    "killed": "RATE = 0.0\ndef scale(x):\n    import os; os.kill(os.getpid(), 9)\n",
    "too_late": """
import time
RATE, once = 0.0, [1]
def scale(x):
    once.pop()
    time.sleep(10)
    return 3 * x
""",
    "recursion": "RATE = 0.0\ndef scale(x):\n    return scale(x)\n",
    "closes_files": "RATE = 0.0\ndef scale(x):\n    import os; os.closerange(3, 999)\n",
}

#: Look for the hidden tests.
SEARCHES = {
    "history": """
def look():
    shell = get_ipython()
    history = shell.history_manager
    rows = list(history.get_range(raw=True)) if history else []
    return repr([In, _ih, _oh, Out, rows, shell.user_ns])
""",
    "reads_files": """
import pathlib
def look():
    places = [".", "/scratch", "/home/student", "/run", "/dev/shm"]
    files = [p for place in places for p in pathlib.Path(place).rglob("*")]
    text = []
    for path in files:
        try: text.append(path.is_file() and path.read_text(errors="replace") or "")
        except OSError: pass
    return "".join(text)
""",
    "frames": """
import gc, sys, inspect
def look():
    frames = [f for top in sys._current_frames().values()
              for f, _ in __import__("traceback").walk_stack(top)]
    texts = [repr(f.f_locals)[:9000] for f in frames]
    texts += [o for o in gc.get_objects() if isinstance(o, str)]
    kinds = (list, dict, tuple)
    texts += [repr(o)[:9000] for o in gc.get_objects() if type(o) in kinds]
    return "".join(texts)
""",
    "environment": """
import glob
def look():
    text = []
    for path in glob.glob("/proc/[0-9]*/environ") + glob.glob("/proc/[0-9]*/cmdline"):
        try: text.append(open(path, errors="replace").read())
        except OSError: pass
    return "".join(text)
""",
    "thread": """
import threading
seen = []
def watch():
    while True:
        for thread, frame in __import__("sys")._current_frames().items():
            while frame is not None:
                seen.append(str(frame.f_locals)[:2000])
                frame = frame.f_back
        del seen[:-500]
        threading.Event().wait(0.05)
threading.Thread(target=watch, daemon=True).start()
def look(): return "".join(seen)
""",
}


def search(look: str, mark: str) -> str:
    """An answer that is right once `look` has found the mark."""
    changed = "".join(chr(ord(char) ^ 1) for char in mark)
    return SEARCH.replace("SEARCH", look).replace("MARK", repr(changed))
