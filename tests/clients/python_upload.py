"""Stock fal-client uploads a file whole and in parts: `python python_upload.py ORIGIN FILE` prints both addresses.

Its hosts for uploads are fixed, so they are patched, and so is the size from which a file goes in parts.
"""

import json
import sys
from pathlib import Path

import fal_client

origin, path = sys.argv[1:3]
fal_client.client.REST_URL = fal_client.client.CDN_URL = origin
seen = {"whole": fal_client.upload_file(path)}
fal_client.client.MULTIPART_THRESHOLD = 1
fal_client.client.MULTIPART_CHUNK_SIZE = Path(path).stat().st_size // 7
seen["parts"] = fal_client.upload_file(path)
print(json.dumps(seen))
