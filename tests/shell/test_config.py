import pytest

from finetune_operator.shell.config import ConfigError, load

REQUIRED = {
    "FINETUNE_NAMESPACE": "finetune-system",
    "FINETUNE_TRAINER_IMAGE": "trainer:1",
    "FINETUNE_SMALL_IMAGE": "small:1",
}


def test_the_environment_is_enough() -> None:
    options = load([], {**REQUIRED, "FINETUNE_ARTIFACTS_URI": "s3://models/runs/", "KUBECONFIG": "/k"})
    assert options.namespace == "finetune-system"
    assert options.artifacts_uri == "s3://models/runs"
    assert (options.listen_host, options.listen_port) == ("0.0.0.0", 8080)
    assert options.network_policies is True
    assert options.kubeconfig == "/k"
    assert options.identity
    config = options.plan_config(b"k" * 32)
    assert (config.trainer_image, config.small_image, config.installation_key) == ("trainer:1", "small:1", b"k" * 32)


def test_where_models_are_served() -> None:
    env = {
        "FINETUNE_SERVING_IMAGE": "vllm:1",
        "FINETUNE_GATEWAY": "finetune-system/main",
        "FINETUNE_GATEWAY_DOMAIN": "models.example.com",
        "FINETUNE_POLICY_HOSTNAMES": "*.{namespace}.models.example.com, {namespace}-x.example.com,chat.example.com,",
    }
    config = load([], {**REQUIRED, **env}).plan_config(b"k" * 32, gateway_api=False)
    assert (config.serving_image, config.gateway) == ("vllm:1", "finetune-system/main")
    assert config.gateway_domain == "models.example.com"
    assert config.hostname_patterns == (
        "*.{namespace}.models.example.com",
        "{namespace}-x.example.com",
        "chat.example.com",
    )
    assert config.gateway_api is False
    assert load(["--policy-hostnames", "*"], REQUIRED).policy_hostnames == ("*",)
    without = load([], REQUIRED).plan_config(b"k" * 32)
    assert (without.serving_image, without.gateway, without.gateway_domain) == ("", "", "")
    assert without.hostname_patterns == ()


def test_flags_win() -> None:
    flags = ["--namespace", "mine", "--workers", "4", "--no-network-policies", "--listen", "127.0.0.1:0"]
    options = load(flags, {**REQUIRED, "FINETUNE_WORKERS": "9", "FINETUNE_NETWORK_POLICIES": "true"})
    assert (options.namespace, options.workers, options.network_policies) == ("mine", 4, False)
    assert (options.listen_host, options.listen_port) == ("127.0.0.1", 0)


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ({"FINETUNE_TRAINER_IMAGE": ""}, ["--trainer-image", "FINETUNE_TRAINER_IMAGE", "not set", "an image"]),
        ({"FINETUNE_NAMESPACE": "Bad Name"}, ["--namespace", "'Bad Name'", "lower-case"]),
        ({"FINETUNE_ARTIFACTS_URI": "http://x"}, ["--artifacts-uri", "'http://x'", "s3://bucket/path"]),
        ({"FINETUNE_WORKERS": "many"}, ["--workers", "'many'", "from 1 to 256"]),
        ({"FINETUNE_WORKERS": "0"}, ["--workers", "'0'", "from 1 to 256"]),
        ({"FINETUNE_RESYNC_SECONDS": "nan"}, ["--resync-seconds", "'nan'"]),
        ({"FINETUNE_IMAGE_PULL_POLICY": "Sometimes"}, ["'Sometimes'", "IfNotPresent"]),
        ({"FINETUNE_NETWORK_POLICIES": "maybe"}, ["'maybe'", "true or false"]),
        ({"FINETUNE_LISTEN": "8080"}, ["--listen", "'8080'", "0.0.0.0:8080"]),
        ({"FINETUNE_LOG_LEVEL": "loud"}, ["'loud'", "debug, info"]),
        ({"FINETUNE_GATEWAY": "main"}, ["--gateway", "'main'", "namespace/name", "traffic/main"]),
        ({"FINETUNE_GATEWAY": "a/b/c"}, ["'a/b/c'", "namespace/name"]),
        ({"FINETUNE_GATEWAY_DOMAIN": "*.example.com"}, ["--gateway-domain", "'*.example.com'", "models.example.com"]),
        ({"FINETUNE_GATEWAY_DOMAIN": "Example.com"}, ["'Example.com'"]),
        ({"FINETUNE_POLICY_HOSTNAMES": "a.example.com, https://b"}, ["--policy-hostnames", "'https://b'"]),
        ({"FINETUNE_POLICY_HOSTNAMES": "a.*.example.com"}, ["'a.*.example.com'", "the first label may be *"]),
        ({"FINETUNE_POLICY_HOSTNAMES": "*.{tenant}.example.com"}, ["{tenant}", "{namespace}"]),
    ],
)
def test_wrong_settings_are_told_in_words(env: dict[str, str], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load([], {**REQUIRED, **env})
    for word in words:
        assert word in str(caught.value)


def test_help_has_examples_and_the_environment(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        load(["--help"], {})
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    assert "examples:" in shown
    assert "FINETUNE_ARTIFACTS_URI" in shown
