"""load.py LIBRARY: seconds to load a compiled model, and the memory that two processes with it have alone and together.
Each process reads all of the weights once, so that they are really in memory."""
import ctypes
import mmap
import os
import sys
import time


def load(path):
    begin = time.perf_counter()
    query = ctypes.CDLL(path).tn_model_query
    query.restype = ctypes.c_void_p
    table = ctypes.cast(query(ctypes.c_uint32(1)) + 8, ctypes.POINTER(ctypes.c_void_p))
    model, error = ctypes.c_void_p(), ctypes.create_string_buffer(512)
    if ctypes.CFUNCTYPE(ctypes.c_int32)(table[0])(None, ctypes.byref(model), error, ctypes.c_uint64(512)):
        sys.exit(error.value.decode())
    return time.perf_counter() - begin


def touch(path):
    """Reads one byte of every page of the file's mappings."""
    total = 0
    for line in open("/proc/self/maps"):
        if line.rstrip().endswith(path):
            begin, end = (int(x, 16) for x in line.split()[0].split("-"))
            if end - begin > 1 << 20:
                data = (ctypes.c_ubyte * (end - begin)).from_address(begin)
                total += sum(data[i] for i in range(0, end - begin, mmap.PAGESIZE))
    return total


def memory(path):
    """Proportional and private bytes of the file's mappings."""
    pss = private = 0
    inside = False
    for line in open("/proc/self/smaps"):
        if "-" in line.split()[0] and not line.split()[0].endswith(":"):
            inside = line.rstrip().endswith(path)
        elif inside and line.startswith("Pss:"):
            pss += int(line.split()[1]) << 10
        elif inside and line.startswith(("Private_Clean:", "Private_Dirty:")):
            private += int(line.split()[1]) << 10
    return pss, private


def main():
    path = os.path.realpath(sys.argv[1])
    ready, go = os.pipe(), os.pipe()
    for i in range(2):
        if os.fork() == 0:
            seconds = load(path)
            touch(path)
            os.write(ready[1], b"r")
            os.read(go[0], 1)
            pss, private = memory(path)
            print(f"process {i}: loaded in {seconds * 1e3:.1f} ms; mapped {os.path.getsize(path) / 1e6:.0f} MB, proportional share {pss / 1e6:.0f} MB, private {private / 1e6:.1f} MB", flush=True)
            os.write(ready[1], b"d")
            os.read(go[0], 1)
            os._exit(0)
    got = b""
    while len(got) < 2:
        got += os.read(ready[0], 2 - len(got))
    os.write(go[1], b"gg")
    got = b""
    while len(got) < 2:
        got += os.read(ready[0], 2 - len(got))
    os.write(go[1], b"gg")
    for _ in range(2):
        os.wait()


main()
