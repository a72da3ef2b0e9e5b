"""Builds the extension for the platform it is compiled for.

Environment:
    NPIPES_TARGET     linux or win32; by default the platform this runs on
    NPIPES_DEBUG      1: no optimisation, debug information, assertions
    NPIPES_SANITIZE   sanitizers for gcc or clang, such as address,undefined or thread
    NPIPES_COVERAGE   1: instrument for gcov
    NPIPES_NO_GIL     1: declare that a free-threaded interpreter need not turn its GIL on
"""

import os
import shutil
import sys
import sysconfig
from glob import glob

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import BaseError, CompileError

target = os.environ.get("NPIPES_TARGET", sys.platform)
if target not in ("linux", "win32"):
    said = "NPIPES_TARGET" if "NPIPES_TARGET" in os.environ else "sys.platform"
    raise SystemExit(f"npipes runs on Linux and Windows (linux, win32); {said} is {target!r}")
folder = {"linux": "linux", "win32": "windows"}[target]
with_msvc = target == "win32" and "CC" not in os.environ

compile_args = ["/std:c11", "/W4"] if with_msvc else ["-std=c11", "-Wall", "-Wextra"]
link_args = []
macros = []
if target == "linux":
    compile_args += ["-fvisibility=hidden", "-fno-plt"]
    macros.append(("_GNU_SOURCE", None))
if os.environ.get("NPIPES_NO_GIL") == "1":
    macros.append(("NP_NO_GIL", None))
if not with_msvc:
    if os.environ.get("NPIPES_DEBUG") == "1":
        compile_args += ["-O0", "-g", "-UNDEBUG"]
    else:
        compile_args += ["-O3"]
    if sanitizers := os.environ.get("NPIPES_SANITIZE"):
        flag = f"-fsanitize={sanitizers}"
        compile_args += [flag, "-g", "-fno-omit-frame-pointer"]
        link_args.append(flag)
    if os.environ.get("NPIPES_COVERAGE") == "1":
        compile_args += ["--coverage", "-O0"]
        link_args.append("--coverage")
elif os.environ.get("NPIPES_DEBUG") == "1":
    compile_args += ["/Od", "/Zi"]
    link_args.append("/DEBUG")

rooms = ["src/engine", f"src/engine/{folder}", "src/binding", f"src/binding/{folder}"]


def extension(name, rooms, headers=()):
    """Every source of the rooms; headers are rooms of which only those are used."""
    folders = [*rooms, *headers]
    return Extension(
        name,
        sources=sorted(source for room in rooms for source in glob(f"{room}/*.c")),
        depends=sorted(header for room in folders for header in glob(f"{room}/*.h")),
        include_dirs=folders,
        define_macros=macros,
        extra_compile_args=compile_args,
        extra_link_args=link_args,
        libraries=["advapi32", "ntdll"] if target == "win32" else [],
    )


extensions = [extension("npipes._npipes", rooms)]
if target == "win32":
    native = "src/binding/windows/native"
    extensions.append(extension("npipes._native", [native], headers=["src/engine/windows", "src/binding"]))


class Build(build_ext):
    """Says what is not installed, where that is why it failed."""

    def build_extensions(self):
        try:
            super().build_extensions()
        except (BaseError, CompileError, OSError) as error:
            if missing := self.missing():
                raise CompileError(f"{error}\n\n{missing}\n") from error
            raise

    def missing(self):
        command = getattr(self.compiler, "compiler_so", None)  # none with MSVC, which speaks for itself
        if not command:
            return None
        if shutil.which(command[0]) is None:
            return (
                f"npipes is built with a C compiler, and there is no {command[0]!r}. Debian, Ubuntu: apt install gcc"
                " libc6-dev; Fedora: dnf install gcc. Another one is taken from the environment: CC=clang"
            )
        include = sysconfig.get_path("include")
        if not os.path.exists(os.path.join(include, "Python.h")):
            version = "{}.{}".format(*sys.version_info)
            return (
                f"npipes is built with the C headers of Python, and there is no Python.h in {include}."
                f" Debian, Ubuntu: apt install python{version}-dev; Fedora: dnf install python3-devel"
            )
        return None


setup(ext_modules=extensions, cmdclass={"build_ext": Build})
