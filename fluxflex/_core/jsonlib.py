"""JSON bytes in and out, by orjson where the extra `speed` brought it."""

from __future__ import annotations

import json


def _plain(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


try:
    import orjson
except ImportError:  # the extra `speed` is not installed
    dumps = _plain

    def loads(body: bytes) -> object:
        """Parse JSON.

        Raises:
            ValueError: it is none, also when it is nested too deep to read.
        """
        try:
            value: object = json.loads(body.decode())
            _plain(value)  # as orjson, refuse NaN, infinity and halves of a character
        except RecursionError:
            raise ValueError("nested too deep") from None
        return value

else:

    def dumps(value: object) -> bytes:
        """Return the compact JSON of a value."""
        try:
            return orjson.dumps(value)
        except TypeError:  # larger integers, deeper nesting, kinds of float: json writes them
            return _plain(value)

    def loads(body: bytes) -> object:
        """Parse JSON.

        Raises:
            ValueError: it is none, also when it is nested too deep to read.
        """
        return orjson.loads(body)
