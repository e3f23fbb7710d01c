#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""etcd_compact.py URL: forgets all history before the newest revision; prints that revision.

After it, and a restart of the API server (whose own watch window is in memory), a watch from
an older resourceVersion is answered with 410 Gone.
"""
import json
import sys
import urllib.request


def call(path, body):
    """One request to etcd's JSON gateway."""
    request = urllib.request.Request(sys.argv[1] + path, json.dumps(body).encode(),
                                     {"Content-Type": "application/json"})
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, None, 20) as r:
        return json.load(r)


if __name__ == "__main__":
    # "AA==" is the key of one zero byte: nothing is there, but the header has the revision.
    revision = call("/v3/kv/range", {"key": "AA=="})["header"]["revision"]
    call("/v3/kv/compaction", {"revision": revision, "physical": True})
    print(revision)
