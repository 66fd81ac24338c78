"""Made-up policy repositories: a seed gives a history of adds, changes, deletes, renames, merges, manifests and odd names, always the same."""

import os
import random
import subprocess
from pathlib import Path

WORDS = "allow deny user role token path method tenant group owner scope action resource admin viewer".split()
DIRECTORIES = ["", "", "a", "a/b", "a/b/c", "rbac", "users", "users/été", "日本", "utils.d", "x y", "a-b", "a.rego.d", "deep/er/and/deeper"]
NAMES = [
    "main.rego", "rbac.rego", "q.rego", "été.rego", "e\u0301te\u0301.rego", "日本語.rego", "🔥.rego", "with space.rego", "quo\"te.rego", "back\\slash.rego",
    "tab\there.rego", "UPPER.REGO", ".rego", "..rego", "noext", "a.", "data.json", "data.json", "data.json", "other.json", "Data.json", "data.json.rego",
    "x.data.json", "readme.md", "policy_test.rego", "z.rego", "0.rego", "~.rego", "a.b.c.rego", "\u2028line.rego", "txt.txt",
]
PACKAGES = [
    "package a", "package a.b.c", "package a_b", "package a-b", " package a", "package a ", "package a # c", "package  \t a.b", "package\ta",
    'package a["b-c"]', 'package a.b["x"]', "package", "package ", "packagea", "package\u00a0a.nbsp", "package\u3000wide", "# package no", "PACKAGE a",
    "package a.b\u00e9", "package [\"q\"]", "package a\x1fb", "package\x1fsep", "package .", "default allow = false\npackage late.one", "import data.x",
    "package a;", "\ufeffpackage bom", "package a\x0bpackage vt", "x\x85package nel", "x\u2028package ls", "x\x1cpackage fs",
]
MANIFEST_LINES = ["a", "a/b", "./rbac", "users/", "a//b", "..", "../x", "/etc/passwd", "", ".", "missing.rego", "a/b/../b", "été", "日本", "x y", " rbac.rego", "data.json", "# comment"]


class History:
    """`commits` are full hashes, oldest first; the last one is the branch main. `path` is a bare repository."""

    def __init__(self, path: Path, seed: int, commits: int = 7, files: int = 25):
        self.random = random.Random(seed)
        self.path = path
        self.files: dict[str, tuple[str, bytes]] = {}
        self.stream = bytearray()
        self.marks = 0
        self.commit_marks: list[int] = []
        self.snapshots: dict[int, dict] = {}
        for _ in range(files):
            self._add()
        self._commit()
        for _ in range(commits - 1):
            if self.random.random() < 0.2 and len(self.commit_marks) > 1:
                self._merge()
            else:
                self._mutate()
                self._commit()
        self._import()

    # ---- one file
    def _name(self) -> str:
        directory = self.random.choice(DIRECTORIES)
        return (directory + "/" if directory else "") + self.random.choice(NAMES)

    def _content(self, name: str) -> bytes:
        r = self.random
        ending = r.choice(["\n", "\n", "\n", "\r\n"])
        if name.endswith(".json"):
            return ('{"k": "%s", "n": [%d, 1.50, null], "ä": "\\u00e9\\\\\x7f"}' % (r.choice(WORDS), r.randrange(1000)) + ending).encode()
        lines = [r.choice(PACKAGES)] + [f"{r.choice(WORDS)} {{ input.{r.choice(WORDS)} == {r.randrange(50)} }}" for _ in range(r.choice([0, 3, 30]))]
        if r.random() < 0.2:
            lines.insert(0, "# " + r.choice(["ä", "line with \x01 control \x1b", "\u2029sep", "\x0c form feed"]))
        return ending.join(lines).encode() + (b"" if r.random() < 0.2 else ending.encode())

    def _manifest(self, directory: str) -> bytes:
        r = self.random
        prefix = directory + "/" if directory else ""
        near = [n[len(prefix):] for n in self.files if n.startswith(prefix)] or ["x"]
        lines = [r.choice(near) if r.random() < 0.7 else r.choice(MANIFEST_LINES) for _ in range(r.randrange(1, 12))]
        lines += [os.path.dirname(n) for n in near if r.random() < 0.2]
        r.shuffle(lines)
        text = r.choice(["\n", "\n", "\r\n"]).join(lines) + r.choice(["", "\n"])
        return text.encode() + (b"\xff\n" if r.random() < 0.04 else b"\0x\n" if r.random() < 0.04 else b"")

    def _put(self, name: str, entry: tuple[str, bytes]):
        """Puts a file where it fits: a file can't be a directory at the same time."""
        parts = name.split("/")
        for i in range(1, len(parts)):
            self.files.pop("/".join(parts[:i]), None)
        for below in [n for n in self.files if n.startswith(name + "/")]:
            del self.files[below]
        self.files[name] = entry

    def _add(self):
        name = self._name()
        mode = self.random.choices(["100644", "100755", "120000"], [20, 2, 1])[0]
        self._put(name, (mode, self._content(name)))

    def _mutate(self):
        r = self.random
        for _ in range(r.randrange(1, 7)):
            what = r.choice(["add", "add", "change", "change", "delete", "rename", "rename", "move", "manifest", "manifest", "mode", "type", "submodule", "replace"])
            name = r.choice(sorted(self.files)) if self.files else None
            if what == "add" or name is None:
                self._add()
                continue
            mode, content = self.files[name]
            if what == "change":
                self._put(name, (mode, self._content(name) if mode != "160000" else b"%040x" % r.randrange(16**40)))
            elif what == "delete":
                del self.files[name]
            elif what == "rename" and mode != "160000":  # a submodule of a policy's name: the reference's 500
                del self.files[name]
                self._put(self._name(), (mode, content + (b"# edited\n" if r.random() < 0.5 else b"")))
            elif what == "move" and "/" in name:
                old, new = os.path.dirname(name), r.choice(["moved", "a/moved", "rbac/été"])
                for each in [n for n in self.files if n.startswith(old + "/")]:
                    self._put(new + each[len(old):], self.files.pop(each))
            elif what == "manifest":
                directory = r.choice(["", "", "", os.path.dirname(name)])
                self._put((directory + "/" if directory else "") + ".manifest", ("100644", self._manifest(directory)))
            elif what == "mode" and mode != "160000":
                self._put(name, ("100755" if mode == "100644" else "100644", content))
            elif what == "type" and mode != "160000":
                self._put(name, ("120000" if mode != "120000" else "100644", content if r.random() < 0.5 else b"target"))
            elif what == "submodule":
                self._put(r.choice(["vendor", "a/vendor"]), ("160000", b"%040x" % r.randrange(16**40)))
            elif what == "replace":
                self._put(name + "/inside.rego", ("100644", self._content("inside.rego")))

    # ---- commits
    def _emit_commit(self, parents: list[int]):
        self.marks += 1
        out = self.stream
        out += b"commit refs/heads/main\nmark :%d\ncommitter T <t@t> %d +0000\ndata 1\nx\n" % (self.marks, 1700000000 + self.marks)
        for word, parent in zip([b"from", b"merge"], parents):
            out += b"%s :%d\n" % (word, parent)
        out += b"deleteall\n"
        for name, (mode, content) in self.files.items():
            quoted = '"' + name.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
            if mode == "160000":
                out += f"M 160000 {content.decode()} {quoted}\n".encode()
            else:
                out += f"M {mode} inline {quoted}\ndata {len(content)}\n".encode() + content + b"\n"
        self.commit_marks.append(self.marks)
        self.snapshots[self.marks] = dict(self.files)

    def _commit(self):
        self._emit_commit(self.commit_marks[-1:])

    def _merge(self):
        """A side branch from some commit, and its merge: their files where both have the name."""
        main = self.commit_marks[-1]
        base = self.random.choice(self.commit_marks)
        ours = dict(self.files)
        self.files = dict(self.snapshots[base])
        self._mutate()
        self._emit_commit([base])
        side, theirs = self.commit_marks[-1], self.files
        self.files = ours
        for name, entry in theirs.items():
            self._put(name, entry)
        self._emit_commit([main, side])

    def _import(self):
        subprocess.run(["git", "init", "-q", "--bare", "-b", "main", self.path], check=True)
        marks = self.path / "marks"
        subprocess.run(["git", "-C", self.path, "fast-import", "--quiet", f"--export-marks={marks}", "--force"], input=bytes(self.stream), check=True)
        by_mark = dict(line.split() for line in marks.read_text().splitlines())
        self.commits = [by_mark[f":{mark}"] for mark in self.commit_marks]
