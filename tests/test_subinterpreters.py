"""A sub-interpreter can't import npipes, and is told so; nothing else comes of it."""

import importlib.util

import pytest
from support import run_python

MODULES = [name for name in ("_interpreters", "_xxsubinterpreters") if importlib.util.find_spec(name)]

PROGRAM = """
    import sys
    import npipes
    import {module} as interpreters

    own_gil = sys.argv[1] == "True"
    if "{module}" == "_interpreters":
        new = interpreters.create("isolated" if own_gil else "legacy")
        run = interpreters.exec
    else:
        run = interpreters.run_string
        new = interpreters.create(isolated=own_gil)

    code = "\\n".join([
        "import sys",
        f"sys.path[:] = {{sys.path!r}}",
        "try:",
        "    import npipes",
        "except ImportError as error:",
        "    print(error, flush=True)",
    ])
    for _ in range(2):
        run(new, code)
    interpreters.destroy(new)
    with npipes.Server(sys.argv[2]) as server:
        print(server.is_running)
"""


@pytest.mark.skipif(not MODULES, reason="this interpreter makes no others")
@pytest.mark.parametrize("own_gil", [False, True], ids=["shared", "own"])
def test_a_sub_interpreter_is_refused_with_an_import_error(pipe_name, own_gil):
    """Where it has a GIL of its own (3.12 and later) Python says so itself."""
    lines = run_python(PROGRAM.format(module=MODULES[0]), own_gil, pipe_name).splitlines()
    assert lines[2:] == ["True"]
    for line in lines[:2]:
        assert "npipes" in line and "interpreters" in line
        assert "support" in line
