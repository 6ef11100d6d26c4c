from finetune_operator.kube.keys import Key, job_key, key_of, owner_key
from tests.kube.builders import batch_job, finetunejob, node


def test_an_object_and_its_children_have_one_key() -> None:
    key = job_key("team", "bot")
    assert key == Key("FineTuneJob", "team", "bot") == key_of(finetunejob()) == owner_key(batch_job())
    assert key.ref == ("team", "bot")
    assert str(key) == "FineTuneJob team/bot"


def test_what_carries_no_label_belongs_to_nobody() -> None:
    assert owner_key(node()) is None
