#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Do the rows of the mutation lists still find the line that they change?

usage: mutations.py FIELD <rows      rows NAME^...^FILE^OLD^NEW; FIELD: which one FILE is, from 1
Prints the rows whose FILE does not hold OLD exactly once; 1 when there are any, or no rows at all."""
import sys

field, rows, bad = int(sys.argv[1]) - 1, 0, 0
for line in sys.stdin:
    row = line.rstrip("\n").split("^")
    if row[field] == "helm":
        continue
    rows += 1
    name, path, old = row[0], row[field], row[field + 1].replace("\\n", "\n")
    try:
        n = open(path).read().count(old)
    except OSError as e:
        n = e.strerror
    if n != 1:
        bad += 1
        print(f"{name}: {path} holds the line to change {n} times")
print(f"{rows} mutations, {bad} do not find their line")
sys.exit(bad > 0 or rows == 0)
