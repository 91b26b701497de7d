"""Writes the Parquet files of this folder by another implementation (package pyarrow).

    pip install pyarrow==26.0.1
    python3 make.py
"""

import base64
import datetime as dt
import decimal
import uuid

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe

UTC = dt.timezone.utc
AT = dt.datetime(2024, 5, 1, 12, 34, 56, 789000)


def faq():
    """Two row groups; the row behind them has a key that is there, the last one no key."""
    table = pa.table(
        {
            "id": pa.array([7, 8, 9, 7, None], pa.int64()),
            "at": pa.array([AT.replace(tzinfo=UTC)] * 2 + [None] * 3, pa.timestamp("us", "UTC")),
            "subject": pa.array(["Hours", None, "", "Again", "None"]),
            "body": pa.array(["One,\ntwo.", "Three.", "", "Four.", "Five."]),
            "unread": pa.array([[1], [2, 3], None, [], [4]]),
        }
    )
    pq.write_table(table, "faq.parquet", row_group_size=3, compression="snappy")


def types():
    """A column of each type, two rows of each, the second null."""
    columns = {
        "string": ("text", pa.string()),
        "large": ("text", pa.large_string()),
        "binary": (b"text", pa.binary()),
        "bytes": (b"\xff\xfe", pa.binary()),
        "fixed": (b"abcd", pa.binary(4)),
        "bool": (True, pa.bool_()),
        "int8": (-8, pa.int8()),
        "uint32": (4_000_000_000, pa.uint32()),
        "uint64": (18_446_744_073_709_551_615, pa.uint64()),
        "half": (0.5, pa.float16()),
        "float": (0.1, pa.float32()),
        "double": (1e300, pa.float64()),
        "decimal": (decimal.Decimal("-12.50"), pa.decimal128(20, 2)),
        "date": (dt.date(2024, 5, 1), pa.date32()),
        "time": (dt.time(12, 34, 56, 789000), pa.time64("us")),
        "ms": (AT, pa.timestamp("ms", "UTC")),
        "us": (AT, pa.timestamp("us", "Europe/Paris")),
        "ns": (AT, pa.timestamp("ns")),
        "uuid": (uuid.UUID("00010203-0405-0607-0809-0a0b0c0d0e0f").bytes, pa.uuid()),
        "list": ([1, 2], pa.list_(pa.int64())),
        "struct": ({"body": "within"}, pa.struct([("body", pa.string())])),
    }
    arrays = {"key": pa.array(["a", "b"])}
    for name, (value, kind) in columns.items():
        if isinstance(kind, pa.BaseExtensionType):
            storage = pa.array([value, None], kind.storage_type)
            arrays[name] = pa.ExtensionArray.from_storage(kind, storage)
        elif kind == pa.float16():
            import numpy

            arrays[name] = pa.array([numpy.float16(value), None], kind)
        else:
            arrays[name] = pa.array([value, None], kind)
    pq.write_table(pa.table(arrays), "types.parquet", compression="gzip")


def encodings():
    """The same rows by every way of packing and encoding that is read, and by one that is not."""
    keys = [f"key {i:03}" for i in range(40)]
    table = pa.table({"key": keys, "text": [f"The text of {key}." for key in keys]})
    plain = {"use_dictionary": False, "write_page_checksum": True}
    for name, options in {
        "dictionary-zstd": {"compression": "zstd"},
        "plain-none": {"compression": "none", **plain},
        "delta-length-gzip": {
            "compression": "gzip",
            "column_encoding": {"key": "PLAIN", "text": "DELTA_LENGTH_BYTE_ARRAY"},
            **plain,
        },
        "delta-snappy-v2": {
            "compression": "snappy",
            "data_page_version": "2.0",
            "column_encoding": {"key": "DELTA_BYTE_ARRAY", "text": "DELTA_BYTE_ARRAY"},
            **plain,
        },
        "brotli": {"compression": "brotli"},
    }.items():
        pq.write_table(table, f"{name}.parquet", **options)
    old = pa.table({"key": ["a"], "text": ["One."], "at": pa.array([AT], pa.timestamp("ns"))})
    pq.write_table(old, "int96.parquet", use_deprecated_int96_timestamps=True)


def bomb():
    """A page of 200 MiB in a few kilobytes."""
    table = pa.table({"key": ["a"], "text": ["x" * (200 << 20)]})
    pq.write_table(
        table, "bomb.parquet", compression="zstd", use_dictionary=False, write_statistics=False
    )


class Keys(pe.KmsClient):
    def __init__(self, _config):
        super().__init__()

    def wrap_key(self, key, _id):
        return base64.b64encode(key)

    def unwrap_key(self, key, _id):
        return base64.b64decode(key)


def encrypted():
    """With its metadata, and without."""
    table = pa.table({"key": ["a"], "text": ["One."]})
    factory = pe.CryptoFactory(Keys)
    for name, plaintext_footer in {"encrypted": False, "encrypted-columns": True}.items():
        config = pe.EncryptionConfiguration(
            footer_key="f", column_keys={"c": ["text"]}, plaintext_footer=plaintext_footer
        )
        properties = factory.file_encryption_properties(pe.KmsConnectionConfig(), config)
        writer = pq.ParquetWriter(
            f"{name}.parquet", table.schema, encryption_properties=properties
        )
        writer.write_table(table)
        writer.close()


faq()
types()
encodings()
bomb()
encrypted()
