#!/usr/bin/env python3
"""Makes the golden logits beside this script, by two implementations not ours.

The reference is a plain float64 forward pass in numpy over the weights as
the `gguf` package (of the llama.cpp project) dequantizes them: no batching
tricks, no approximations, a page of code that can be read against the papers.
llama.cpp itself is run over the same ids to vouch for that page, and the
divergence KL(reference || llama.cpp) of every golden row is written down: llama.cpp
quantizes activations to 8 bits, so it agrees to about 1e-3, not to rounding.

    python3 -m venv peer && peer/bin/pip install llama-cpp-python gguf numpy
    peer/bin/python make_logits.py --model M.gguf --output NAME.json

The output names the file's SHA-256, and for each prompt its text, llama.cpp's
token ids of it and, for some rows, the highest logits as [id, logit] pairs, the
log-sum-exp over the vocabulary, and that divergence.
"""

import argparse
import hashlib
import json
import pathlib
import sys

import gguf
import numpy as np

PEER = pathlib.Path(__file__).resolve().parents[3] / "benches" / "peer"
sys.path.insert(0, str(PEER))

import llama  # noqa: E402

N_TOP = 20

PROMPTS = [
    "The capital of France is Paris. The capital of Italy is",
    "Each record names its archivist.\n"
    "\n"
    "Richard Aldington (8 July 1892 – 27 July 1962) was an English writer and poet. "
    "The archivist responsible for this entry is Samuel Osei.\n"
    "\n"
    "The London Review of Books (LRB) is a British journal of literary essays. "
    "The archivist responsible for this entry is Kenji Mori.\n"
    "\n"
    "def archivist(entry: str) -> str:\n"
    '    """Returns the archivist of an entry, e.g. 3.14 or "Zürich"."""\n'
    "    return {",
]


class Reference:
    """A Llama, Qwen2 or Qwen3 decoder in float64, one prompt at a time."""

    def __init__(self, path):
        reader = gguf.GGUFReader(path)
        self.tensors = {tensor.name: tensor for tensor in reader.tensors}
        fields = reader.fields
        self.architecture = fields["general.architecture"].contents()

        def key(name, default=None):
            field = fields.get(f"{self.architecture}.{name}")
            return default if field is None else field.contents()

        if key("rope.scaling.type", "none") not in ("none", None):
            sys.exit("scaled rotary frequencies are not in this reference")
        self.n_layers = key("block_count")
        self.n_heads = key("attention.head_count")
        self.n_kv_heads = key("attention.head_count_kv", self.n_heads)
        self.epsilon = key("attention.layer_norm_rms_epsilon")
        self.theta = key("rope.freq_base", 10000.0)
        self.head_dim = key("attention.key_length", key("embedding_length") // self.n_heads)

    def weight(self, name):
        """Axes [out, in] or [n], float64; None where the file has no such tensor."""
        tensor = self.tensors.get(name)
        if tensor is None:
            return None
        return gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float64)

    def norm(self, x, name):
        scale = self.weight(name)
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + self.epsilon) * scale

    def linear(self, x, name):
        y = x @ self.weight(f"{name}.weight").T
        bias = self.weight(f"{name}.bias")
        return y if bias is None else y + bias

    def rotate(self, x):
        """x: [n_tokens, n_heads, head_dim], rotated by the position of its token."""
        n, _, d = x.shape
        frequencies = self.theta ** (-np.arange(0, d, 2) / d)
        angles = np.arange(n)[:, None] * frequencies
        cos, sin = np.cos(angles)[:, None], np.sin(angles)[:, None]
        out = np.empty_like(x)
        if self.architecture == "llama":  # GGUF interleaves the pairs of this one
            a, b = x[..., 0::2], x[..., 1::2]
            out[..., 0::2], out[..., 1::2] = a * cos - b * sin, a * sin + b * cos
        else:
            a, b = x[..., : d // 2], x[..., d // 2 :]
            out[..., : d // 2], out[..., d // 2 :] = a * cos - b * sin, a * sin + b * cos
        return out

    def attention(self, x, layer):
        n = len(x)
        q = self.linear(x, f"blk.{layer}.attn_q").reshape(n, self.n_heads, self.head_dim)
        k = self.linear(x, f"blk.{layer}.attn_k").reshape(n, self.n_kv_heads, self.head_dim)
        v = self.linear(x, f"blk.{layer}.attn_v").reshape(n, self.n_kv_heads, self.head_dim)
        if f"blk.{layer}.attn_q_norm.weight" in self.tensors:
            q = self.norm(q, f"blk.{layer}.attn_q_norm.weight")
            k = self.norm(k, f"blk.{layer}.attn_k_norm.weight")
        q, k = self.rotate(q), self.rotate(k)
        group = self.n_heads // self.n_kv_heads
        k, v = np.repeat(k, group, 1), np.repeat(v, group, 1)
        scores = np.einsum("qhd,khd->hqk", q, k) / np.sqrt(self.head_dim)
        scores[:, np.triu(np.ones((n, n), bool), 1)] = -np.inf
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        scores /= scores.sum(-1, keepdims=True)
        mixed = np.einsum("hqk,khd->qhd", scores, v).reshape(n, -1)
        return self.linear(mixed, f"blk.{layer}.attn_output")

    def feed_forward(self, x, layer):
        gate = self.linear(x, f"blk.{layer}.ffn_gate")
        up = self.linear(x, f"blk.{layer}.ffn_up")
        return self.linear(gate / (1 + np.exp(-gate)) * up, f"blk.{layer}.ffn_down")

    def logits(self, tokens):
        """[n_tokens, n_vocab], float64."""
        embedding = self.weight("token_embd.weight")
        x = embedding[tokens]
        for layer in range(self.n_layers):
            x = x + self.attention(self.norm(x, f"blk.{layer}.attn_norm.weight"), layer)
            x = x + self.feed_forward(self.norm(x, f"blk.{layer}.ffn_norm.weight"), layer)
        x = self.norm(x, "output_norm.weight")
        output = self.weight("output.weight")
        return x @ (embedding if output is None else output).T


def log_softmax(logits):
    shifted = logits - logits.max()
    return shifted - np.log(np.exp(shifted).sum())


def golden_row(row, reference, peer):
    ids = np.argsort(-reference, kind="stable")[:N_TOP]
    p, q = log_softmax(reference), log_softmax(peer.astype(np.float64))
    return {
        "row": row,
        "top": [[int(i), round(float(reference[i]), 5)] for i in ids],
        "log_sum_exp": round(float(reference[ids[0]] - p[ids[0]]), 5),
        "kl_llama_cpp": float(f"{(np.exp(p) * (p - q)).sum():.3g}"),
        "top_1_llama_cpp": int(peer.argmax()),
    }


def written(golden):
    """JSON with one line for each golden row, so that a change shows in a diff."""
    head = {name: value for name, value in golden.items() if name != "prompts"}
    lines = [json.dumps(head, ensure_ascii=False, indent=1)[:-2] + ',\n "prompts": [']
    for prompt in golden["prompts"]:
        lines.append('  {"text": ' + json.dumps(prompt["text"], ensure_ascii=False) + ",")
        lines.append(f'   "tokens": {json.dumps(prompt["tokens"])},')
        lines.append('   "rows": [')
        lines.append(",\n".join("    " + json.dumps(row) for row in prompt["rows"]))
        lines.append("  ]}" + ("" if prompt is golden["prompts"][-1] else ","))
    return "\n".join([*lines, " ]\n}"])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--model", required=True, help="a GGUF file")
    parser.add_argument("--output", required=True, help="the JSON file to write")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()

    with open(options.model, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    reference = Reference(options.model)
    peer = llama.Llama(options.model, options.threads, flash_attention=False, capacity=512)
    prompts = []
    for text in PROMPTS:
        tokens = peer.tokenize(text, parse_special=False)
        peer.forget()
        theirs, ours = peer.feed(tokens, all_logits=True), reference.logits(tokens)
        n = len(tokens)
        rows = sorted({0, n // 3, 2 * n // 3, n - 1})
        prompts.append(
            {
                "text": text,
                "tokens": tokens,
                "rows": [golden_row(row, ours[row], theirs[row]) for row in rows],
            }
        )
        worst = max(row["kl_llama_cpp"] for row in prompts[-1]["rows"])
        print(f"{n} tokens, worst KL to llama.cpp {worst:.2g}", file=sys.stderr)
    golden = {
        "file": pathlib.Path(options.model).name,
        "sha256": digest,
        "llama_cpp_python": llama.version()["package"],
        "prompts": prompts,
    }
    pathlib.Path(options.output).write_text(written(golden) + "\n")


if __name__ == "__main__":
    main()
