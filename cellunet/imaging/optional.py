"""Libraries that not everyone needs: found, or refused with the line that installs."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from cellunet.errors import ConfigError

if TYPE_CHECKING:
    from types import ModuleType


def optional(module: str, extra: str, purpose: str) -> ModuleType:
    """Return a module of an extra.

    Parameters
    ----------
    module
        Its name.
    extra
        The extra of cellunet that installs it.
    purpose
        What needs it, as the subject of the message.

    Raises
    ------
    ConfigError
        If it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ConfigError(
            f"{purpose} needs the package {package}, which is not there ({error}).",
            hint=f'Try: pip install "cellunet-torch[{extra}]".',
        ) from error
