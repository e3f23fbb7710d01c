#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Print the include graph between folders, and fail on an include that the layering does not allow.
# The layers stand in the Makefile (LOOKS_<folder>); this reads them there.
set -euo pipefail
cd "$(dirname "$0")/.." || exit
python3 - <<'PY'
import pathlib, re, sys
looks = {}
text = pathlib.Path("Makefile").read_text()
env = {}
for m in re.finditer(r"^(LIB|MESH)\s*:=\s*(.*)$", text, re.M):
    env[m[1]] = m[2].split()
for m in re.finditer(r"^LOOKS_(\S+)\s*:=\s*(.*)$", text, re.M):
    words = []
    for w in m[2].split():
        words += env[w[2:-1]] if w.startswith("$(") else [w]
    looks[m[1]] = set(words)
edges, bad = {}, []
def module(path):
    for m in sorted(looks, key=len, reverse=True):
        if path.startswith(m + "/"):
            return m
for f in sorted(p for m in looks for p in pathlib.Path(m).rglob("*.[ch]*")):
    src = module(str(f))
    for inc in re.findall(r'^#include "([^"]+)"', f.read_text(), re.M):
        dst = module(inc)
        if dst and dst != src:
            edges.setdefault(src, {}).setdefault(dst, []).append(str(f))
            if dst not in looks[src]:
                bad.append(f"{f}: {src} must not include {inc}")
# proxy may look at mesh/redirect from its init only
for src in sorted(edges):
    print(f"{src:14} -> {' '.join(sorted(edges[src]))}")
for f in edges.get("proxy", {}).get("mesh/redirect", []):
    if pathlib.Path(f).stem not in ("init", "main"):
        bad.append(f"{f}: only init may include mesh/redirect")
print("\n".join(bad) if bad else "no arrow points up")
sys.exit(bool(bad))
PY
