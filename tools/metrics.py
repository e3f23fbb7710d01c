#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Metrics as the sources define them become docs/metrics.md; docs/limits.md is held against the sources:
each metric, response flag and test that it names is there. `metrics.py` writes, `metrics.py --check`
fails when the page differs or a name in the table of limits is none."""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/metrics.md"
LIMITS = ROOT / "docs/limits.md"
PREFIX = (r"(?:tulle|istio|pilot|citadel|workqueue|controller_runtime|rest_client|leader_election|envoy|"
          r"process|sidecar_injection|galley|certwatcher)_[a-z0-9_]+")
PROGRAMS = [
    ("Sidecars and gateways", "Ports 15020 (with the application's own) and 15090.", ["proxy"]),
    ("Operator", "Port 15014. Names are those that dashboards of controller-runtime and istiod know, where\n"
     "such a name says what is meant.", ["operator"]),
    ("Injector", "Port 15014.", ["injector"]),
    ("Every program", "", ["lib/obs"]),
]
STRINGS = r'((?:"(?:[^"\\]|\\.)*"\s*)+)'


def text_of(strings):
    return "".join(re.findall(r'"((?:[^"\\]|\\.)*)"', strings)).rstrip(".")


def kind_of(name, before, after):
    found = re.search(r"(COUNTER|GAUGE|SECONDS|SUMMARY)\(\s*$", before) or \
        re.match(r"[^}]{0,160}?METRIC_(COUNTER|GAUGE|HISTOGRAM)", after, re.S)
    if found:
        return {"SECONDS": "histogram"}.get(found.group(1), found.group(1).lower())
    return "counter" if name.endswith("_total") or name.startswith("galley_") else \
        "histogram" if name.endswith("_seconds") and "latency" in name else "gauge"


def metrics_in(folder):
    found = {}
    for path in sorted((ROOT / folder).rglob("*.[ch]")):
        source = re.sub(r"\\\n", "\n", path.read_text())
        for m in re.finditer(r'"(%s)"\s*,\s*(?:NULL\s*,\s*)?%s' % (PREFIX, STRINGS), source):
            kind, help_text = kind_of(m.group(1), source[:m.start()], source[m.end():]), m.group(2)
            more = re.match(r"\s*,\s*" + STRINGS, source[m.end():])
            if more and re.fullmatch(r"[a-z]+", text_of(help_text)):  # a type or a unit came first
                kind = text_of(help_text) if text_of(help_text) in ("gauge", "counter") else kind
                help_text = more.group(1)
            found.setdefault(m.group(1), (kind, text_of(help_text)))
        for m in re.finditer(r'\.name = "(%s)",\s*\.help = %s' % (PREFIX, STRINGS), source):
            found.setdefault(m.group(1), (kind_of(m.group(1), "", source[m.end():]), text_of(m.group(2))))
        # Written out as text: "# TYPE name kind".
        for m in re.finditer(r'# HELP (%s) ([^"\\]*)\\n' % PREFIX, source):
            kind = re.search(r"# TYPE %s (\w+)" % m.group(1), source)
            found.setdefault(m.group(1), (kind.group(1) if kind else "gauge", m.group(2).rstrip(".")))
    return found


def page():
    out = ["# Metrics", "",
           "<!-- Written by tools/metrics.py from the sources; `make docs` writes it anew. -->", "",
           "In OpenMetrics and in Prometheus' text format, as the scraper asks. Counters never go backwards.", ""]
    for title, words, folders in PROGRAMS:
        rows = {}
        for f in folders:
            rows.update(metrics_in(f))
        out += ["## " + title, ""] + ([words, ""] if words else [])
        out += ["| Metric | Type | What it counts |", "|---|---|---|"]
        out += ["| `%s` | %s | %s |" % (n, k, h) for n, (k, h) in sorted(rows.items())]
        out.append("")
    return "\n".join(out)


def sources():
    return "\n".join(p.read_text() for d in ("proxy", "operator", "injector", "lib", "mesh")
                     for p in sorted((ROOT / d).rglob("*.[ch]")))


def wrong_in_limits():
    code, wrong = sources(), []
    defined = set()
    for _, _, folders in PROGRAMS:
        for f in folders:
            defined.update(metrics_in(f))
    for number, line in enumerate(LIMITS.read_text().split("\n"), 1):
        at = "docs/limits.md:%d: " % number
        for name in re.findall(r"`(%s)(?:\{[^`]*\})?`" % PREFIX, line):
            if name not in defined:
                wrong.append(at + "no metric " + name)
        for value in re.findall(r'limit="(\w+)"', line):
            if '"%s"' % value not in code:
                wrong.append(at + "no limit named " + value)
        if not line.startswith("|") or line.startswith("|--") or line.startswith("| Limit"):
            continue
        cells = [c.strip() for c in line.strip("|").split(" | ")]
        if len(cells) != 4:
            wrong.append(at + "%d columns" % len(cells))
            continue
        for flag in re.findall(r"`([A-Z]{2,5})(?: [a-z_]+)?`", cells[2]):
            if not re.search(r'"%s\b|\bFLAG_%s\b' % (flag, flag), code):
                wrong.append(at + "no response flag " + flag)
        for detail in re.findall(r"`(?:[A-Z]{2,5} )?([a-z]+(?:_[a-z]+)+)`", cells[2]):
            if '"%s"' % detail not in code and detail not in defined and detail not in code:
                wrong.append(at + "no detail " + detail)
        for test in re.findall(r"`([^`]+)`", cells[3]):
            if not ((ROOT / "tests/scenario" / (test + ".scn")).exists() or
                    (ROOT / "tests/unit" / (test + ".c")).exists() or
                    (ROOT / "tests/e2e" / (test + ".sh")).exists()):
                wrong.append(at + "no test " + test)
        if not cells[3]:
            wrong.append(at + "no test is named (`-` says why there is none)")
    return wrong


def main():
    want = page()
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(want)
        return 0
    wrong = wrong_in_limits()
    if not PAGE.exists() or PAGE.read_text() != want:
        wrong.append("docs/metrics.md is not what the sources say: make docs")
    print("\n".join(wrong), end="\n" if wrong else "", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
