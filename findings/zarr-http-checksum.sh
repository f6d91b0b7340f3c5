#!/usr/bin/env bash
# A sharded Zarr array on a plain web server: the whole array reads well, a part of it is called damaged.
#
# Versions: Python 3.11 with zarr 3.1.6 and Python 3.13 with zarr 3.4.2; fsspec 2026.9.0, aiohttp 3.14.5, numpy 2.2.6;
#           the server is Python's own http.server.
# Expected: the part, or an error that says that the server cannot send a part of a file (no Range requests).
# Seen:     the server answers a request for the end of a file with the whole file and status 200. zarr takes the
#           file's bytes for the shard's index and reports a wrong checksum, so that good data looks corrupt.
#           Arrays without shards read well from the same server.
# Output seen (cut after the first sentence):
#   whole array: [7]
#   first 10 x 10 pixels: ValueError: Stored and computed checksum do not match.
set -euo pipefail
work=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server" || true; rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check \
    zarr==3.1.6 fsspec==2026.9.0 aiohttp==3.14.5 numpy==2.2.6
cd "$work"
mkdir served
venv/bin/python - <<'PY'
import numpy as np
import zarr

data = np.full((256, 256), 7, np.uint16)
zarr.create_array("served/image.zarr", data=data, chunks=(64, 64), shards=(256, 256))
PY
# Port 0: the system gives a free one, and the server prints it.
timeout 120 venv/bin/python -u -m http.server 0 --bind 127.0.0.1 --directory served >server.log 2>requests.log &
server=$!
for _ in $(seq 100); do
    port=$(sed -n 's/.* port \([0-9]*\) .*/\1/p' server.log)
    [ -z "$port" ] || break
    sleep 0.2
done
timeout 60 venv/bin/python - "$port" <<'PY'
import sys

import numpy as np
import zarr

array = zarr.open_array(f"http://127.0.0.1:{sys.argv[1]}/image.zarr", mode="r")
whole = np.unique(array[:]).tolist()
print("whole array:", whole)
try:
    message = f"{array[:10, :10].shape} read"
except ValueError as error:
    message = f"ValueError: {str(error).partition('.')[0]}."
print("first 10 x 10 pixels:", message)
sys.exit(None if whole == [7] and "checksum do not match" in message else "The behavior has changed.")
PY
