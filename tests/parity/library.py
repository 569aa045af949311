"""A compiled model through tenon/model.h, with ctypes and numpy alone: for checks that keep a session."""
import ctypes

import numpy as np

ABI, MAX_RANK = 1, 8
DTYPES = {1: "f8", 2: "f4", 3: "f2", 7: "i8", 8: "i4", 15: "?"}  # TN_DT_*
NUMBERS = {np.dtype(v): k for k, v in DTYPES.items()}
STATUS, P, U32, U64, I64 = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint64, ctypes.c_int64)


class Tensor(ctypes.Structure):
    _fields_ = [("data", P), ("dtype", U32), ("rank", U32), ("shape", I64 * MAX_RANK)]


class ArgInfo(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("dtype", U32), ("rank", U32), ("shape", ctypes.c_char_p)]


class EntryInfo(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("ninputs", U32), ("noutputs", U32)]


class SessionOptions(ctypes.Structure):
    _fields_ = [("size", U32), ("threads", U32), ("batch", I64), ("capacity", I64), ("error", P), ("error_size", U64)]


def function(result, *args):
    return ctypes.CFUNCTYPE(result, *args)


class Api(ctypes.Structure):
    """The first fields of tn_model_api."""
    _fields_ = [("size", U32), ("abi", U32), ("open", function(STATUS, P, P, P, U64)), ("close", function(None, P)),
                ("name", P), ("entry_count", function(U32, P)), ("entry", function(STATUS, P, U32, P)),
                ("input", function(STATUS, P, U32, U32, P)), ("output", function(STATUS, P, U32, U32, P)),
                ("meta_count", P), ("meta_key", P), ("meta", function(ctypes.c_char_p, P, ctypes.c_char_p)),
                ("session_new", function(STATUS, P, P, P)), ("session_free", function(None, P)),
                ("session_reset", function(STATUS, P)), ("position", function(I64, P)),
                ("rewind", function(STATUS, P, I64)), ("error", function(ctypes.c_char_p, P)),
                ("shapes", function(STATUS, P, U32, P, P)), ("invoke", function(STATUS, P, U32, P, P))]


class Model:
    """with Model(path) as m: its entries, by name: numbers, inputs, outputs."""

    def __init__(self, path, weights=None):
        """weights: the file or folder with them, where the library does not find them by itself."""
        library = ctypes.CDLL(path)
        library.tn_model_query.restype = ctypes.POINTER(Api)
        self.api = library.tn_model_query(U32(ABI)).contents
        self.at = P()
        self.words = ctypes.create_string_buffer(400)
        place = ctypes.c_char_p(weights.encode()) if weights else None
        if self.api.open(place, ctypes.byref(self.at), self.words, len(self.words)):
            raise RuntimeError(f"open: {self.words.value.decode()}")
        self.entries = {}
        for i in range(self.api.entry_count(self.at)):
            e = EntryInfo()
            self.api.entry(self.at, i, ctypes.byref(e))
            self.entries[e.name.decode()] = (i, self.names(self.api.input, i, e.ninputs),
                                             self.names(self.api.output, i, e.noutputs))

    def names(self, get, entry, count):
        out = []
        for i in range(count):
            a = ArgInfo()
            get(self.at, entry, i, ctypes.byref(a))
            out.append(a.name.decode())
        return out

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.api.close(self.at)


class Session:
    """with Session(model, batch, capacity) as s: s.run("logits", ids=array) -> {"logits": array}."""

    def __init__(self, model, batch=1, capacity=0, threads=1):
        self.model, self.api, self.at = model, model.api, P()
        o = SessionOptions(ctypes.sizeof(SessionOptions), threads, batch, capacity,
                           ctypes.addressof(model.words), len(model.words))
        if self.api.session_new(model.at, ctypes.byref(o), ctypes.byref(self.at)):
            raise RuntimeError(f"session: {model.words.value.decode()}")

    def run(self, entry, **inputs):
        number, names, results = self.model.entries[entry]
        keep = [np.ascontiguousarray(inputs[n]) for n in names]
        ins = (Tensor * len(keep))(*[self.tensor(x) for x in keep])
        outs = (Tensor * len(results))()
        self.check(self.api.shapes(self.at, number, ins, outs))
        values = [np.zeros(list(t.shape[:t.rank]), DTYPES[t.dtype]) for t in outs]
        for t, v in zip(outs, values):
            t.data = v.ctypes.data
        self.check(self.api.invoke(self.at, number, ins, outs))
        return dict(zip(results, values))

    @staticmethod
    def tensor(x):
        return Tensor(x.ctypes.data, NUMBERS[x.dtype], x.ndim, (I64 * MAX_RANK)(*x.shape))

    def check(self, status):
        if status:
            raise RuntimeError(self.api.error(self.at).decode())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.api.session_free(self.at)
