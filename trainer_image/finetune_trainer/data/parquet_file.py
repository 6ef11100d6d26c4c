"""Parquet, row by row through pyarrow, which is imported only when there is such a file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

from finetune_trainer.data.lines import Line, Rows, Unreadable

_BATCH = 256


def read_parquet(stream: BinaryIO, budget: int | None = None) -> Rows:
    """All rows, or as many of the first as make up about `budget` bytes of the file. The stream must be seekable.

    Raises Unreadable when the file is damaged.
    """
    import pyarrow
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(stream)
        names = tuple(file.schema_arrow.names)
        rows = file.metadata.num_rows
        stored = sum(file.metadata.row_group(i).total_byte_size for i in range(file.metadata.num_row_groups))
    except (pyarrow.ArrowException, OSError) as error:
        raise Unreadable(f"is not a whole Parquet file: {_brief(error)}; write or upload it again") from None
    most = rows if budget is None or not stored else max(1, min(rows, rows * budget // stored))
    return Rows("row", _rows(file, most), names)


def _rows(file: Any, most: int) -> Iterator[Line]:
    import pyarrow

    number = 0
    try:
        for batch in file.iter_batches(batch_size=_BATCH):
            for document in batch.to_pylist():
                number += 1
                if number > most:
                    return
                yield Line(number, document, None)
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise Unreadable(f"cannot be read after row {number}: {_brief(error)}; write or upload it again") from None


def _brief(error: Exception) -> str:
    return f"{str(error).splitlines()[0] if str(error) else type(error).__name__:.160}"
