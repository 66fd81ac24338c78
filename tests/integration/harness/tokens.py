"""Keys and tokens for the tests of authentication, made by the libraries that the reference uses."""

import base64
import hashlib
import hmac
import json
import time
import uuid
from dataclasses import dataclass

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

AUDIENCE, ISSUER = "https://api.opal.ac/v1/", "https://opal.ac/"
MASTER = "the-master-token_of-the-tests"

KINDS = {
    "rsa": lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048),
    "p256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "p521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "k256": lambda: ec.generate_private_key(ec.SECP256K1()),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
    "ed448": ed448.Ed448PrivateKey.generate,
}


def without_padding(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@dataclass
class KeyPair:
    private: object

    @classmethod
    def make(cls, kind: str = "rsa") -> "KeyPair":
        return cls(KINDS[kind]())

    def private_bytes(self, key_format: str = "pem", passphrase: str | None = None, traditional: bool = False) -> bytes:
        encryption = serialization.BestAvailableEncryption(passphrase.encode()) if passphrase else serialization.NoEncryption()
        encoding = serialization.Encoding.DER if key_format == "der" else serialization.Encoding.PEM
        inner = serialization.PrivateFormat.OpenSSH if key_format == "ssh" else \
            serialization.PrivateFormat.TraditionalOpenSSL if traditional else serialization.PrivateFormat.PKCS8
        return self.private.private_bytes(encoding, inner, encryption)

    def public_bytes(self, key_format: str = "ssh", pkcs1: bool = False) -> bytes:
        encoding = {"ssh": serialization.Encoding.OpenSSH, "pem": serialization.Encoding.PEM, "der": serialization.Encoding.DER}[key_format]
        inner = serialization.PublicFormat.OpenSSH if key_format == "ssh" else \
            serialization.PublicFormat.PKCS1 if pkcs1 else serialization.PublicFormat.SubjectPublicKeyInfo
        return self.private.public_key().public_bytes(encoding, inner)

    def environment(self, **more) -> dict:
        """For a server in secure mode, the key as text with underscores as deployments have it."""
        return {"OPAL_AUTH_PRIVATE_KEY": self.private_bytes().decode().replace("\n", "_"), "OPAL_AUTH_PUBLIC_KEY": self.public_bytes().decode(),
                "OPAL_AUTH_MASTER_TOKEN": MASTER, **more}

    def token(self, peer_type: str | None = "client", algorithm: str = "RS256", headers: dict | None = None, drop=(), **claims) -> str:
        """A good token, with claims of one's own over it; `drop` names claims to leave out."""
        now = int(time.time())
        payload = {"iat": now, "exp": now + 3600, "aud": AUDIENCE, "iss": ISSUER, "sub": uuid.uuid4().hex, "peer_type": peer_type, **claims}
        if peer_type is None:
            del payload["peer_type"]
        for name in drop:
            payload.pop(name, None)
        return self.sign_text(json.dumps(payload), {"alg": algorithm, "typ": "JWT", **(headers or {})}, algorithm)

    def sign_text(self, payload, header=None, algorithm: str = "RS256") -> str:
        """Signs any text as the payload under any header."""
        header = header if header is not None else {"alg": algorithm, "typ": "JWT"}
        head = header if isinstance(header, bytes) else json.dumps(header).encode()
        body = payload if isinstance(payload, bytes) else payload.encode("utf-8", "surrogatepass")
        signed = f"{without_padding(head)}.{without_padding(body)}"
        signature = jwt.get_algorithm_by_name(algorithm).sign(signed.encode(), self.private)
        return f"{signed}.{without_padding(signature)}"

    def hmac_token(self, secret: bytes, **claims) -> str:
        """The classic forgery: HS256 with the public key for a secret."""
        now = int(time.time())
        payload = {"iat": now, "exp": now + 3600, "aud": AUDIENCE, "iss": ISSUER, "sub": uuid.uuid4().hex, "peer_type": "datasource", **claims}
        signed = f'{without_padding(json.dumps({"alg": "HS256", "typ": "JWT"}).encode())}.{without_padding(json.dumps(payload).encode())}'
        return f"{signed}.{without_padding(hmac.new(secret, signed.encode(), hashlib.sha256).digest())}"

    def none_token(self, alg: str = "none", **claims) -> str:
        payload = {"aud": AUDIENCE, "iss": ISSUER, "sub": uuid.uuid4().hex, "peer_type": "datasource", **claims}
        return f'{without_padding(json.dumps({"alg": alg, "typ": "JWT"}).encode())}.{without_padding(json.dumps(payload).encode())}.'


def bearer(token: str) -> dict:
    return {"Authorization": f"Bearer {token}"}
