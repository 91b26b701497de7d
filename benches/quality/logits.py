#!/usr/bin/env python3
"""llama.cpp's logits after every token of a prompt.

Input: a JSON list of token ids. Output: little-endian float32, [n_tokens, n_vocab].

    logits.py --model M.gguf --ids ids.json --output logits.f32
"""

import argparse
import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "peer"))

import llama  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--model", required=True, help="a GGUF file")
    parser.add_argument("--ids", required=True, help="a JSON list of token ids")
    parser.add_argument("--output", required=True)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()

    ids = json.loads(pathlib.Path(options.ids).read_text(encoding="utf-8"))
    engine = llama.Llama(options.model, options.threads, False, len(ids))
    logits = engine.feed(ids, all_logits=True)
    logits.astype("<f4").tofile(options.output)


if __name__ == "__main__":
    main()
