"""Tests of etcd's endpoints: addresses, TLS, and refusals that show no password."""

from __future__ import annotations

import pytest

from taskd.coordination.endpoints import Endpoint, parse, reach
from taskd.domain.errors import ConfigurationError
from taskd.settings import EtcdSettings


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
    assert parse(text) == [Endpoint(address) for address in addresses]


def test_https_makes_an_endpoint_secure() -> None:
    assert parse("https://a:1,http://a:1,b:2") == [Endpoint("a:1", secure=True), Endpoint("a:1"), Endpoint("b:2")]


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        (EtcdSettings(endpoints="a:1", ca_file="ca.pem"), "no endpoint has it"),
        (EtcdSettings(endpoints="https://a:1", ca_file="/nowhere/ca.pem"), "ca_file: /nowhere/ca.pem: No such file"),
        (EtcdSettings(endpoints="https://a:1", cert_file="one.pem"), "key_file is missing"),
        (EtcdSettings(endpoints="https://a:1", key_file="one.key"), "cert_file is missing"),
    ],
)
def test_files_for_tls_that_cannot_be_used_are_refused(settings: EtcdSettings, complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        reach(settings)


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
