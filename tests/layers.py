#!/usr/bin/env python3
"""A folder is a layer: core/X includes, names and links only what docs/architecture.md ("A folder is a layer") allows X.

    tests/layers.py [--build BUILD_DIR] [ROOT]    also TG_BUILD_DIR; without a build, links are held to CMakeLists.txt only
    tests/layers.py --can-fail                    breaks copies of the tree in every way that this test knows, and looks on

Held to the two tables there:
- includes, of our headers and of libraries;
- struct and enum names: a type names nothing of a layer above it, not even by a forward declaration;
- CMakeLists.txt: every layer is a library of its own, with the layers and libraries that it may use;
- symbols: what a layer's library leaves undefined is in the libraries of its own line;
- words: model/ has none of log, routing or backends in its headers (comments apart).
What does not keep to them is in EXCEPTIONS with the reason; an exception that nothing needs any more is an error, too.
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile

# (file, what it includes or names): why. Take one out when its cause is gone; this test asks for it.
EXCEPTIONS = {
    ("core/receive/receive.c", "core/codec/compress.h"): "bodies come compressed, and it is the receiver that unpacks them",
    ("core/client/load_generator.c", "core/codec/compress.h"): "generated load is compressed as senders do it",
    ("core/model/series.h", "log_segment log_ref"): "the log writer's reference lies in the series; goes into the log",
    ("core/model/point.h", "routed targets"): "where an accepted point goes stands beside it; goes with the planner",
    ("core/model/table.h", "tg_table_intern_logged"): "a series that is in the log is taken in beyond the limit",
    ("core/model/plan.h", "tg_prepared n_prepared prepared tg_plan_prepared tg_prepare_fn tg_preparer preparers backend "
                          "n_backends TG_MAX_BACKENDS TG_PREPARED_MAX_BYTES TG_STRATEGY_LOGGED targets"):
        "plans are built here, with the bytes of each backend; the planner (core/pipe) is to build them",
}

# Words that model/ has no business with, as parts of identifiers.
MODEL_WORDS = {"log", "logs", "logged", "backend", "backends", "route", "routed", "routing", "target", "targets", "cursor",
               "cursors", "prepare", "prepared", "preparer", "preparers", "delivery"}

# The libraries of the second table: headers, symbols, and what CMakeLists.txt calls them.
LIBRARIES = {
    "xxhash": (r"xxhash\.h", r"XXH", "PkgConfig::XXHASH"),
    "zstd": (r"zstd(_errors)?\.h", r"ZSTD_", "PkgConfig::ZSTD"),
    "snappy": (r"snappy-c\.h", r"snappy_", "${SNAPPY_LIBRARY}"),
    "libdeflate": (r"libdeflate\.h", r"libdeflate_", "PkgConfig::DEFLATE"),
    "protobuf-c": (r"protobuf-c/.*", r"protobuf_c_", "PkgConfig::PROTOBUFC"),
    "libevent": (r"event2/.*", r"(event|evbuffer|evtimer|evutil|evthread|bufferevent|evdns)_", "PkgConfig::EVENT"),
    "curl": (r"curl/.*", r"curl_", "CURL::libcurl"),
    "http_parser": (r"http_parser\.h", r"http_(parser|should|method_str|errno|body_is|message|status_str)", "${HTTP_PARSER_LIBRARY}"),
    "LuaJIT": (r"(lua|lauxlib|lualib|luajit)\.h(pp)?", r"lua(L|JIT|open)?_", "PkgConfig::LUAJIT"),
    "jansson": (r"jansson\.h", r"(json_|jansson_)", "PkgConfig::JANSSON"),
}


class Tree:
    def __init__(self, root, build=None):
        self.root, self.build, self.errors, self.used = root, build, [], set()
        self.order, self.may, self.library_users = [], {}, {}
        self.read_tables()
        self.files = sorted(os.path.relpath(os.path.join(d, f), root) for d, _, names in os.walk(os.path.join(root, "core"))
                            for f in names if f.endswith((".c", ".h")))
        self.text = {f: self.read(f) for f in self.files}
        self.code = {f: re.sub(r"/\*.*?\*/|//[^\n]*", "", t, flags=re.S) for f, t in self.text.items()}

    def read(self, f):
        with open(os.path.join(self.root, f), encoding="utf-8") as h:
            return h.read()

    def bad(self, text):
        self.errors.append(text)

    def excused(self, file, what):
        for key in EXCEPTIONS:
            if key[0] == file and what in key[1].split():
                self.used.add((file, what))
                return True
        return False

    # --- the tables ---

    def read_tables(self):
        doc = self.read("docs/architecture.md")
        for folder, may in re.findall(r"^\| `core/(\w+)/` \|.*\| ([^|]*) \|$", doc, re.M):
            if may in ("all above", "all"):
                self.may[folder] = list(self.order)
            elif folder == "base":
                self.may[folder] = []
            else:
                self.may[folder] = may.split(", ")
            self.order.append(folder)
        for layer, may in self.may.items():
            for other in may:
                if other not in self.order:
                    self.bad(f"docs/architecture.md: core/{layer} may include {other!r}, which is no layer")
                elif self.order.index(other) >= self.order.index(layer):
                    self.bad(f"docs/architecture.md: core/{layer} may include {other}, which stands below it")
        for library in LIBRARIES:
            m = re.search(rf"^\| {re.escape(library)} \| ([^|]*) \|$", doc, re.M)
            if not m:
                self.bad(f"docs/architecture.md: the table of libraries lacks {library}")
            self.library_users[library] = m.group(1).split(", ") if m else []
        if not self.order:
            self.bad("docs/architecture.md: its table of folders is not found")

    # --- sources ---

    def layer(self, file):
        return file.split("/")[1]

    def check_includes(self):
        for folder in sorted(os.listdir(os.path.join(self.root, "core"))):
            if folder not in self.may:
                self.bad(f"core/{folder}: docs/architecture.md has no such layer")
        for file in self.files:
            layer = self.layer(file)
            for no, line in enumerate(self.text[file].split("\n"), 1):
                m = re.match(r'\s*#\s*include\s*(["<])([^">]+)[">]', line)
                if not m:
                    continue
                name = m.group(2)
                if name.startswith("core/"):
                    to = self.layer(name)
                    if to != layer and to not in self.may.get(layer, []) and not self.excused(file, name):
                        self.bad(f"{file}:{no}: includes {name}, but core/{layer} may include only: "
                                 f"{', '.join(self.may.get(layer, [])) or 'nothing'} (and itself)")
                elif name.startswith("tests/"):
                    self.bad(f"{file}:{no}: includes {name}: the program does not depend on tests")
                for library, (headers, _, _) in LIBRARIES.items():
                    if re.fullmatch(headers, name) and layer not in self.library_users[library]:
                        self.bad(f"{file}:{no}: includes <{name}>; {library} is for: {', '.join(self.library_users[library])}")

    def check_types(self):
        homes = {}
        for file in self.files:
            for name in re.findall(r"\b(?:struct|enum)\s+(tgl?_\w+)\s*\{", self.code[file]):
                homes.setdefault(name, set()).add(file)
        for file in self.files:
            layer = self.layer(file)
            for name in sorted(set(re.findall(r"\b(?:struct|enum)\s+(tgl?_\w+)\b", self.code[file]))):
                home = homes.get(name, set())
                if not home or {self.layer(h) for h in home} & {layer, *self.may.get(layer, [])}:
                    continue
                if not any(self.excused(file, what) for what in [name, *home]):
                    self.bad(f"{file}: names {name} of {', '.join(sorted(home))}, which core/{layer} must not know")

    def check_words(self):
        for file in self.files:
            if self.layer(file) != "model" or not file.endswith(".h"):
                continue
            for name in sorted(set(re.findall(r"\b[A-Za-z_]\w*\b", self.code[file]))):
                if set(name.lower().split("_")) & MODEL_WORDS and not self.excused(file, name):
                    self.bad(f"{file}: {name}: types of core/model name nothing of log, routing or backends")

    # --- links ---

    def check_links(self):
        text = self.read("CMakeLists.txt")
        lines = {}
        for name, rest in re.findall(r"^tg_layer\((\w+)\s*([^)]*)\)", text, re.M):
            m = re.match(r"(?:LAYERS ([\w\s]+?))?\s*(?:LIBS (.*))?$", rest.strip(), re.S)
            lines[name] = ((m.group(1) or "").split(), (m.group(2) or "").split())
        for layer in self.order:
            if layer not in lines:
                self.bad(f"CMakeLists.txt: core/{layer} is not a library (tg_layer)")
                continue
            layers, libs = lines[layer]
            excused = {self.layer(what) for file, what in EXCEPTIONS if self.layer(file) == layer and "/" in what}
            for other in layers:
                if other not in self.may[layer] and other not in excused:
                    self.bad(f"CMakeLists.txt: {layer} links {other}, but core/{layer} may use only: {', '.join(self.may[layer])}")
            for lib in libs:
                for library, (_, _, cmake) in LIBRARIES.items():
                    if lib == cmake and layer not in self.library_users[library]:
                        self.bad(f"CMakeLists.txt: {layer} links {library}, which is for: {', '.join(self.library_users[library])}")
        if self.build and not self.errors:
            self.check_symbols(lines)

    def symbols(self, layer):
        """{defined: object}, {undefined: object} of a layer's library; None without sources."""
        archive = os.path.join(self.build, f"libtg_{layer}.a")
        if not any(f.endswith(".c") and self.layer(f) == layer and f != "core/app/main.c" for f in self.files):
            return {}, {}
        if not os.path.exists(archive):
            self.bad(f"{archive} is not there: build first")
            return {}, {}
        defined, undefined = {}, {}
        out = subprocess.run(["nm", "-A", archive], capture_output=True, text=True, check=True).stdout
        for line in out.split("\n"):
            m = re.match(r"[^:]*:([^:]+):\S*\s+(\w) (\S+)$", line)
            if m and m.group(2) == "U":
                undefined.setdefault(m.group(3), m.group(1))
            elif m and m.group(2) in "TDBRCVW":
                defined.setdefault(m.group(3), m.group(1))
        return defined, undefined

    def check_symbols(self, lines):
        tables = {layer: self.symbols(layer) for layer in self.order}
        home = {name: (layer, obj) for layer in reversed(self.order) for name, obj in tables[layer][0].items()
                if re.match(r"tgl?_|TG_|opentelemetry", name)}
        for layer in self.order:
            layers, libs = lines[layer]
            for name, obj in sorted(tables[layer][1].items()):
                if name in tables[layer][0]:
                    continue
                to, to_obj = home.get(name, (None, None))
                if to and to not in layers:
                    self.bad(f"core/{layer}: {obj} needs {name} of core/{to} ({to_obj}), which its line in CMakeLists.txt lacks")
                elif to and to not in self.may[layer] and not any(
                        self.layer(file) == layer and os.path.basename(what)[:-2] == to_obj.split(".")[0]
                        for file, what in EXCEPTIONS if "/" in what and self.layer(what) == to):
                    self.bad(f"core/{layer}: {obj} needs {name} of core/{to} ({to_obj}), which it may not use")
                for library, (_, pattern, cmake) in LIBRARIES.items():
                    if re.match(pattern, name) and cmake not in libs:
                        self.bad(f"core/{layer}: {obj} needs {name} of {library}, which its line in CMakeLists.txt lacks")

    def check(self):
        self.check_includes()
        self.check_types()
        self.check_words()
        for file, what in sorted((f, w) for f, words in EXCEPTIONS for w in words.split()):
            if (file, what) not in self.used:
                self.bad(f"{file}: has no {what} any more: take it out of EXCEPTIONS (tests/layers.py)")
        self.check_links()
        return self.errors


# --- that this test can fail ---

BREAKS = [  # what is done to a file, and what must be said of it
    ("core/model/batch.c", "", '#include "core/log/log.h"\n', "includes core/log/log.h"),
    ("core/base/buf.c", "", '#include "tests/support/capture.h"\n', "does not depend on tests"),
    ("core/rules/rules.c", "", "#include <jansson.h>\n", "jansson is for"),
    ("core/receive/otlp_http.c", "", "struct tg_delivery_loop;\n", "names tg_delivery_loop of core/pipe/"),
    ("core/model/symbol.h", "#include", "enum { TG_SYMBOL_LOG_REF = 1 };\n#include", "TG_SYMBOL_LOG_REF"),
    ("core/model/series.h", "uint32_t log_ref;", "uint32_t ref;", "take it out of EXCEPTIONS"),
    ("CMakeLists.txt", "tg_layer(net LAYERS base", "tg_layer(net LAYERS base log", "net links log"),
    ("CMakeLists.txt", "tg_layer(log LAYERS base model codec", "tg_layer(log LAYERS base model codec LIBS PkgConfig::JANSSON",
     "log links jansson"),
    ("CMakeLists.txt", "tg_layer(vm ", "# tg_layer(vm ", "core/vm is not a library"),
    ("docs/architecture.md", "| base, model, vm |", "| base, model, pipe |", "which stands below it"),
    ("docs/architecture.md", "| `core/vm/`", "| `core/wm/`", "no such layer"),
    ("CMakeLists.txt", "tg_layer(receive LAYERS base model codec protocol net", "tg_layer(receive LAYERS base model codec protocol",
     "needs tg_http_reply of core/net"),  # with a build only
    ("core/net/loop.c", "", "", None),  # nothing is broken: nothing is said
]


def can_fail(build):
    failed = 0
    breaks = [b for b in BREAKS if build or "needs" not in (b[3] or "")]
    for file, old, new, want in breaks:
        with tempfile.TemporaryDirectory() as root:
            for part in ("core", "docs"):
                shutil.copytree(part, os.path.join(root, part))
            shutil.copy("CMakeLists.txt", root)
            path = os.path.join(root, file)
            with open(path, encoding="utf-8") as h:
                text = h.read()
            broken = text.replace(old, new, 1) if old else new + text
            if want and broken == text:
                print(f"{file}: has no {old!r} to be broken")
                failed += 1
                continue
            with open(path, "w", encoding="utf-8") as h:
                h.write(broken)
            errors = Tree(root, build).check()
            if bool(errors) != bool(want) or (want and not any(want in e for e in errors)):
                print(f"{file}: {new or old!r}: {want!r} was to be said, but: {errors}")
                failed += 1
    print(f"{len(breaks) - failed} of {len(breaks)} breaks are told")
    return failed == 0


def main():
    args = sys.argv[1:]
    build = os.environ.get("TG_BUILD_DIR")
    if args[:1] == ["--build"]:
        build, args = args[1], args[2:]
    build = os.path.abspath(build) if build else None
    os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
    if args == ["--can-fail"]:
        sys.exit(0 if can_fail(build) else 1)
    tree = Tree(args[0] if args else ".", build)
    errors = tree.check()
    for e in errors:
        print(e)
    if errors:
        print(f"{len(errors)} things break the layers")
        sys.exit(1)
    print(f"{len(tree.files)} files of {len(tree.order)} layers keep to the table, {len(tree.used)} exceptions are left")


main()
