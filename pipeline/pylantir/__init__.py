"""Calpendo for Pylantir: the plugin behind Pylantir's interface, its registration, and the launcher.

Needs the extra ``pylantir``. Nothing here imports the modules of Pylantir that
bind its database's path (``db_setup``, ``mwl_server``, ``redcap_to_db``, ``worklist_sync``).
"""

from __future__ import annotations

try:
    import pylantir.data_sources as _host
except ModuleNotFoundError as error:
    if error.name is None or error.name.partition(".")[0] != "pylantir":
        raise
    from pipeline.wording import install

    raise ImportError(f"Pylantir is not installed. Write {install('pylantir')}", name="pylantir") from None

from pipeline.pylantir.launcher import register, run
from pipeline.pylantir.plugin import CalendoPylantirPlugin

__all__ = ["CalendoPylantirPlugin", "register", "run"]

del _host
