"""Tests of the keys in etcd: prefixes, names and leases."""

from __future__ import annotations

from taskd.coordination.keys import EtcdKeys, own


def test_keys_lie_under_the_prefix_with_or_without_its_slash() -> None:
    assert EtcdKeys("/taskd").election(0) == EtcdKeys("/taskd/").election(0) == "/taskd/election/"
    assert EtcdKeys("/taskd").election(2) == EtcdKeys("/taskd/").election(2) == "/taskd/elections/2/"


def test_a_slash_in_a_name_opens_no_folder_of_its_own() -> None:
    keys = EtcdKeys("/taskd")
    assert not keys.lock("a/b").startswith(keys.lock("a"))
    assert not keys.member("worker", "a/b").startswith(keys.member("worker", "a"))


def test_no_two_names_share_a_folder() -> None:
    keys = EtcdKeys("/taskd")
    assert len({keys.lock(name) for name in ("a/b", "a%2Fb", "a b", "ä", "a")}) == 5


def test_a_key_names_its_lease_and_its_number() -> None:
    assert own("/taskd/election/", 255, 3) == "/taskd/election/00000000000000ff-3"
