"""Two nodes on one host may share nothing that either of them owns."""

from __future__ import annotations

import ipaddress

import pytest

from e2e.cluster import layout

OWN = ["name", "ip", "bridge", "pod_net", "kubelet_port", "healthz_port", "cgroup", "folder", "run", "socket"]


@pytest.mark.parametrize("attribute", OWN)
def test_nodes_differ(attribute: str) -> None:
    assert len({getattr(node, attribute) for node in layout.NODES}) == len(layout.NODES)


def test_addresses_lie_in_the_ranges_they_belong_to() -> None:
    cluster = ipaddress.ip_network(layout.CLUSTER_NET)
    for net in (layout.POD_NET, layout.SERVICE_NET, layout.HOST_NET):
        assert ipaddress.ip_network(net).subnet_of(cluster)
    assert cluster.subnet_of(ipaddress.ip_network("100.64.0.0/10"))  # RFC 6598, nobody's hosts
    for node in layout.NODES:
        assert ipaddress.ip_network(node.pod_net).subnet_of(ipaddress.ip_network(layout.POD_NET))
        assert ipaddress.ip_address(node.ip) in ipaddress.ip_network(layout.HOST_NET)


def test_device_names_fit_the_kernel() -> None:
    assert all(len(name) <= 15 for name in [layout.HOST_BRIDGE, *(node.bridge for node in layout.NODES)])


def test_socket_paths_fit_the_kernel() -> None:
    assert all(len(str(node.socket)) < 90 for node in layout.NODES)


def test_unknown_nodes_are_named_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="unknown node 'node-3'; the cluster has node-1, node-2"):
        layout.node("node-3")
