"""A git repository with a work tree that a test commits to, and servers follow."""

import os
import subprocess
from pathlib import Path


class PolicyRepo:
    """`main` is the branch; `head` the commit last made."""

    def __init__(self, path: Path, files: dict | None = None):
        self.path = path
        subprocess.run(["git", "init", "-q", "-b", "main", path], check=True)
        self.git("config", "user.email", "t@t")
        self.git("config", "user.name", "t")
        self.git("config", "gc.auto", "0")
        self.head = self.commit(files or {"a/a.rego": "package a\n", "data.json": '{"k": 1}\n'})

    def git(self, *arguments, input: bytes | None = None) -> str:
        environment = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1", "GIT_TERMINAL_PROMPT": "0"}
        done = subprocess.run(["git", "-C", self.path, *map(str, arguments)], check=True, input=input, stdout=subprocess.PIPE, env=environment)
        return done.stdout.decode("utf-8", "surrogateescape").strip()

    def write(self, files: dict):
        """{path: text, bytes or None (delete)}"""
        for name, content in files.items():
            target = self.path / name
            if content is None:
                target.unlink()
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content if isinstance(content, bytes) else content.encode())

    def commit(self, files: dict, message: str = "x") -> str:
        self.write(files)
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", message)
        self.head = self.git("rev-parse", "HEAD")
        return self.head

    def rename(self, old: str, new: str) -> str:
        (self.path / new).parent.mkdir(parents=True, exist_ok=True)
        self.git("mv", old, new)
        return self.commit({})

    def merge(self, files: dict) -> str:
        """A side branch with these files, merged with a merge commit."""
        self.git("checkout", "-q", "-b", "side")
        self.commit(files)
        self.git("checkout", "-q", "main")
        self.commit({})
        self.git("merge", "-q", "--no-ff", "-m", "merge", "side")
        self.git("branch", "-q", "-D", "side")
        self.head = self.git("rev-parse", "HEAD")
        return self.head

    def reset(self, to: str):
        """Takes commits back: what comes next is a force push."""
        self.git("reset", "-q", "--hard", to)
        self.head = self.git("rev-parse", "HEAD")

    def environment(self, clone: Path, **more) -> dict:
        """For a server that follows it (opald or the reference)."""
        return {"OPAL_POLICY_REPO_URL": self.path, "OPAL_POLICY_REPO_MAIN_BRANCH": "main", "OPAL_POLICY_REPO_CLONE_PATH": clone,
                "OPAL_REPO_WATCHER_ENABLED": "true", **more}
