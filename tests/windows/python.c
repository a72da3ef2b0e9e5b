/* python.exe: everything is in the DLL. */

#include <Python.h>

int wmain(int argc, wchar_t **argv) { return Py_Main(argc, argv); }
