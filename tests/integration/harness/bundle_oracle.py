"""The reference's own bundle maker in this process, and opald's builder beside it (bundle_driver)."""

import json
import os
import subprocess
from pathlib import Path

from .paths import built_driver
from .process import clean_environment


class Rules:
    """What the configuration says; the defaults are the reference's."""

    def __init__(self, manifest: str = "", ignore=(), extensions=(".rego", ".json"), policies=(".rego",)):
        self.manifest, self.ignore, self.extensions, self.policies = manifest, list(ignore), list(extensions), list(policies)


class BundleDriver:
    def __init__(self, work: Path, rules: Rules | None = None, **limits):
        rules = rules or Rules()
        self.log_path = work / f"bundle-driver-{os.urandom(3).hex()}.log"
        arguments = [f"manifest={rules.manifest}", *(f"ignore={p}" for p in rules.ignore), *(f"extension={e}" for e in rules.extensions),
                     *(f"policy={e}" for e in rules.policies), *(f"{k}={v}" for k, v in limits.items())]
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen([built_driver("bundle_driver"), *arguments], stdin=subprocess.PIPE,
                                            stdout=subprocess.PIPE, stderr=log, env=clean_environment())

    def ask(self, repository, head: str, base: str = "", paths=()) -> dict:
        """{"status", "body", "gzip", "files", "repaired", "diff", "tag"}"""
        self.process.stdin.write("\t".join([str(repository), head, base, *paths]).encode("utf-8", "surrogateescape") + b"\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, f"bundle_driver ended: {self.log_path.read_text('utf-8', 'replace')[-3000:]}"
        status, length, gzip_length, files, repaired, diff, tag = line.decode().split()
        body = self.process.stdout.read(int(length))
        packed = self.process.stdout.read(int(gzip_length))
        return {"status": int(status), "body": body, "gzip": packed, "files": int(files), "repaired": int(repaired), "diff": diff == "1", "tag": tag}

    def close(self):
        self.process.stdin.close()
        assert self.process.wait(30) == 0, self.log_path.read_text("utf-8", "replace")[-3000:]
        self.process.stdout.close()


class BundleOracle:
    """GET /policy of the reference without its HTTP: the checks of its route and its bundle maker. Bytes as its JSON response has them."""

    def __init__(self):
        os.environ.setdefault("DD_TRACE_ENABLED", "false")
        from loguru import logger

        logger.remove()
        from ddtrace import tracer

        tracer.enabled = False
        from fastapi.encoders import jsonable_encoder
        from git import Repo
        from opal_common.config import opal_common_config
        from opal_common.git_utils.bundle_maker import BundleMaker
        from opal_common.git_utils.commit_viewer import CommitViewer
        from opal_server.policy.bundles.api import normalize_path

        self.encode, self.Repo, self.config, self.BundleMaker, self.CommitViewer, self.normalize = (
            jsonable_encoder, Repo, opal_common_config, BundleMaker, CommitViewer, normalize_path)

    def ask(self, repository, head: str, base: str = "", paths=(), rules: Rules | None = None) -> dict:
        rules = rules or Rules()
        repo = self.Repo(repository)
        try:
            commit = repo.commit(head)
            wanted = [self.normalize(p) for p in paths]
            known = set(self.CommitViewer(commit).paths)
            for path in wanted:
                if path not in known:
                    return {"status": 404, "body": f"requested path {path} was not found in the policy repo!".encode()}
            from pathlib import Path as P

            self.config.POLICY_REPO_POLICY_EXTENSIONS = rules.policies
            maker = self.BundleMaker(repo, in_directories=set(wanted or [P(".")]), extensions=rules.extensions,
                                     root_manifest_path=rules.manifest, bundle_ignore=rules.ignore)
            bundle = maker.make_diff_bundle(repo.commit(base), commit) if base else maker.make_bundle(commit)
            text = json.dumps(self.encode(bundle), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
            return {"status": 200, "body": text.encode()}
        finally:
            repo.close()
