"""llama.cpp, driven token by token: what the scripts beside it share.

Answers one question: given exactly these token ids, what does llama.cpp
compute, and how long does it take? Nothing here tokenizes or templates; the
ids come from outside, so that both engines see the same input.

Needs the PyPI package ``llama-cpp-python`` (which builds llama.cpp) and numpy:

    python3 -m venv peer && peer/bin/pip install llama-cpp-python numpy

Built by GCC for a processor with AMX, llama.cpp of this package may die of an
illegal instruction: use clang, or ``CMAKE_ARGS="-DGGML_NATIVE=ON
-DGGML_AMX_TILE=OFF -DGGML_AMX_INT8=OFF -DGGML_AMX_BF16=OFF"``.

Invariants: one sequence (id 0), f16 keys and values (llama.cpp's default),
positions are those of the ids fed since the last ``forget``.
"""

import ctypes
import os
import sys

try:
    import llama_cpp as C
    import numpy as np
except ImportError as error:
    sys.exit(f"{error}: {sys.executable} -m pip install llama-cpp-python numpy")

# llama.cpp's own defaults for a prompt batch and for what one graph computes.
BATCH_TOKENS = 2048
MICRO_BATCH_TOKENS = 512


@C.llama_log_callback
def _discard(_level, _text, _user_data):
    pass


class Llama:
    """One model in one context of fixed capacity, in tokens."""

    def __init__(self, path, n_threads, flash_attention, capacity, quiet=True):
        if not os.path.isfile(path):
            raise FileNotFoundError(f"no model file at {path}")
        if quiet:
            C.llama_log_set(_discard, ctypes.c_void_p(0))
        C.llama_backend_init()
        model_params = C.llama_model_default_params()
        model_params.n_gpu_layers = 0
        self.model = C.llama_model_load_from_file(path.encode(), model_params)
        if not self.model:
            raise RuntimeError(f"llama.cpp could not load {path}")
        params = C.llama_context_default_params()
        params.n_ctx = capacity
        params.n_batch = min(BATCH_TOKENS, capacity)
        params.n_ubatch = min(MICRO_BATCH_TOKENS, capacity)
        params.n_seq_max = 1
        params.n_threads = n_threads
        params.n_threads_batch = n_threads
        params.no_perf = True
        if hasattr(params, "flash_attn_type"):
            params.flash_attn_type = 1 if flash_attention else 0
        else:
            params.flash_attn = flash_attention
        self.context = C.llama_init_from_model(self.model, params)
        if not self.context:
            raise RuntimeError(f"llama.cpp could not make a context of {capacity} tokens")
        self.memory = C.llama_get_memory(self.context)
        self.vocab = C.llama_model_get_vocab(self.model)
        self.n_vocab = C.llama_vocab_n_tokens(self.vocab)
        self.capacity = capacity
        self.n_past = 0
        self.batch = C.llama_batch_init(params.n_batch, 0, 1)
        self.batch_tokens = params.n_batch

    def feed(self, tokens, all_logits=False):
        """Runs the ids through the model after what was fed before.

        Returns float32 logits, [n_vocab] of the last id, or [n_tokens, n_vocab]
        with ``all_logits``.
        """
        if not tokens:
            raise ValueError("no token ids to feed")
        if self.n_past + len(tokens) > self.capacity:
            raise ValueError(
                f"{self.n_past + len(tokens)} tokens exceed the context of {self.capacity}"
            )
        kept = []
        for start in range(0, len(tokens), self.batch_tokens):
            chunk = tokens[start : start + self.batch_tokens]
            last = start + len(chunk) == len(tokens)
            batch = self.batch
            batch.n_tokens = len(chunk)
            for i, token in enumerate(chunk):
                if not 0 <= token < self.n_vocab:
                    raise ValueError(f"token id {token} is outside the vocabulary of {self.n_vocab}")
                batch.token[i] = token
                batch.pos[i] = self.n_past + i
                batch.n_seq_id[i] = 1
                batch.seq_id[i][0] = 0
                batch.logits[i] = all_logits or (last and i == len(chunk) - 1)
            status = C.llama_decode(self.context, batch)
            if status != 0:
                raise RuntimeError(f"llama_decode returned {status}")
            # llama_decode may return before the work is done.
            C.llama_synchronize(self.context)
            self.n_past += len(chunk)
            if all_logits:
                kept.extend(self._logits(i) for i in range(len(chunk)))
            elif last:
                kept.append(self._logits(len(chunk) - 1))
        return np.stack(kept) if all_logits else kept[-1]

    def _logits(self, row):
        pointer = C.llama_get_logits_ith(self.context, row)
        return np.ctypeslib.as_array(pointer, shape=(self.n_vocab,)).copy()

    def keep(self, n_tokens):
        """Forgets everything after the first ``n_tokens`` positions."""
        C.llama_memory_seq_rm(self.memory, 0, n_tokens, -1)
        self.n_past = n_tokens

    def forget(self):
        """Empties the context."""
        C.llama_memory_clear(self.memory, False)
        self.n_past = 0

    def tokenize(self, text, parse_special):
        """Ids of ``text`` by llama.cpp's own tokenizer; no BOS is added."""
        raw = text.encode()
        ids = (C.llama_token * (len(raw) + 16))()
        n = C.llama_tokenize(self.vocab, raw, len(raw), ids, len(ids), False, parse_special)
        if n < 0:
            raise RuntimeError(f"llama_tokenize needs room for {-n} ids")
        return list(ids[:n])

    def text(self, tokens):
        """The text of the ids, special tokens left out."""
        raw = b""
        for token in tokens:
            buffer = ctypes.create_string_buffer(256)
            n = C.llama_token_to_piece(self.vocab, token, buffer, len(buffer), 0, False)
            raw += buffer.raw[: max(n, 0)]
        return raw.decode("utf-8", errors="replace")

    def ends_generation(self, token):
        """Whether llama.cpp stops at this id."""
        return bool(C.llama_vocab_is_eog(self.vocab, token))

    def close(self):
        """Frees the context and the model."""
        C.llama_batch_free(self.batch)
        C.llama_free(self.context)
        C.llama_model_free(self.model)


def version():
    """The package's version and the instruction sets llama.cpp was built for."""
    return {
        "package": C.__version__,
        "system": C.llama_print_system_info().decode(),
    }
