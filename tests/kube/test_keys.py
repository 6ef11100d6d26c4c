from finetune_operator.kube.keys import Key, deployment_key, job_key, key_of, owner_key
from tests.kube.builders import batch_job, engine_pod, finetunejob, modeldeployment, node, served


def test_an_object_and_its_children_have_one_key() -> None:
    key = job_key("team", "bot")
    assert key == Key("FineTuneJob", "team", "bot") == key_of(finetunejob()) == owner_key(batch_job())
    assert key.ref == ("team", "bot")
    assert str(key) == "FineTuneJob team/bot"


def test_a_label_says_which_kind() -> None:
    key = deployment_key("team", "chat")
    assert key == Key("ModelDeployment", "team", "chat") == key_of(modeldeployment())
    assert owner_key(served("Job", "chat-verify-x")) == key
    assert owner_key(engine_pod()) == key


def test_what_carries_no_label_belongs_to_nobody() -> None:
    assert owner_key(node()) is None
