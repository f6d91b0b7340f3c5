"""Any text into HTML, so that nothing in it is markup and nothing in it hides.

File names may hold anything: markup, quotes, line separators, marks that turn the
direction of reading, halves of surrogate pairs that stand for undecodable bytes.
"""

from __future__ import annotations

import base64
import hashlib
import html
import os
import unicodedata
from urllib.parse import quote

HIDDEN = {"Cc", "Cf", "Co", "Cs", "Zl", "Zp"}
"""Categories of characters that are not seen, or change how others are seen."""


def visible(text: str) -> str:
    r"""Return `text` with every character that is not seen spelled out.

    Examples
    --------
    >>> visible("gpj\u202efit.exe")
    'gpj\\u202efit.exe'
    """
    return "".join(
        c if unicodedata.category(c) not in HIDDEN else _spelled(c) for c in text
    )


def _spelled(character: str) -> str:
    code = ord(character)
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def text(value: object) -> str:
    """Return a value as HTML text that may also stand in a quoted attribute.

    Examples
    --------
    >>> text('<b title="x">&')
    '&lt;b title=&quot;x&quot;&gt;&amp;'
    """
    return html.escape(visible(str(value)), quote=True)


def link(path: str) -> str:
    """Return a relative path, its parts divided by "/", as an address.

    It cannot be anything else than a path below the page.

    Examples
    --------
    >>> link('javascript:alert(1)')
    './javascript%3Aalert%281%29'
    """
    return "./" + quote(os.fsencode(path), safe="/")


def source_hash(content: str) -> str:
    """Return the name of an inline script or style in a Content-Security-Policy."""
    digest = hashlib.sha256(content.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"
