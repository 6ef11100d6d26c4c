from __future__ import annotations

from typing import Any

from finetune_api.serveconfig import FetchReport, VerifyReport
from finetune_operator.core.reports import read_report

TEXT = '{"exitCode": 66, "reason": "Digest", "message": "it differs", "at": "2026-01-01T12:00:00Z", "new": 1}'


def pod(**groups: Any) -> dict[str, Any]:
    return {"metadata": {"name": "p"}, "status": groups}


def ended(text: str, name: str = "main", state: str = "state") -> dict[str, Any]:
    return {"name": name, state: {"terminated": {"exitCode": 66, "message": text}}}


def test_the_termination_message_is_the_report() -> None:
    report = read_report(pod(containerStatuses=[ended(TEXT)]), VerifyReport)
    assert report is not None
    assert (report.exit_code, report.reason, report.message) == (66, "Digest", "it differs")


def test_the_run_before_the_present_one_counts_too() -> None:
    entry = {"name": "fetch", "state": {"waiting": {"reason": "CrashLoopBackOff"}}}
    assert read_report(pod(initContainerStatuses=[entry]), FetchReport, container="fetch") is None
    entry |= ended(TEXT, "fetch", "lastState")
    report = read_report(pod(initContainerStatuses=[entry]), FetchReport, container="fetch")
    assert report is not None
    assert report.reason == "Digest"


def test_the_newest_of_two_reports_is_read() -> None:
    old = TEXT.replace("Digest", "Older")
    both = ended(TEXT) | ended(old, state="lastState")
    report = read_report(pod(containerStatuses=[both]), VerifyReport)
    assert report is not None
    assert report.reason == "Digest"


def test_other_containers_and_other_words_are_no_report() -> None:
    assert read_report(pod(containerStatuses=[ended(TEXT, "sidecar")]), VerifyReport) is None
    for text in ("", "Traceback …", "{}", "[1]"):
        assert read_report(pod(containerStatuses=[ended(text)]), VerifyReport) is None
    assert read_report({"metadata": {}}, VerifyReport) is None
    assert read_report(pod(containerStatuses=None), VerifyReport) is None
