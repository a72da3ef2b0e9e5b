"""Importing npipes: from a source without an extension, and what is not loaded before it is asked for."""

import shutil
import subprocess
import sys
from pathlib import Path

from support import child_environment, run_python

import npipes


def test_a_source_without_an_extension_says_what_to_do(tmp_path):
    package = tmp_path / "npipes"
    package.mkdir()
    shutil.copy(Path(npipes.__file__), package)
    done = subprocess.run(
        # -S: an npipes that is installed in place would add its extension to any package of that name.
        [sys.executable, "-S", "-c", "import npipes"],
        cwd=tmp_path,
        env=child_environment() | {"PYTHONPATH": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    said = done.stderr.splitlines()[-1]
    assert said.startswith(f"ImportError: {package} has no extension in it that was built for this Python (3.")
    assert "run Python in another directory" in said and "pip install -e ." in said


def test_what_is_for_event_loops_is_loaded_when_it_is_asked_for():
    run_python("""
        import sys
        import npipes
        assert "asyncio" not in sys.modules
        assert callable(npipes.aio.serve) and callable(npipes.bridge.serve)
        assert "asyncio" in sys.modules
        try:
            npipes.ioa
        except AttributeError as error:
            assert str(error) == "module 'npipes' has no attribute 'ioa'"
    """)
