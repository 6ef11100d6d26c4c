import pytest

from finetune_operator.shell.main import main


def test_wrong_settings_end_with_words_and_code_2(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FINETUNE_TRAINER_IMAGE", raising=False)
    assert main(["--namespace", "finetune-system"]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("finetune-operator: --trainer-image (or FINETUNE_TRAINER_IMAGE) is not set")
    assert "Traceback" not in shown
