"""Csv, JSON lines and tokenizers: lines without end, quotes without end, numbers and nesting beyond measure."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tests.hostile import good
from tests.hostile.case import READY, Case

MIB = 1024**2
BROKEN = "corrupt_file"
DEEP = 100_000


def _csv(*rows: bytes, names: bytes = b"a,label") -> Callable[[], bytes]:
    return lambda: b"\n".join([names, *rows, b""])


def _jsonl(*rows: str | bytes) -> Callable[[], bytes]:
    return lambda: b"".join((row if isinstance(row, bytes) else row.encode()) + b"\n" for row in rows)


def _value(value: str) -> Callable[[], bytes]:
    return _jsonl(f'{{"x": {value}, "label": 0}}', f'{{"x": {value}, "label": 1}}')


def _tokenizer(**changed: Any) -> Callable[[], bytes]:
    return lambda: json.dumps({**json.loads(good.GOOD["tokenizer"]), **changed}).encode()


def _model(**changed: Any) -> Callable[[], bytes]:
    told = json.loads(good.GOOD["tokenizer"])
    return lambda: json.dumps({**told, "model": {**told["model"], **changed}}).encode()


def _wide(columns: int) -> bytes:
    return b",".join(b"c%d" % i for i in range(columns)) + b",label\n" + b"1," * columns + b"0\n"


CSV = [
    Case("100,000 columns", "csv", lambda: _wide(100_000), "shape_mismatch", "100001", seed=False),
    Case("a million commas", "csv", lambda: b"a,label\n" + b"," * 1_000_000, BROKEN, seed=False),
    Case("a first line of 2 MiB", "csv", lambda: b"x" * (2 * MIB), BROKEN, "first line", seed=False),
    Case("a name of 130,000 characters", "csv", lambda: b"x" * 130_000 + b",label\n1,0\n", "invalid_name|corrupt_file", seed=False),
    Case("a cell of 2 MiB", "csv", _csv(b"x" * (2 * MIB) + b",0"), BROKEN, "bytes", seed=False),
    Case("a cell of 2 MiB of line breaks in quotes", "csv", _csv(b'"' + b"\n" * (2 * MIB) + b'",0'), BROKEN, seed=False),
    Case("a quote that never ends", "csv", _csv(b'"1,0', *[b"2,1"] * 100), BROKEN, "/line/2"),
    Case("a quote that ends the file", "csv", _csv(b'1,"'), BROKEN, "line 2"),
    Case("500,000 quotes", "csv", lambda: b"a,label\n" + b'"' * 500_001, BROKEN, seed=False),
    Case("rows of other lengths", "csv", _csv(b"1,0", b"1,2,3"), BROKEN),
    Case("NUL in a number", "csv", _csv(b"1\x000,0", b"2,1"), "unsupported_dtype|corrupt_file|tokenizer_required|invalid_name|missing_array"),
    Case("NUL in the first line", "csv", _csv(b"1,0", names=b"a\x00,label"), BROKEN),
    Case("an escape in a category", "csv", _csv(b"\x1b[2J,1,0", b"b,1,1", names=b"a,b,label"), "invalid_name", "a"),
    Case("a formula", "csv", _csv(b"=cmd|'/C calc'!A0,1,0", b"b,1,1", names=b"a,b,label"), READY),
    Case("latin-1", "csv", _csv(b"\xe4,1,0", names=b"a,b,label"), BROKEN, "UTF-8"),
    Case("UTF-16", "csv", lambda: "a,label\n1,0\n".encode("utf-16"), BROKEN, "UTF-16"),
    Case("UTF-8 cut in a character", "csv", lambda: b"a,b,label\n\xf0\x9f", BROKEN),
    Case("carriage returns alone", "csv", lambda: b"a,label\r1,0\r2,1\r", BROKEN),
    Case("an empty first line", "csv", lambda: b"\n1,0\n", BROKEN),
    Case("names alone", "csv", lambda: b"a,label\n", "shape_mismatch|missing_array"),
    Case("two columns of one name", "csv", _csv(b"1,2,0", names=b"a,a,label"), "unknown_array", "a"),
    Case("numbers of 300 digits", "csv", _csv(b"9" * 300 + b",0", b"1,1"), "out_of_range", "/a/0"),
    Case("numbers of 10,000 digits", "csv", _csv(b"9" * 10_000 + b",0", b"1,1"), "out_of_range|non_finite|tokenizer_required", "a", seed=False),
    Case("numbers with exponents of a billion", "csv", _csv(b"1e999999999,0", b"1,1"), "non_finite|out_of_range|tokenizer_required", "a"),
    Case("infinity", "csv", _csv(b"inf,0", b"1,1"), "non_finite", "/a/0"),
    Case("a label beyond 64 bits", "csv", _csv(b"1,99999999999999999999", b"2,1"), "ready|out_of_range"),
    Case("a label beyond float32", "csv", _csv(b"1,1e300", b"2,1"), "out_of_range", "/targets/0"),
    Case("257 categories", "csv", lambda: b"a,b,label\n" + b"".join(b"v%d,1,0\n" % i for i in range(257)), "too_many_values", "/a"),
    Case("10,001 names of labels", "csv", lambda: b"a,label\n" + b"".join(b"1,v%d\n" % i for i in range(10_001)), "too_many_values", "label", seed=False),
    Case("9,000 columns in one row", "csv", lambda: _wide(9000), READY, seed=False, heavy=True),
    Case("a csv that is JSON", "csv", lambda: b"[1, 2, 3]", "missing_array|shape_mismatch"),
    Case("a csv that is HTML", "csv", lambda: b"<script>alert(1)</script>\n", "missing_array|shape_mismatch"),
    Case("tabs, commas and semicolons at once", "csv", _csv(b"1;2\t3,4", names=b"a;b\tc,label"), "ready|corrupt_file|tokenizer_required"),
]  # fmt: skip
JSONL = [
    Case("lists a hundred thousand deep", "jsonl", _jsonl('{"x": ' + "[" * DEEP + "]" * DEEP + "}"), BROKEN, "/line/1", seed=False),
    Case("objects a hundred thousand deep", "jsonl", _jsonl('{"x":' * DEEP), BROKEN, "/line/1", seed=False),
    Case("lists 900 deep", "jsonl", _value("[" * 900 + "1" + "]" * 900), "shape_mismatch|unsupported_dtype|corrupt_file", heavy=True),
    Case("lists 9 deep", "jsonl", _value("[" * 9 + "1" + "]" * 9), "shape_mismatch", "/x"),
    Case("a line of 9 MiB", "jsonl", _jsonl('{"x": "' + "x" * (9 * MIB) + '"}'), BROKEN, "/line/1", seed=False),
    Case("a line that never ends", "jsonl", lambda: b"{" + b" " * (9 * MIB), BROKEN, "/line/1", seed=False),
    Case("an integer of 10,000 digits", "jsonl", _value("9" * 10_000), BROKEN, "/line/1"),
    Case("an integer of 4,000 digits", "jsonl", _value("9" * 4000), "unsupported_dtype", "/x/0"),
    Case("an integer of 65 bits", "jsonl", _value(str(2**64)), "unsupported_dtype", "/x/0"),
    Case("a list of integers of 65 bits", "jsonl", _value(f"[{2**64}]"), "unsupported_dtype", "/x/0"),
    Case("NaN", "jsonl", _value("NaN"), "missing_array|non_finite"),
    Case("infinity", "jsonl", _value("-Infinity"), "non_finite", "/x/0"),
    Case("a number of an exponent of a billion", "jsonl", _value("1e999999999"), "non_finite", "/x/0"),
    Case("a list of infinities", "jsonl", _value("[1e999, 1.5]"), "non_finite", "/inputs/0"),
    Case("lone surrogates", "jsonl", _value(r'"\ud800"'), "invalid_name|corrupt_file|unsupported_dtype|tokenizer_required"),
    Case("a lone surrogate for a key", "jsonl", _jsonl(r'{"\ud800": 1, "label": 0}'), "invalid_name|corrupt_file"),
    Case("a lone surrogate for a label", "jsonl", _jsonl(r'{"x": 1, "label": "\ud800"}', '{"x": 1, "label": "b"}'), "invalid_name|corrupt_file|unsupported_dtype"),
    Case("a lone surrogate for an id", "jsonl", _jsonl(r'{"x": 1, "label": 1, "id": "\udfff"}'), "invalid_ids|corrupt_file|unsupported_dtype"),
    Case("NUL in a label", "jsonl", _jsonl(r'{"x": 1, "label": "a\u0000b"}'), "invalid_name", "label"),
    Case("NUL in an id", "jsonl", _jsonl(r'{"x": 1, "label": 1, "id": "a\u0000b"}'), "invalid_ids", "id"),
    Case("an escape for a key", "jsonl", _jsonl(r'{"\u001b[2J": 1, "label": 0}'), "invalid_name"),
    Case("a key twice", "jsonl", _jsonl('{"x": 1, "x": 2, "label": 0}'), READY),
    Case("100,000 keys", "jsonl", lambda: json.dumps({str(i): 1 for i in range(100_000)}).encode(), "shape_mismatch", "100000", seed=False),
    Case("keys that differ from row to row", "jsonl", _jsonl('{"x": 1, "label": 0}', '{"y": 1, "label": 0}'), READY),
    Case("a key of its own on each of 100,000 lines", "jsonl", lambda: b"".join(b'{"k%d": 1, "label": 0}\n' % i for i in range(100_000)), "shape_mismatch", "10001 columns", seed=False),
    Case("keys of 8 MiB on 10 lines", "jsonl", lambda: b'{"x": 1}\n' + b"".join(b'{"%d%s": 1}\n' % (i, b"k" * 8_000_000) for i in range(10)), "invalid_name", "0kkk", seed=False),
    Case("a name that nobody can read on the second line", "jsonl", _jsonl('{"x": 1, "label": 0}', r'{"\u001b[2J": 1, "label": 0}'), "invalid_name", "x1b"),
    Case("9,000 keys, and 3,000 lines without any of them", "jsonl", lambda: json.dumps({f"k{i}": 1 for i in range(9000)} | {"label": 0}).encode() + b'\n{"label": 1}' * 3000, READY, seed=False, heavy=True),
    Case("values of several kinds", "jsonl", _jsonl('{"x": 1, "label": 0}', '{"x": "a", "label": 0}', '{"x": [1], "label": 0}'), "unsupported_dtype", "/x"),
    Case("an object for a value", "jsonl", _value('{"$ref": "#"}'), "unsupported_dtype", "/x"),
    Case("no objects", "jsonl", _jsonl("{}", "{}"), "missing_array"),
    Case("a list", "jsonl", _jsonl("[1, 2]"), BROKEN, "/line/1"),
    Case("empty lines alone", "jsonl", lambda: b"\n" * 100_000, "shape_mismatch", seed=False),
    Case("JSON that ends too early", "jsonl", lambda: b'{"x": 1, "label": 0}\n{"x": 1', BROKEN, "/line/2"),
    Case("UTF-16", "jsonl", lambda: '{"x": 1, "label": 0}'.encode("utf-16"), "ready|corrupt_file"),
    Case("a byte that is no UTF-8", "jsonl", lambda: b'{"x": "\xff", "label": 0}\n', BROKEN, "/line/1"),
    Case("flags and integers", "jsonl", _jsonl('{"x": true, "label": 0}', '{"x": 1, "label": 0}'), "unsupported_dtype|ready"),
]  # fmt: skip
TOKENIZERS = [
    Case("JSON a hundred thousand deep", "tokenizer", lambda: b'{"model":' * DEEP, "invalid_tokenizer", "tokenizer_file", seed=False),
    Case("no model", "tokenizer", lambda: b"{}", "invalid_tokenizer", "tokenizer_file"),
    Case("a list", "tokenizer", lambda: b"[]", "invalid_tokenizer", "tokenizer_file"),
    Case("a model of no kind", "tokenizer", _model(type="Evil"), "invalid_tokenizer", "tokenizer_file"),
    Case("a model that is a number", "tokenizer", _tokenizer(model=7), "invalid_tokenizer", "tokenizer_file"),
    Case("ids beyond 32 bits", "tokenizer", _model(vocab={"a": 2**40}), "invalid_tokenizer", "tokenizer_file"),
    Case("ids below none", "tokenizer", _model(vocab={"a": -1}), "invalid_tokenizer", "tokenizer_file"),
    Case("no words", "tokenizer", _model(vocab={}), "invalid_tokenizer|padding_required", ""),
    Case("an unknown word that is not there", "tokenizer", _model(vocab={"a": 0}, unk_token="[X]"), "invalid_tokenizer|padding_required", ""),  # noqa: S106  (no password)
    Case("a merge of what is no token", "tokenizer", _tokenizer(model={"type": "BPE", "vocab": {"a": 0}, "merges": ["x y"]}), "invalid_tokenizer", "tokenizer_file"),
    Case("a pattern that goes back and back", "tokenizer", _tokenizer(pre_tokenizer={"type": "Split", "pattern": {"Regex": "(a|aa|a )*(g|o)*(x+x+)+y"}, "behavior": "Removed", "invert": False}), "ready|invalid_tokenizer|unsafe_file"),
    Case("a pattern that is none", "tokenizer", _tokenizer(pre_tokenizer={"type": "Split", "pattern": {"Regex": "(((("}, "behavior": "Removed", "invert": False}), "invalid_tokenizer", "tokenizer_file"),
    Case("a pattern that repeats a billion times", "tokenizer", _tokenizer(pre_tokenizer={"type": "Split", "pattern": {"Regex": "((a{1,9999}){1,9999}){1,9999}"}, "behavior": "Removed", "invert": False}), "ready|invalid_tokenizer|unsafe_file", ""),
    Case("padding to 2**40 tokens", "tokenizer", _tokenizer(padding={"strategy": {"Fixed": 2**40}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"}), "ready|invalid_tokenizer"),
    Case("truncation to 2**40 tokens", "tokenizer", _tokenizer(truncation={"direction": "Right", "max_length": 2**40, "strategy": "LongestFirst", "stride": 0}), "sample_too_large|invalid_tokenizer|dataset_too_large|shape_mismatch", ""),
    Case("truncation to no tokens", "tokenizer", _tokenizer(truncation={"direction": "Right", "max_length": 0, "strategy": "LongestFirst", "stride": 0}), "ready|invalid_tokenizer"),
    Case("a stride longer than what is kept", "tokenizer", _tokenizer(truncation={"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 100}), "ready|invalid_tokenizer"),
    Case("a normalizer that grows text a billionfold", "tokenizer", _tokenizer(normalizer={"type": "Sequence", "normalizers": [{"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 200}] * 4}), "unsafe_file", "beyond the fence", seed=False),
    Case("a normalizer that grows text without bounds", "tokenizer", _tokenizer(normalizer={"type": "Sequence", "normalizers": [{"type": "Replace", "pattern": {"String": "a"}, "content": "aaaa"}] * 16}), "unsafe_file", "beyond the fence", heavy=True, seed=False),
    Case("a post-processor of tokens that are not there", "tokenizer", _tokenizer(post_processor={"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "[X]", "type_id": 0}}], "pair": [], "special_tokens": {}}), "invalid_tokenizer", "tokenizer_file"),
    Case("20,000 added tokens", "tokenizer", _tokenizer(added_tokens=[{"id": i, "content": f"t{i}", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True} for i in range(20_000)]), "ready|invalid_tokenizer", seed=False),
    Case("a million bytes of nothing", "tokenizer", lambda: bytes(1_000_000), "invalid_tokenizer", "tokenizer_file", seed=False),
    Case("a file that is no UTF-8", "tokenizer", lambda: b"\xff\xfe{}", "invalid_tokenizer", "tokenizer_file"),
    Case("a post-processor of Python's", "tokenizer", _tokenizer(pre_tokenizer={"type": "Custom", "module": "os"}), "invalid_tokenizer", "tokenizer_file"),
]  # fmt: skip
CASES = [*CSV, *JSONL, *TOKENIZERS]
