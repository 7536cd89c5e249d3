from __future__ import annotations

import pytest

from taskd.coordination.endpoints import parse
from taskd.domain.errors import ConfigurationError


@pytest.mark.parametrize(
    ("text", "addresses"),
    [
        ("localhost:2379", ["localhost:2379"]),
        ("http://localhost:2379", ["localhost:2379"]),
        ("http://localhost:2379/", ["localhost:2379"]),
        (" a:1, b:2 ,,a:1,", ["a:1", "b:2"]),
        ("[::1]:2379", ["[::1]:2379"]),
        ("http://[fe80::2]:2379", ["[fe80::2]:2379"]),
    ],
)
def test_endpoints_are_addresses_in_order_without_doubles(text: str, addresses: list[str]) -> None:
    assert parse(text) == addresses


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "is empty"),
        (" , ", "is empty"),
        ("localhost", "host or port is missing"),
        (":2379", "host or port is missing"),
        ("localhost:0", "host or port is missing"),
        ("localhost:99999", "port is no number"),
        ("localhost:etcd", "port is no number"),
        ("https://localhost:2379", "TLS to etcd is not supported"),
        ("unix:///run/etcd", "is no HOST:PORT"),
        ("http://localhost:2379/v3", "is no HOST:PORT"),
        ("http://[::1:2379", "is no HOST:PORT"),
    ],
)
def test_a_wrong_endpoint_is_refused_with_its_reason(text: str, complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint) as caught:
        parse(text)
    assert "section [etcd], key 'endpoints'" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_refused_password_is_not_repeated() -> None:
    with pytest.raises(ConfigurationError, match="password is not supported") as caught:
        parse("http://root:hunter2@localhost:2379")
    assert "hunter2" not in str(caught.value)
