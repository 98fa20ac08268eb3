"""Float32 numbers as text: the fewest digits that name each, for whole arrays at once."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

# Of the numbers that are laid out all at once: at most six digits, a point, twelve decimals.
_WHOLE, _DECIMALS = 6, 12
_LEAST, _MOST = 1e-4, 1e6
_POWERS = 10.0 ** np.arange(_DECIMALS + 1)
_INTEGER_POWERS = 10 ** np.arange(_DECIMALS + 1, dtype=np.int64)
_MAGNITUDES = 10.0 ** np.arange(-3, _WHOLE)
_THREE_DIGITS = np.array([list(b"%03d" % i) for i in range(1000)], np.uint8)
# A number's characters: its sign, digits, a point, decimals, and what parts it from the next one.
_SIGN, _POINT = 0, 1 + _WHOLE
_END = _POINT + 1 + _DECIMALS
_WIDTH = _END + 1


def _shown_characters() -> Array:
    """bool [sign, digits before the point, decimals, _WIDTH]: what such a number shows."""
    shown = np.zeros((2, _WHOLE + 1, _DECIMALS + 1, _WIDTH), bool)
    shown[1, ..., _SIGN] = True
    for digits in range(_WHOLE + 1):
        shown[:, digits, :, _POINT - digits : _POINT] = True
    for decimals in range(_DECIMALS + 1):
        shown[:, :, decimals, _POINT + 1 : _POINT + 1 + decimals] = True
    shown[..., [_POINT, _END]] = True
    return shown


_SHOWN = _shown_characters()


def number_lines(rows: Array) -> bytes:
    r"""The numbers of each row as a line, with a space between them.

    Each has the fewest digits that identify it, as `str` of a NumPy float32 has: decimals from 1e-4
    on, and always one digit after the point. Fastest for some thousand numbers at a time.

    Args:
        rows: float32 [any, size].

    Returns:
        The lines, each with its newline.

    Example:
        >>> import numpy as np
        >>> from seqfast.embeddings.formats import number_lines
        >>> number_lines(np.array([[0.5, 2.0]], np.float32))
        b'0.5 2.0\n'
    """
    x = np.ascontiguousarray(rows, np.float32).ravel()
    size = np.abs(x).astype(np.float64)
    plain = ((size >= _LEAST) & (size < _MOST)) | (size == 0)
    size[~plain] = 1
    # Digits before the point; below 1 for zeros behind it.
    digits = np.searchsorted(_MAGNITUDES, size, side="right") - 3
    number, decimals = _fewest_digits(size, digits)
    number *= _INTEGER_POWERS[_DECIMALS - decimals]
    text = np.empty((len(x), _WIDTH), np.uint8)
    text[:, _SIGN] = ord("-")
    text[:, _POINT] = ord(".")
    for end in range(_END, 3, -3):
        start = end - 3 if end - 3 > _POINT else end - 4
        number, three = np.divmod(number, 1000)
        text[:, start : start + 3] = _THREE_DIGITS[three]
    text[:, _END] = ord(" ")
    text.reshape(len(rows), -1)[:, -1] = ord("\n")
    shown = _SHOWN[np.signbit(x).astype(np.intp), np.maximum(digits, 1), decimals]
    for place in np.flatnonzero(~plain):
        own = str(x[place]).encode()
        text[place, : len(own)] = np.frombuffer(own, np.uint8)
        shown[place, : len(own)] = True
        shown[place, len(own) : _END] = False
    result: bytes = text[shown].tobytes()
    return result


def _fewest_digits(size: Array, digits: Array) -> tuple[Array, Array]:
    """(number, decimals), int64, such that number / 10**decimals is the shortest name of a float32.

    All are rounded to six significant digits, those that do not come back from there to seven, and
    so on; nine are enough. What six are enough for may have fewer: its zeros are cut off."""
    decimals = np.maximum(6 - digits, 1)
    number = np.rint(size * _POWERS[decimals])
    name = size.astype(np.float32)
    back = (number / _POWERS[decimals]).astype(np.float32)
    left = np.flatnonzero(back != name)
    found = number.astype(np.int64)
    few = np.flatnonzero(back == name)
    while len(few):
        few = few[(found[few] % 10 == 0) & (decimals[few] > 1)]
        found[few] //= 10
        decimals[few] -= 1
    for significant in (7, 8, 9):
        places = np.maximum(significant - digits[left], 1)
        scale = _POWERS[places]
        rounded = np.rint(size[left] * scale)
        found[left] = rounded.astype(np.int64)
        decimals[left] = places
        left = left[(rounded / scale).astype(np.float32) != name[left]]
    return found, decimals
