"""A compiled model through ctypes: the table of tenon/model.h, sessions, generation of one text and of several."""
import ctypes as C
import os
import re
import subprocess
import sys

FINISH = ["none", "end", "stop", "grammar", "length", "capacity", "cancelled"]
I32, U32, I64, U64, F32, F64, P, S = (C.c_int32, C.c_uint32, C.c_int64, C.c_uint64, C.c_float, C.c_double, C.c_void_p,
                                      C.c_char_p)


class Struct(C.Structure):
    def __init__(self, **kw):
        super().__init__(**kw)
        if self._fields_[0][0] == "size":
            self.size = C.sizeof(type(self))


class Options(Struct):
    _fields_ = [("size", U32), ("threads", U32), ("batch", I64), ("capacity", I64), ("error", S), ("error_size", U64)]


class Alternative(Struct):
    _fields_ = [("id", I32), ("logprob", F32)]


class NewToken(Struct):
    _fields_ = [("size", U32), ("sequence", U32), ("id", I32), ("finish", U32), ("text", P), ("len", U64),
                ("logprob", F32), ("nalternatives", U32), ("alternatives", C.POINTER(Alternative))]


class Generation(Struct):
    _fields_ = [("size", U32), ("finish", U32), ("prompt_tokens", U64), ("new_tokens", U64), ("drafted", U64),
                ("accepted", U64), ("masks", U64), ("mask_seconds", F64)]


class Bias(Struct):
    _fields_ = [("token", I32), ("bias", F32)]


OnNewToken = C.CFUNCTYPE(I32, P, C.POINTER(NewToken))
OnToken = C.CFUNCTYPE(I32, P, I32, P, U64)


class Sampling(Struct):
    _fields_ = [("size", U32), ("max_tokens", U32), ("temperature", F32), ("top_p", F32), ("min_p", F32),
                ("repetition_penalty", F32), ("top_k", U32), ("seed", U64), ("typical_p", F32),
                ("frequency_penalty", F32), ("presence_penalty", F32), ("penalty_last_n", I32),
                ("dry_multiplier", F32), ("dry_base", F32), ("dry_allowed_length", U32), ("dry_last_n", I32),
                ("dry_breakers", C.POINTER(S)), ("ndry_breakers", U32), ("nbias", U32), ("bias", C.POINTER(Bias)),
                ("stop", C.POINTER(S)), ("nstop", U32), ("logprobs", U32), ("grammar", S), ("grammar_len", U64),
                ("on_token", OnNewToken), ("result", C.POINTER(Generation)), ("draft_tokens", U32),
                ("draft_ngram", U32), ("draft", P)]


class Prompt(Struct):
    _fields_ = [("ids", C.POINTER(I32)), ("nids", U64)]


class Tensor(Struct):
    _fields_ = [("data", P), ("dtype", U32), ("rank", U32), ("shape", I64 * 8)]


class EntryInfo(Struct):
    _fields_ = [("name", S), ("ninputs", U32), ("noutputs", U32)]


TABLE = ["open", "close", "name", "entry_count", "entry", "input", "output", "meta_count", "meta_key", "meta",
         "session_new", "session_free", "session_reset", "position", "rewind", "error", "shapes", "invoke", "tokenize",
         "detokenize", "token_text", "token_id", "generate", "generate_batch"]
RETURNS = {"close": None, "name": S, "entry_count": U32, "meta_count": U32, "meta_key": S, "meta": S,
           "session_free": None, "position": I64, "error": S, "token_text": P}


ABI = I32_DTYPE = None


class Table(C.Structure):
    _fields_ = [("size", U32), ("abi", U32)] + [(n, P) for n in TABLE]


def compiled(tenon, folder, path, *options):
    r = subprocess.run([tenon, "compile", folder, "-o", path, *options], capture_output=True, text=True)
    if r.returncode:
        sys.exit(r.stderr)
    return path


class Model:
    def __init__(self, path):
        self.lib = C.CDLL(os.path.abspath(path))
        self.lib.tn_model_query.restype = P
        table = Table.from_address(self.lib.tn_model_query(U32(ABI)))
        for n in TABLE:
            setattr(self, n, C.CFUNCTYPE(RETURNS.get(n, I32))(getattr(table, n)))
        self.m = P()
        if self.open(None, C.byref(self.m), None, U64(0)):
            sys.exit(f"{path} does not open")
        self.entries = {}
        for i in range(self.entry_count(self.m)):
            info = EntryInfo()
            self.entry(self.m, U32(i), C.byref(info))
            self.entries[info.name.decode()] = i

    def text(self, key):
        v = self.meta(self.m, key.encode())
        return v.decode() if v else None


class Failed(Exception):
    pass


class Session:
    def __init__(self, model, threads=1, batch=1, capacity=0):
        self.model, self.s = model, P()
        error = C.create_string_buffer(300)
        o = Options(threads=threads, batch=batch, capacity=capacity, error=C.cast(error, S), error_size=300)
        if model.session_new(model.m, C.byref(o), C.byref(self.s)):
            raise Failed(error.value.decode())

    def close(self):
        self.model.session_free(self.s)

    def check(self, status):
        if status:
            raise Failed(self.model.error(self.s).decode())

    def reset(self):
        self.check(self.model.session_reset(self.s))

    def position(self):
        return self.model.position(self.s)

    def tokenize(self, text, flags=0):
        data = text.encode()
        ids, n = (I32 * (len(data) + 16))(), U64(len(data) + 16)
        self.check(self.model.tokenize(self.s, data, U64(len(data)), None, U64(0), U32(flags), ids, None, C.byref(n)))
        return list(ids[:n.value])

    def detokenize(self, ids):
        text, n = C.create_string_buffer(1 << 16), U64(1 << 16)
        self.check(self.model.detokenize(self.s, (I32 * len(ids))(*ids), U64(len(ids)), U32(2), text, C.byref(n)))
        return text.raw[:n.value]

    def scores(self, entry, ids):
        """The scores of an entry on new tokens, as a numpy array."""
        import numpy as np
        data = np.asarray(ids, dtype=np.int32).reshape(1, -1)
        x, y = Tensor(data=data.ctypes.data, dtype=0, rank=2), Tensor()
        x.dtype = I32_DTYPE
        x.shape[0], x.shape[1] = data.shape
        e = U32(self.model.entries[entry])
        self.check(self.model.shapes(self.s, e, C.byref(x), C.byref(y)))
        out = np.empty([y.shape[i] for i in range(y.rank)], dtype=np.float32)
        y.data = out.ctypes.data
        self.check(self.model.invoke(self.s, e, C.byref(x), C.byref(y)))
        return out[0]

    def _options(self, count, how, heard, results):
        """A Sampling, and what must stay alive with it."""
        keep = []

        def texts(value):
            keep.append((S * len(value))(*[v.encode() for v in value]))
            return keep[-1]

        how = dict(how)
        for name in ("stop", "dry_breakers"):
            if name in how:
                how["n" + name] = len(how[name])
                how[name] = texts(how[name])
        if "bias" in how:
            keep.append((Bias * len(how["bias"]))(*[Bias(token=t, bias=b) for t, b in how["bias"].items()]))
            how["nbias"] = len(how["bias"])
            how["bias"] = keep[-1]
        if isinstance(how.get("grammar"), str):
            how["grammar"] = how["grammar"].encode()
        if "draft" in how:
            how["draft"] = how["draft"].s

        @OnNewToken
        def each(_, t):
            t = t.contents
            top = [(t.alternatives[i].id, t.alternatives[i].logprob) for i in range(t.nalternatives)]
            return 1 if heard(t.sequence, t.id, C.string_at(t.text, t.len), t.finish, t.logprob, top) else 0

        keep += [each, results]
        o = Sampling(max_tokens=count, result=C.cast(results, C.POINTER(Generation)), **how)
        return o, each, keep

    def generate(self, ids, count, stop_at=0, **how):
        """Tokens, text, the result, and (logprob, alternatives) per token."""
        tokens, pieces, tops = [], [], []

        def heard(_, token, text, finish, logprob, top):
            tokens.append(token), pieces.append(text), tops.append((logprob, top))
            return stop_at and len(tokens) >= stop_at

        result = (Generation * 1)(Generation())
        o, each, keep = self._options(count, how, heard, result)
        o.on_token = each
        status = self.model.generate(self.s, (I32 * len(ids))(*ids), U64(len(ids)), C.byref(o), OnToken(), None)
        if status not in (0, 1):
            raise Failed(self.model.error(self.s).decode())
        return tokens, b"".join(pieces), result[0], tops

    def generate_batch(self, prompts, count, **how):
        """Per prompt: tokens, text, result."""
        tokens, pieces = [[] for _ in prompts], [[] for _ in prompts]

        def heard(i, token, text, finish, logprob, top):
            tokens[i].append(token), pieces[i].append(text)

        results = (Generation * len(prompts))(*[Generation() for _ in prompts])
        o, each, keep = self._options(count, how, heard, results)
        arrays = [(I32 * len(p))(*p) for p in prompts]
        c = (Prompt * len(prompts))(*[Prompt(ids=C.cast(a, C.POINTER(I32)), nids=len(a)) for a in arrays])
        self.check(self.model.generate_batch(self.s, c, U32(len(prompts)), C.byref(o), each, None))
        return [(tokens[i], b"".join(pieces[i]), results[i]) for i in range(len(prompts))]


def read_headers():
    """The numbers of the ABI and of i32, from the public headers."""
    global ABI, I32_DTYPE
    folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "plugins", "include", "tenon")
    text = open(os.path.join(folder, "ir.h"), encoding="utf-8").read()
    rows = re.findall(r"X\((\w+), *\d+", text[text.index("define TN_DTYPES"):])
    I32_DTYPE = rows.index("i32") + 1
    text = open(os.path.join(folder, "plugin.h"), encoding="utf-8").read()
    ABI = int(re.search(r"TN_ABI_MAJOR (\d+)", text)[1]) << 16


read_headers()


class Report:
    def __init__(self):
        self.failures = 0

    def __call__(self, ok, what, text=""):
        self.failures += not ok
        print(f"{'ok  ' if ok else 'FAIL'} {what:16} {text}", flush=True)

    def end(self):
        print(f"{self.failures} failures")
        sys.exit(self.failures > 0)
