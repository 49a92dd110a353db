"""llama.cpp in this process, by the C interface (llama.h) that the xllamacpp wheel exports: logits
of every position of a sequence, in fp32, which its server does not give."""
import contextlib
import ctypes
import os
import sys

import numpy as np
import xllamacpp

N_CTX = 512
F16, F32 = 1, 0  # ggml's numbers


class ContextParams(ctypes.Structure):
    """Beginning of llama_context_params; larger than all of it, since it goes by value."""
    _fields_ = [
        *((name, ctypes.c_uint32) for name in (
            "n_ctx", "n_batch", "n_ubatch", "n_seq_max", "n_rs_seq", "n_outputs_max",
            "n_outputs_max_per_seq")),
        *((name, ctypes.c_int32) for name in (
            "n_threads", "n_threads_batch", "ctx_type", "rope_scaling_type", "pooling_type",
            "attention_type", "flash_attn_type")),
        ("rope_and_yarn", ctypes.c_float * 6), ("yarn_orig_ctx", ctypes.c_uint32),
        ("defrag_thold", ctypes.c_float), ("cb_eval", ctypes.c_void_p),
        ("cb_eval_user_data", ctypes.c_void_p), ("type_k", ctypes.c_int32),
        ("type_v", ctypes.c_int32), ("others", ctypes.c_char * 256)]


class ModelParams(ctypes.Structure):
    """llama_model_params, untouched."""
    _fields_ = [("bytes", ctypes.c_char * 256)]


class Batch(ctypes.Structure):
    _fields_ = [("n_tokens", ctypes.c_int32), ("token", ctypes.POINTER(ctypes.c_int32)),
                ("embd", ctypes.c_void_p), ("pos", ctypes.c_void_p), ("n_seq_id", ctypes.c_void_p),
                ("seq_id", ctypes.c_void_p), ("logits", ctypes.POINTER(ctypes.c_int8))]


def library():
    lib = ctypes.CDLL(xllamacpp.xllamacpp.__file__)
    pointer = ctypes.c_void_p
    for name, result, *arguments in (
            ("llama_model_default_params", ModelParams),
            ("llama_context_default_params", ContextParams),
            ("llama_model_load_from_file", pointer, ctypes.c_char_p, ModelParams),
            ("llama_init_from_model", pointer, pointer, ContextParams),
            ("llama_model_get_vocab", pointer, pointer),
            ("llama_vocab_n_tokens", ctypes.c_int32, pointer),
            ("llama_get_memory", pointer, pointer),
            ("llama_memory_clear", None, pointer, ctypes.c_bool),
            ("llama_decode", ctypes.c_int32, pointer, Batch),
            ("llama_get_logits", ctypes.POINTER(ctypes.c_float), pointer),
            ("llama_free", None, pointer),
            ("llama_model_free", None, pointer)):
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    lib.llama_backend_init()
    return lib


class Model:
    """A GGUF file in llama.cpp: model(ids) are its logits. K and V stay F32, no flash attention."""
    lib = None

    def __init__(self, path):
        Model.lib = Model.lib or library()
        lib = self.lib
        params = lib.llama_context_default_params()
        known = (params.n_batch, params.flash_attn_type, params.defrag_thold, params.type_k,
                 params.type_v)
        assert known == (2048, -1, -1.0, F16, F16), f"llama_context_params is another: {known}"
        params.n_ctx = params.n_batch = params.n_ubatch = N_CTX
        params.n_outputs_max = params.n_outputs_max_per_seq = N_CTX
        params.n_threads = params.n_threads_batch = 1
        params.flash_attn_type = 0
        params.type_k = params.type_v = F32
        self.model = lib.llama_model_load_from_file(os.fsencode(path),
                                                    lib.llama_model_default_params())
        assert self.model, f"{path}: llama.cpp cannot load it"
        self.context = lib.llama_init_from_model(self.model, params)
        assert self.context, f"{path}: llama.cpp makes no context"
        self.n_vocab = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(self.model))

    def __call__(self, ids):
        lib, n = self.lib, len(ids)
        lib.llama_memory_clear(lib.llama_get_memory(self.context), True)
        batch = Batch(n, (ctypes.c_int32 * n)(*ids), None, None, None, None,
                      (ctypes.c_int8 * n)(*[1] * n))
        status = lib.llama_decode(self.context, batch)
        assert status == 0, f"llama_decode: {status}"
        flat = np.ctypeslib.as_array(lib.llama_get_logits(self.context), (n, self.n_vocab))
        return flat.copy()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.lib.llama_free(self.context)
        self.lib.llama_model_free(self.model)


@contextlib.contextmanager
def quiet():
    """llama.cpp writes to file descriptor 2."""
    sys.stderr.flush()
    kept, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(null)


def log_softmax(logits):
    """Along the last axis, in fp64."""
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
