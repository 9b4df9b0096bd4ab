"""Text in the characters that Pylantir's answers can carry.

Pylantir 0.4.6 sets no SpecificCharacterSet (0008,0005), so its answers hold DICOM's default repertoire only (ISO IR 6,
printable ASCII; PS3.5 6.1.1). pydicom sends anything beyond Latin-1 as ``?`` and the rest of Latin-1 undeclared.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from functools import lru_cache

# What DICOM gives a meaning (value, component and group separators) must not come out of a character without it.
_SEPARATORS = str.maketrans({"\\": "/", "^": " ", "=": "-"})
# Accents, blanks, and marks that are not seen: joiners, direction marks.
_MAY_VANISH = frozenset({"Mn", "Mc", "Me", "Zs", "Zl", "Zp", "Cf"})


@dataclass(frozen=True)
class Transliterated:
    """A text in ASCII; ``faithful`` is False when a letter or number has no reading and was left out."""

    text: str
    faithful: bool = True


def transliterate(text: str) -> Transliterated:
    """Write a text in ASCII, character by character: ``Müller^Jürgen`` -> ``Muller^Jurgen``, ``中`` -> ``Zhong``.

    ASCII stays as it is, so the ``^`` and ``=`` of a person name keep their places. Accents and invisible marks may
    vanish; a letter or number may not.
    """
    if text.isascii():
        return Transliterated(text)
    faithful = True
    parts = []
    for character in unicodedata.normalize("NFC", text):
        written = _ascii(character)
        parts.append(written)
        if not written and unicodedata.category(character) not in _MAY_VANISH:
            faithful = False
    return Transliterated("".join(parts), faithful)


@lru_cache(maxsize=4096)
def _ascii(character: str) -> str:
    if character.isascii():
        return character
    from anyascii import anyascii

    written = anyascii(character).translate(_SEPARATORS)
    return "".join(part for part in written if part.isprintable())
