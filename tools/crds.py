#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""One line for each field of each kind (mesh/api/fields/*.txt) becomes
  crds/<kind>.yaml          the CustomResourceDefinitions, all versions with one schema,
  mesh/api/support.def      the support table that the programs walk (kinds and their fields),
  docs/support.md           the same table for people,
  docs/findings.md          what there can be to say about an object (from mesh/api/findings.h),
  manifests/charts/tulle-base/files/    the CRDs again, where Helm can read them,
  tests/unit/mesh/api/every-field/      one object of each kind that sets every field.
`crds.py` writes them, `crds.py --check` fails when one differs.

A line is `NAME TYPE [option=value|required|nullable]... [STATE] : TEXT [-- NOTE]`; fields of an object
stand under it, indented by two. STATE is implemented, partial or reported, and holds for what lies
below until a line says otherwise: flipping that word is all that a newly implemented field needs here.
A partial enum names the values that are not served: unserved=A,B; only those are reported.
TYPE is string bool int32 uint32 integer number duration quantity bytes any object, enum(A,B),
@Type (types.txt, or earlier in the file), [TYPE] for a list or {TYPE} for a map from strings.
A line `rule CEL : MESSAGE` below an object makes the API server refuse objects that break it.
`spec open reported` takes any content. `instead : TEXT` tells what to do while a kind is reported.
"""
import json
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
FIELDS = ROOT / "mesh/api/fields"
KINDS = ["virtualservice", "destinationrule", "serviceentry", "peerauthentication",
         "authorizationpolicy", "mesh", "gateway", "sidecar", "workloadentry", "workloadgroup",
         "envoyfilter", "proxyconfig", "requestauthentication", "telemetry", "wasmplugin",
         "trafficextension"]
STATES = ("implemented", "partial", "reported")
LIMIT = 250_000  # bytes of JSON: what kubectl's last-applied annotation can hold


class Fields(list):
    """Members of an object, and the rules among them."""
    def __init__(self):
        super().__init__()
        self.rules = []


class Field:
    def __init__(self, where, name, type_, options, state, text, note):
        self.where, self.name, self.type, self.options = where, name, type_, options
        self.state, self.text, self.note, self.children = state, text, note, Fields()


class Kind:
    def __init__(self):
        self.name = self.text = None
        self.options, self.columns, self.rules = {}, [], []
        self.spec, self.status = Fields(), Fields()
        self.state, self.open, self.instead = "implemented", False, ""


def fail(where, text):
    sys.exit(f"{where}: {text}")


def words(where, line):
    """`HEAD : TEXT -- NOTE` as list of head words, text, note."""
    head, _, tail = line.partition(" : ")
    text, _, note = tail.partition(" -- ")
    return head.split(), text.strip(), note.strip()


def options_of(where, items):
    out, state = {}, None
    for w in items:
        if w in STATES:
            state = w
        elif "=" in w:
            key, value = w.split("=", 1)
            out[key] = value
        elif w in ("required", "nullable"):
            out[w] = True
        else:
            fail(where, f"what is `{w}`?")
    return out, state


def parse(path, types):
    """Types are added to `types`; the file's kind is returned, or None."""
    kind, stack = None, []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        where = f"{path.name}:{number}"
        if not line.strip() or line.startswith("#"):
            continue
        indent = len(line) - len(line.lstrip())
        head, text, note = words(where, line)
        if indent == 0:
            if head[0] == "kind":
                kind = Kind()
                kind.name, kind.text = head[1], text
                kind.options, _ = options_of(where, head[2:])
            elif head[0] == "column":
                options, _ = options_of(where, head[4:])
                kind.columns.append((head[1], head[2], head[3], text, options))
            elif head[0] == "rule":
                kind.rules.append((" ".join(head[1:]), text))
            elif head[0] == "instead":
                kind.instead = text
            elif head[0] == "type":
                options, state = options_of(where, head[3:])
                top = Field(where, head[1], head[2], options, state, text, note)
                types[head[1]] = top
                stack = [(0, top.children)]
            elif head[0] in ("spec", "status"):
                for word in head[1:]:
                    if word == "open":
                        kind.open = True
                    elif word in STATES:
                        kind.state = word
                    else:
                        fail(where, f"what is `{word}`?")
                stack = [(0, getattr(kind, head[0]))]
            else:
                fail(where, f"what is `{head[0]}`?")
            continue
        if not text:
            fail(where, "a field needs a text")
        while stack and stack[-1][0] >= indent:
            stack.pop()
        if not stack or indent != stack[-1][0] + 2:
            fail(where, "indent by two, below an object")
        if head[0] == "rule":
            stack[-1][1].rules.append((" ".join(head[1:]), text))
            continue
        options, state = options_of(where, head[2:])
        field = Field(where, head[0], head[1], options, state, text, note)
        stack[-1][1].append(field)
        stack.append((indent, field.children))
    return kind


def type_schema(where, type_, children, types):
    if type_.startswith("[") and type_.endswith("]"):
        return {"type": "array", "items": type_schema(where, type_[1:-1], children, types)}
    if type_.startswith("{") and type_.endswith("}"):
        return {"type": "object",
                "additionalProperties": type_schema(where, type_[1:-1], children, types)}
    if type_.startswith("@"):
        top = types.get(type_[1:]) or fail(where, f"no such type: {type_}")
        return {**type_schema(top.where, top.type, top.children, types), **limits(top)}
    if type_.startswith("enum("):
        return {"type": "string", "enum": type_[5:-1].split(",")}
    if type_ == "object":
        out = {"type": "object"}
        properties = {f.name: field_schema(f, types) for f in children}
        if properties:
            out["properties"] = properties
        required = [f.name for f in children if f.options.get("required")]
        if required:
            out["required"] = required
        if children.rules:
            out["x-kubernetes-validations"] = [
                {"rule": rule, "message": message} for rule, message in children.rules]
        return out
    plain = {
        "string": {"type": "string"},
        "bool": {"type": "boolean"},
        "int32": {"type": "integer", "format": "int32"},
        "uint32": {"type": "integer", "minimum": 0},
        "integer": {"type": "integer"},
        "number": {"type": "number"},
        "duration": {"type": "string", "maxLength": 64},
        "quantity": {"x-kubernetes-int-or-string": True},
        "bytes": {"type": "string", "format": "byte"},
        "any": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
    }
    return dict(plain.get(type_) or fail(where, f"what is type `{type_}`?"))


def limits(field):
    names = {"min": "minimum", "max": "maximum", "minLen": "minLength", "maxLen": "maxLength",
             "maxItems": "maxItems", "minItems": "minItems", "minProps": "minProperties", "maxProps": "maxProperties",
             "pattern": "pattern", "default": "default"}
    out = {}
    for key, value in field.options.items():
        if key in ("required", "unserved"):
            continue
        if key == "nullable":
            out["nullable"] = True
        elif key in names:
            texty = key == "pattern" or (key == "default" and not re.fullmatch(
                r"-?\d+|true|false", value))
            out[names[key]] = value if texty else json.loads(value)
        else:
            fail(field.where, f"what is `{key}`?")
    return out


def field_schema(field, types):
    schema = type_schema(field.where, field.type, field.children, types)
    schema.update(limits(field))
    text = field.text
    if field.state == "reported":
        text += " Not implemented: it is reported in the status" + (
            f"; {field.note}." if field.note else ".")
    elif field.state == "partial":
        text += f" Implemented in part: {field.note}."
        if field.type.startswith("enum(") != ("unserved" in field.options):
            fail(field.where, "unserved= goes with a partial enum, and only there")
    return {"description": text, **schema}


def status_schema(kind, types):
    text = {"type": "string"}
    condition = {
        "type": "object",
        "properties": {
            "type": text, "status": {"type": "string", "enum": ["True", "False", "Unknown"]},
            "reason": text, "message": text,
            "lastTransitionTime": {"type": "string", "format": "date-time"},
            "lastProbeTime": {"type": "string", "format": "date-time"},
            "observedGeneration": {"x-kubernetes-int-or-string": True},
        },
        "x-kubernetes-preserve-unknown-fields": True,
        "required": ["type", "status"],
    }
    properties = {
        "conditions": {
            "description": "Accepted, ResolvedRefs and Programmed, with Conflicted when it is so."
                           if kind.name != "Mesh" else
                           "Ready, with Degraded when it is so.",
            "type": "array", "items": condition,
            "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
        "observedGeneration": {
            "description": "Generation of the object that was judged.",
            "x-kubernetes-int-or-string": True},
    }
    if kind.status:
        properties.update({f.name: field_schema(f, types) for f in kind.status})
    else:
        properties["validationMessages"] = {
            "description": "What there is to say about the object.", "type": "array",
            "items": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
        properties["proxies"] = {
            "description": "Proxies that acknowledged it and those that are interested.",
            "type": "string"}
        properties["state"] = {
            "description": "The conditions in one word: Programmed, or the reason why not.",
            "type": "string"}
    return {"description": "Written by the operator.", "type": "object",
            "properties": properties, "x-kubernetes-preserve-unknown-fields": True}


def crd(kind, types):
    group, plural = kind.options["group"], kind.options["plural"]
    own = group == "tulle.dev"
    category = [kind.options["category"]] if own else ["istio-io", group.replace(".", "-")]
    text = kind.text
    if kind.state == "reported":
        text += f" Not implemented: {kind.instead}."
    spec = {"description": text, **type_schema(kind.name, "object", kind.spec, types)}
    if kind.open:
        spec["x-kubernetes-preserve-unknown-fields"] = True
    schema = {
        "description": text, "type": "object",
        "properties": {"spec": spec, "status": status_schema(kind, types)},
    }
    if kind.rules:
        schema["x-kubernetes-validations"] = [
            {"rule": rule, "message": text} for rule, text in kind.rules]
    columns = []
    for name, type_, path, text, options in kind.columns:
        column = {"name": name, "type": type_, "description": text, "jsonPath": path}
        if "priority" in options:
            column["priority"] = int(options["priority"])
        columns.append(column)
    if not own:
        columns.append({"name": "Status", "type": "string",
                        "description": "Programmed, or the reason why not.",
                        "jsonPath": ".status.state"})
        columns.append({"name": "Proxies", "type": "string",
                        "description": "Acknowledged and interested proxies.",
                        "jsonPath": ".status.proxies"})
        for name in ("Accepted", "Programmed"):
            columns.append({
                "name": name, "type": "string", "priority": 1,
                "description": f"Condition {name}.",
                "jsonPath": f'.status.conditions[?(@.type=="{name}")].status'})
    columns.append({"name": "Age", "type": "date", "description": "Time since creation.",
                    "jsonPath": ".metadata.creationTimestamp"})
    versions = []
    for i, version in enumerate(kind.options["versions"].split(",")):
        versions.append({
            "name": version, "served": True, "storage": i == 0,
            "additionalPrinterColumns": columns, "subresources": {"status": {}},
            "schema": {"openAPIV3Schema": schema}})
    names = {"kind": kind.name, "listKind": kind.name + "List", "plural": plural,
             "singular": kind.name.lower(), "categories": category}
    if kind.options.get("short"):
        names["shortNames"] = [kind.options["short"]]
    return {
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{plural}.{group}",
            "annotations": {"helm.sh/resource-policy": "keep"},
            "labels": {"app.kubernetes.io/name": "tulle",
                       "app.kubernetes.io/part-of": "tulle",
                       "app.kubernetes.io/component": "crds"}},
        "spec": {"group": group, "names": names,
                 "scope": kind.options.get("scope", "Namespaced"), "versions": versions}}


PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9 ,;/_-]*[A-Za-z0-9./]|[A-Za-z]")
WORDS = {"true", "false", "null", "yes", "no", "on", "off", "y", "n"}


def scalar(v):
    if isinstance(v, str) and PLAIN.fullmatch(v) and v.lower() not in WORDS and len(v) < 90:
        return v
    return json.dumps(v, ensure_ascii=False)


def yaml(v, indent=0):
    pad = "  " * indent
    out = []
    if isinstance(v, dict):
        for key, value in v.items():
            key = scalar(key)
            if isinstance(value, (dict, list)) and value:
                out.append(f"{pad}{key}:")
                out.append(yaml(value, indent + (isinstance(value, dict))))
            else:
                out.append(f"{pad}{key}: {scalar(value)}")
    else:
        for item in v:
            if isinstance(item, dict):
                text = yaml(item, indent + 1)
                out.append(f"{pad}- {text[len(pad) + 2:]}")
            else:
                out.append(f"{pad}- {scalar(item)}")
    return "\n".join(out)


def rows(kind, fields, types, prefix, state, out):
    """(path, state, note, text, unserved values) of each field, parents before children."""
    for f in fields:
        path, now = f"{prefix}.{f.name}", f.state or state
        out.append((path, now, f.note if f.state else "", f.text, f.options.get("unserved", "")))
        type_, children, below = f.type, f.children, path
        while True:
            if type_[0] == "[":
                type_, below = type_[1:-1], below + "[]"
            elif type_[0] == "{":
                type_, below = type_[1:-1], below + "{}"
            elif type_[0] == "@":
                type_, children = types[type_[1:]].type, types[type_[1:]].children
            else:
                break
        rows(kind, children, types, below, "implemented" if now == "partial" else now, out)


def sample(type_, children, options, types):
    """A value that the schema takes."""
    if type_[0] == "[":
        return [sample(type_[1:-1], children, {}, types)]
    if type_[0] == "{":
        return {"80": sample(type_[1:-1], children, {}, types)}
    if type_[0] == "@":
        top = types[type_[1:]]
        return sample(top.type, top.children, top.options, types)
    if type_.startswith("enum("):
        return type_[5:-1].split(",")[0]
    if type_ == "object":
        chosen = children[:1] if options.get("maxProps") == "1" else children
        return {f.name: sample(f.type, f.children, f.options, types) for f in chosen}
    return {"string": "x", "bool": True, "int32": 1, "uint32": 1, "integer": 1, "number": 1.5,
            "duration": "1s", "quantity": "1", "bytes": "aGk=", "any": {"x": "y"}}[type_]


def enum_name(name):
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).upper()


def render():
    shared, files, table = {}, {}, []
    parse(FIELDS / "types.txt", shared)
    for name in KINDS:
        types = dict(shared)
        kind = parse(FIELDS / f"{name}.txt", types)
        value = crd(kind, types)
        size = len(json.dumps(value, separators=(",", ":")))
        if size > LIMIT:
            fail(name, f"{size} bytes of JSON, more than {LIMIT}")
        files[f"crds/{name}.yaml"] = (
            "# SPDX-License-Identifier: Apache-2.0\n"
            f"# Written by tools/crds.py from mesh/api/fields/{name}.txt.\n" + yaml(value) + "\n")
        out = []
        rows(kind, kind.spec, types, "spec", kind.state, out)
        table.append((kind, out))
        own = kind.options.get("scope") == "Cluster"
        if kind.state == "reported" and not kind.instead:
            fail(name, "a reported kind says what to do instead")
        value = {"apiVersion": kind.options["group"] + "/" + kind.options["versions"].split(",")[0],
                 "kind": kind.name, "metadata": {"name": "default" if own else "every-field"},
                 "spec": sample("object", kind.spec, {}, types)}
        files[f"tests/unit/mesh/api/every-field/{name}.yaml"] = (
            "# SPDX-License-Identifier: Apache-2.0\n"
            f"# Written by tools/crds.py from mesh/api/fields/{name}.txt.\n" + yaml(value) + "\n")
    lines = ["/* SPDX-License-Identifier: Apache-2.0 */",
             "/* Written by tools/crds.py from mesh/api/fields/: K(kind, state, open, what to do instead) and",
             " * S(kind, path, state, unserved values, note). */",
             "/* clang-format off */"]
    for kind, out in table:
        lines.append(f"K({enum_name(kind.name)}, {kind.state.upper()}, {str(kind.open).lower()}, "
                     f"{json.dumps(kind.instead)})")
    for kind, out in table:
        for path, state, note, _, unserved in out:
            lines.append(f"S({enum_name(kind.name)}, {json.dumps(path)}, {state.upper()}, "
                         f"{json.dumps(unserved)}, {json.dumps(note)})")
    lines.append("/* clang-format on */")
    files["mesh/api/support.def"] = "\n".join(lines) + "\n"
    files["docs/support.md"] = support_page(table)
    files["docs/findings.md"] = findings_page()
    for name in KINDS:
        files[f"manifests/charts/tulle-base/files/{name}.yaml"] = files[f"crds/{name}.yaml"]
    return files


def support_page(table):
    lines = [
        "# What of the API is implemented", "",
        "<!-- Written by tools/crds.py from mesh/api/fields/. -->", "",
        "A field that is set and not implemented is never ignored in silence: it is named, with its",
        "path, in the answer at admission, in the object's status and by `tulle analyze`. The same",
        "table drives all three, the schemas under `crds/`, and this page.", "",
        "- **implemented**: has the effect that Istio's documentation gives it.",
        "- **partial**: the note says which part.",
        "- **reported**: read, checked and reported, without effect. An object of a reported kind is never",
        "  refused for that: its condition `Accepted` is False and names what to do instead.",
        "", "`[]` stands for any element of a list, `{}` for any key of a map.", "",
        "| Kind | State | Fields | implemented | partial | reported |", "|---|---|---:|---:|---:|---:|"]
    for kind, out in table:
        n = [sum(1 for row in out if row[1] == s) for s in STATES]
        fields = "any" if kind.open else len(out)
        lines.append(f"| {kind.name} | {kind.state} | {fields} | {n[0]} | {n[1]} | {n[2]} |")
    for kind, out in table:
        lines += ["", f"## {kind.name}", "",
                  f"`{kind.options['group']}`, served as "
                  + ", ".join(kind.options["versions"].split(",")) + f". {kind.text}", ""]
        if kind.instead:
            lines += [f"Reported: {kind.instead}.", ""]
        if not out:
            lines.pop()
            continue
        lines += ["| Field | State | Meaning |", "|---|---|---|"]
        for path, state, note, text, _ in out:
            cell = text + (f" *{note[0].upper()}{note[1:]}.*" if note else "")
            lines.append(f"| `{path}` | {state} | {cell} |".replace("\\", "\\\\"))
    return "\n".join(lines) + "\n"


def findings_page():
    """One row for each X(...) of FINDING_KINDS."""
    text = (ROOT / "mesh/api/findings.h").read_text()
    rows_ = re.findall(r'X\(\w+,\s*"[^"]+",\s*(\w+),\s*"([^"]+)",\s*(\w+),\s*"([^"]+)",\s*"([^"]+)"\)',
                       text)
    lines = [
        "# What is said about objects", "",
        "<!-- Written by tools/crds.py from mesh/api/findings.h. -->", "",
        "A finding has a code (Istio's where Istio has one), a path in the object and a sentence that",
        "tells what to do. It is told in three places:", "",
        "- by the webhook, when an object is applied: what can be judged by the object alone. Errors",
        "  refuse it, warnings are printed by kubectl;",
        "- in the object's status (`validationMessages`, and conditions where the table names one);",
        "- by `tulle analyze -f FOLDER`, before anything is applied. Deployments and their like count as",
        "  pods. `--complete` says that the files hold the whole cluster. The annotation",
        "  `galley.istio.io/analyze-suppress: IST0118,TUL0006` (or `*`) keeps it silent about an object.",
        "", "| Code | Severity | Reason | Condition | Meaning |", "|---|---|---|---|---|"]
    names = {"NONE": "", "ACCEPTED": "Accepted", "RESOLVED_REFS": "ResolvedRefs",
             "CONFLICTED": "Conflicted"}
    for severity, code, condition, reason, meaning in sorted(rows_, key=lambda r: r[1]):
        lines.append(f"| {code} | {severity.lower()} | {reason} | {names[condition]} | {meaning} |")
    return "\n".join(lines) + "\n"


def main():
    check = sys.argv[1:] == ["--check"]
    if sys.argv[1:] and not check:
        sys.exit(__doc__)
    differs = []
    for name, text in render().items():
        path = ROOT / name
        if path.exists() and path.read_text() == text:
            continue
        if check:
            differs.append(name)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        print(f"wrote {name}")
    if differs:
        sys.exit("differs from mesh/api/fields/, run tools/crds.py: " + ", ".join(differs))


main()
