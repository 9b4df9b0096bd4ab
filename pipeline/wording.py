"""How a fault of the configuration is worded: the key, what was given, what to write; never a secret."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches

from pipeline.errors import PluginConfigError

_SECRET_KEY = re.compile(r"passw|secret|token|credential|api_?key|username", re.IGNORECASE)
_UNSENDABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_LONGEST_ECHO = 60
_LONGEST_LIST = 4


class Wording:
    """Words faults about one configuration and knows which texts must not be repeated.

    Secret are: the password and username in the environment, whatever stands before an ``@`` in ``base_url``,
    and the text values of keys that are named like a secret.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self.secrets = tuple(secret for secret in secrets if secret)

    @classmethod
    def of(cls, config: object, environ: Mapping[str, str]) -> Wording:
        """Collect the secrets that ``config`` and ``environ`` hold."""
        secrets = [environ.get("CALPENDO_PASSWORD", ""), environ.get("CALPENDO_USERNAME", "")]
        urls = [environ.get("CALPENDO_API_URL")]
        if isinstance(config, Mapping):
            urls.append(config.get("base_url"))
            secrets += [
                value
                for key, value in config.items()
                if isinstance(key, str) and isinstance(value, str) and _SECRET_KEY.search(key)
            ]
        for url in urls:
            if isinstance(url, str) and "@" in url:
                login = url.rpartition("@")[0].rpartition("//")[2]
                secrets += [login, *login.split(":")]
        return cls(secrets)

    def given(self, value: object) -> str:
        """Say what ``value`` is: a short harmless text or number as it is, all else by type and size."""
        if value is None:
            return "null"
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, int):
            return f"the number {value}" if abs(value) < 10**18 else "a number of more than 18 digits"
        if isinstance(value, float):
            return f"the number {value!r}"
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, Mapping):
            return f"an object with {counted(len(value), 'key')}"
        if isinstance(value, (list, tuple)):
            if 0 < len(value) <= _LONGEST_LIST and all(type(item) in (int, float, bool) for item in value):
                return (
                    f"the list [{', '.join(self.given(item).removeprefix('the number ') for item in value)}]"
                )
            return f"a list of {counted(len(value), 'item')}" if value else "an empty list"
        return f"a {type(value).__name__}"

    def _text(self, value: str) -> str:
        if not value:
            return "an empty text"
        if not value.strip():
            return "a blank text"
        if self.harmless(value):
            return f"the text {value!r}"
        return f"a text of {counted(len(value), 'character')}"

    def harmless(self, text: str) -> bool:
        """Tell whether ``text`` may be repeated: short, printable, and no address or secret in it."""
        return (
            len(text) <= _LONGEST_ECHO
            and text.isprintable()
            and "@" not in text
            and "://" not in text
            and not any(secret in text for secret in self.secrets)
        )

    def name(self, key: object) -> str:
        """Return a key's name for a message, quoted; by its length where it may not be repeated."""
        if isinstance(key, str) and self.harmless(key):
            return repr(key)
        return self.given(key)

    def fault(self, key: str, value: object, write: str, *, problem: str = "") -> str:
        """Return ``key: got what, which is wrong; write this``."""
        reason = f", {problem}" if problem else ""
        return f"{key}: got {self.given(value)}{reason}; write {write}"


def install(extra: str) -> str:
    """Return the command that installs an extra; the package is on no index, so it is called from its checkout."""
    return f"in the checkout of calpendo-pipeline: pip install '.[{extra}]'"


def near_miss(word: str, known: Iterable[str], *, cutoff: float = 0.8) -> str | None:
    """Return the known word that ``word`` is probably meant to be, or None; case counts last."""
    candidates = list(known)
    by_folded = {candidate.casefold(): candidate for candidate in candidates}
    joined = re.sub(r"[\s-]+", "_", word.strip()).casefold()
    folded = tuple(by_folded)
    # Each once: comparing is slow, and a file may hold thousands of unknown keys.
    tries = dict.fromkeys([(word, tuple(candidates)), (word.casefold(), folded), (joined, folded)])
    for spelling, words in tries:
        found = get_close_matches(spelling, words, n=1, cutoff=cutoff)
        if found:
            return by_folded.get(found[0], found[0])
    return None


def config_error(where: str, faults: Sequence[str]) -> PluginConfigError:
    """Return one error that tells all faults, one a line."""
    if len(faults) == 1:
        return PluginConfigError(f"{where}: {faults[0]}", faults)
    lines = "".join(f"\n  - {fault}" for fault in faults)
    return PluginConfigError(f"{where}: {len(faults)} faults{lines}", faults)


def sendable(text: str) -> bool:
    """Tell whether ``text`` has a UTF-8 form: JSON can hold half a surrogate pair, which has none."""
    return not _SURROGATE.search(text)


def text_problem(text: str) -> str | None:
    """Return what is wrong with a text that must be sent or shown: blank, control characters, surrogates; or None."""
    if not text.strip():
        return "which is blank"
    if _UNSENDABLE.search(text):
        return "which holds a control character or half a surrogate pair"
    return None


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: ``1 resource``, ``2 resources``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def first_of(values: Sequence[object], most: int = 20) -> str:
    """Return the first of many values, and how many more there are: ``1, 2 and 5 more``."""
    rest = f" and {len(values) - most} more" if len(values) > most else ""
    return ", ".join(map(str, values[:most])) + rest
