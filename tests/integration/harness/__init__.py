"""What the end-to-end tests are built from. Start with conftest.py's fixtures: opald, reference, kafka, topic, opal_client, source."""

from .http import HttpConnection, Response, build_request, http_bytes, http_request, is_healthy
from .kafka import KafkaBroker, kcat
from .opal_client import DataSource, OpalClient, opal_client_command
from .paths import OPALD, SANITIZER, SCALE, VENV, scaled
from .policy_remote import GitDaemon, GitHttp, PolicyRemote, Sshd, git
from .ports import free_port
from .process import Process, child_pids, clean_environment, freeze, group_pids, process_state, wait_until
from .raw_client import Notify, RawClient, close_all, connect_many, expect_all
from .servers import Opald, Reference
from .wire import WireClient, frame, handshake_request
