"""What a server on this machine answers with the files of a folder."""

from __future__ import annotations

import http.server
import re
from pathlib import Path


class Plain(http.server.SimpleHTTPRequestHandler):
    """As ``python -m http.server``: it sends whole files."""

    def log_message(self, *args) -> None:
        pass

    def do_GET(self) -> None:
        if "forbidden" in self.path:
            self.send_error(403)
        elif "broken" in self.path and "/c/" in self.path:
            self.send_error(500)
        else:
            super().do_GET()


class Ranges(Plain):
    """Sends the bytes that a Range request names."""

    def do_GET(self) -> None:
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        file = Path(self.translate_path(self.path))
        if not asked or not file.is_file():
            super().do_GET()
            return
        data, (first, last) = file.read_bytes(), asked.groups()
        start = int(first) if first else len(data) - int(last)
        end = min(int(last) + 1, len(data)) if first and last else len(data)
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(data)}")
        self.send_header("Content-Length", str(end - start))
        self.end_headers()
        self.wfile.write(data[start:end])
