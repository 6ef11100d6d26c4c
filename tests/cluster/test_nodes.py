"""What two kubelets on one host must be told, and which mounts belong to a node."""

from __future__ import annotations

from pathlib import Path

import pytest

from e2e.cluster import layout, nodes
from e2e.cluster.control_plane import ControlPlane
from e2e.cluster.pki import Authority

MOUNTS = r"""22 1 8:1 / / rw - ext4 /dev/vda rw
30 22 0:30 / /state/node-1/kubelet/pods/a/volumes/tmp rw - tmpfs tmpfs rw
31 30 0:31 / /state/node-1/kubelet/pods/a/volumes/tmp/with\040space rw - tmpfs tmpfs rw
32 22 0:32 / /state/node-10/kubelet rw - tmpfs tmpfs rw
33 22 0:33 / /other rw - tmpfs tmpfs rw
"""


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> ControlPlane:
    folder = tmp_path_factory.mktemp("plane")
    return ControlPlane(folder, Authority(folder / "pki"), advertise=layout.HOST_IP)


def test_mounts_below_are_innermost_first_and_no_neighbours() -> None:
    assert nodes.mounts_below(Path("/state/node-1"), MOUNTS) == [
        "/state/node-1/kubelet/pods/a/volumes/tmp/with space",
        "/state/node-1/kubelet/pods/a/volumes/tmp",
    ]


@pytest.mark.parametrize("field", ["address", "port", "healthzPort", "cgroupRoot", "podLogsDir", "tlsCertFile"])
def test_kubelets_share_nothing(plane: ControlPlane, field: str) -> None:
    configs = [nodes.kubelet_config(node, plane) for node in layout.NODES]
    assert configs[0][field] != configs[1][field]


def test_a_kubelet_neither_deletes_images_nor_looks_outside(plane: ControlPlane) -> None:
    config = nodes.kubelet_config(layout.NODES[0], plane)
    assert config["imageGCHighThresholdPercent"] == 100
    assert config["resolvConf"] == "/dev/null"


def test_the_lease_outlives_no_grace_period(plane: ControlPlane) -> None:
    """A kubelet renews every quarter of its lease; the controller-manager waits for several renewals."""
    lease = nodes.kubelet_config(layout.NODES[0], plane)["nodeLeaseDurationSeconds"]
    grace = next(f for f in plane.controller_manager() if f.startswith("--node-monitor-grace-period="))
    assert isinstance(lease, int)
    assert int(grace.partition("=")[2].removesuffix("s")) > lease


def test_pods_keep_their_addresses_between_nodes() -> None:
    """Masquerading would hide which pod talks, and nothing leaves the host anyway."""
    bridge = nodes.cni_config(layout.NODES[0])["plugins"][0]  # type: ignore[index]
    assert "ipMasq" not in bridge
    assert bridge["ipam"]["ranges"] == [[{"subnet": layout.NODES[0].pod_net}]]


def test_the_api_server_authorizes_nodes_and_is_named_by_all_its_addresses(plane: ControlPlane) -> None:
    command = plane.apiserver()
    assert "--authorization-mode=Node,RBAC" in command
    assert f"--advertise-address={layout.HOST_IP}" in command
