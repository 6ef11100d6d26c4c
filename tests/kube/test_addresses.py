import pytest

from finetune_operator.kube.addresses import NotAPod, pod_host


@pytest.mark.parametrize(("ip", "host"), [("10.0.0.1", "10.0.0.1"), ("fd00::1", "[fd00::1]")])
def test_a_pods_address(ip: str, host: str) -> None:
    assert pod_host(ip) == host


@pytest.mark.parametrize("ip", ["127.0.0.1", "::1", "169.254.169.254", "fe80::1", "224.0.0.1", "0.0.0.0", "", "a.b"])
def test_nobody_elses(ip: str) -> None:
    with pytest.raises(NotAPod):
        pod_host(ip)


def test_loopback_only_where_it_is_allowed() -> None:
    assert pod_host("127.0.0.1", allow_loopback=True) == "127.0.0.1"
    with pytest.raises(NotAPod):
        pod_host("169.254.169.254", allow_loopback=True)
