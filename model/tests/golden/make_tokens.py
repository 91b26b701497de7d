#!/usr/bin/env python3
"""Makes the golden token ids beside this script, by llama.cpp's tokenizer.

    peer/bin/python make_tokens.py --model M.gguf --output NAME.tokens.json

(`make_logits.py` says how to make the environment.) One line for each text:
the ids with the spellings of special tokens taken as plain text (`text`), as a
document's are, and taken as special tokens (`template`), as a template's are.
No BOS is added.
"""

import argparse
import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[3] / "benches" / "peer"))

import llama  # noqa: E402

TEXTS = [
    "Hello, world!",
    " leading space",
    "trailing space ",
    "two  spaces   three    four",
    "\n",
    "\n\n\n",
    "line\nline\r\nline\n\n  indented\n\ttab\n",
    "1234567890 3.14159 1,000,000 2026-11-21 0x1F4A9 ½ ²",
    "I'm you're HE'LL they'd we've it's",
    "def f(x: int) -> str:\n    return f\"{x!r}\"  # comment\n\n\nclass A:\n    pass\n",
    "Zürich, naïve café, Ærøskøbing, fiancé (e + combining: e\u0301)",
    "音苏盖提 日本語のテキスト 한국어 Русский العربية עברית ไทย हिन्दी",
    "emoji 😀👩‍👩‍👧‍👦🇫🇷 ✔️",
    "non-breaking\u00a0space, zero\u200bwidth, em\u2003space, ideographic\u3000space, \u2028separator",
    "<|im_start|>system\nYou are helpful.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n",
    "<|endoftext|> <s> </s> <unk> [INST] <|eot_id|>",
    "a<|im_end|>b <|im_end| > <|IM_END|>",
    "https://example.org/a_b/c-d?e=f&g=%20#h user@example.org C:\\path\\file",
    "___ --- *** ### ... !!! ??? ;;; ((())) [[]] {{}} <<>> @@ $$ %% ^^ && ||",
    "CamelCaseWord snake_case_word SCREAMING_CASE word123word 12ab34",
    "x" * 70,
    "–—‘’“”…•·§¶©®™",
    "| a | b |\n|---|---|\n| 1 | 2 |\n\n- item\n  - nested\n1. one\n",
    "",
]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--model", required=True, help="a GGUF file")
    parser.add_argument("--output", required=True, help="the JSON file to write")
    options = parser.parse_args()
    engine = llama.Llama(options.model, 1, flash_attention=False, capacity=64)
    rows = [
        {
            "string": text,
            "text": engine.tokenize(text, parse_special=False),
            "template": engine.tokenize(text, parse_special=True),
        }
        for text in TEXTS
    ]
    lines = ",\n".join(" " + json.dumps(row) for row in rows)
    pathlib.Path(options.output).write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
